#include "blob/channel_pool.h"

#include "base/check.h"

namespace basalt::blob {

ChannelPool::ChannelPool(Device& device, unsigned max_channels)
    : device_(device), slots_(max_channels == 0 ? 1 : max_channels) {}

ChannelPool::Lease::~Lease() {
  if (pool_ != nullptr) pool_->give_back(slot_);
}

Channel& ChannelPool::Lease::operator*() const { return *pool_->slots_[slot_].channel; }

// Acquire pairs with the release in give_back: the channel's state comes with the slot.
bool ChannelPool::try_take(unsigned slot) {
  std::atomic<bool>& taken = slots_[slot].taken;
  return !taken.load(std::memory_order_relaxed) &&
         !taken.exchange(true, std::memory_order_acquire);
}

Result<ChannelPool::Lease> ChannelPool::lease() {
  const unsigned opened = opened_.load(std::memory_order_acquire);
  const unsigned start = opened == 0 ? 0 : current_core() % opened;
  for (unsigned n = 0; n < opened; ++n) {
    const unsigned slot = (start + n) % opened;
    if (try_take(slot)) return Lease(this, slot);
  }
  MutexLock lock(mutex_);
  while (true) {
    // A slot given back from here on is seen: give_back looks at waiting_ after clearing `taken`.
    waiting_.fetch_add(1);
    const unsigned count = opened_.load(std::memory_order_relaxed);
    for (unsigned slot = 0; slot < count; ++slot) {
      if (!slots_[slot].taken.exchange(true)) {
        waiting_.fetch_sub(1);
        return Lease(this, slot);
      }
    }
    if (count < slots_.size()) {
      auto channel = device_.open_channel();
      if (channel) {
        waiting_.fetch_sub(1);
        slots_[count].channel = std::move(*channel);
        slots_[count].taken.store(true, std::memory_order_relaxed);
        opened_.store(count + 1, std::memory_order_release);
        return Lease(this, count);
      }
      if (count == 0) {
        waiting_.fetch_sub(1);
        return error(channel.error());
      }
    }
    returned_.wait(lock);
    waiting_.fetch_sub(1);
  }
}

void ChannelPool::give_back(unsigned slot) {
  const ChannelStats& stats = slots_[slot].channel->stats();
  ChannelTotals& totals = slots_[slot].totals;
  const auto ops = [&](Op op) { return stats.ops[static_cast<unsigned>(op)]; };
  totals.reads = ops(Op::read);
  totals.writes = ops(Op::write);
  totals.flushes = ops(Op::flush);
  totals.read_bytes = stats.read_bytes;
  totals.written_bytes = stats.written_bytes;
  slots_[slot].taken.store(false);
  if (waiting_.load() == 0) return;
  MutexLock lock(mutex_);
  returned_.notify_one();
}

ChannelTotals ChannelPool::totals() {
  ChannelTotals sum;
  for (unsigned i = 0; i < opened_.load(std::memory_order_acquire); ++i) {
    const ChannelTotals& one = slots_[i].totals;
    sum.reads += one.reads;
    sum.writes += one.writes;
    sum.flushes += one.flushes;
    sum.read_bytes += one.read_bytes;
    sum.written_bytes += one.written_bytes;
  }
  return sum;
}

}  // namespace basalt::blob
