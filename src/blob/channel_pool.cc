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
  return !taken.load(std::memory_order_relaxed) && !taken.exchange(true, std::memory_order_acquire);
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
  Slot& at = slots_[slot];
  const auto ops = [&](Op op) { return stats.ops[static_cast<unsigned>(op)]; };
  at.reads.store(ops(Op::read), std::memory_order_relaxed);
  at.writes.store(ops(Op::write), std::memory_order_relaxed);
  at.flushes.store(ops(Op::flush), std::memory_order_relaxed);
  at.read_bytes.store(stats.read_bytes, std::memory_order_relaxed);
  at.written_bytes.store(stats.written_bytes, std::memory_order_relaxed);
  slots_[slot].taken.store(false);
  if (waiting_.load() == 0) return;
  MutexLock lock(mutex_);
  returned_.notify_one();
}

ChannelTotals ChannelPool::totals() {
  ChannelTotals sum;
  for (unsigned i = 0; i < opened_.load(std::memory_order_acquire); ++i) {
    const Slot& one = slots_[i];
    sum.reads += one.reads.load(std::memory_order_relaxed);
    sum.writes += one.writes.load(std::memory_order_relaxed);
    sum.flushes += one.flushes.load(std::memory_order_relaxed);
    sum.read_bytes += one.read_bytes.load(std::memory_order_relaxed);
    sum.written_bytes += one.written_bytes.load(std::memory_order_relaxed);
  }
  return sum;
}

}  // namespace basalt::blob
