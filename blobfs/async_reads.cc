#include "blobfs/async_reads.h"

#include "base/try.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"

#include <algorithm>
#include <cstring>

namespace basalt::blobfs {

// A channel and whether somebody uses it at the moment.
struct AsyncReads::Lane {
  std::unique_ptr<Channel> channel;
  bool in_use = false;
  unsigned outstanding = 0;  // reads, not Ios; guarded by mutex_
};

// A started read. Its Ios belong to the lane's channel until `left` is 0; `left` and `code` are changed
// only by the lane's user.
struct AsyncReads::Pending {
  struct Part {
    Io io;
    iovec vector{};
  };
  AsyncReads* reads = nullptr;
  Lane* lane = nullptr;
  InodeRef inode;                  // not of a fill: its owner has one
  OpenInode* file = nullptr;       // whose bytes are read
  const void* fill_for = nullptr;  // a fill: its owner
  blob::Blob* blob = nullptr;
  blob::IoGate::Token token{};
  IoBuffers::Lease buffer;
  std::vector<std::unique_ptr<Part>> parts;  // kept for reuse
  size_t part_count = 0;
  size_t left = 0;
  bool complete = false;  // guarded by mutex_
  StatusCode code = StatusCode::ok;
  Status status;
  uint64_t begin = 0;  // of the aligned range on the device
  uint64_t length = 0;
  uint64_t generation = 0;
  uint64_t offset = 0;        // of `rest` in the file
  std::span<std::byte> rest;  // still to come from the device
};

AsyncReads::AsyncReads(Core& core) : core_(core) {}
AsyncReads::~AsyncReads() = default;

AsyncReads::Pending* AsyncReads::take_pending() {
  const MutexLock lock(mutex_);
  if (free_.empty()) return new Pending;
  Pending* pending = free_.back().release();
  free_.pop_back();
  return pending;
}

void AsyncReads::give_back(Pending* pending) {
  pending->inode.reset();
  pending->file = nullptr;
  pending->fill_for = nullptr;
  pending->buffer = {};
  pending->status = {};
  pending->code = StatusCode::ok;
  pending->complete = false;
  pending->rest = {};
  const MutexLock lock(mutex_);
  free_.emplace_back(pending);
}

// The read's last Io: counted under the mutex by the lane's user, once he is back from the channel.
void AsyncReads::on_done(Io& io) {
  Pending& pending = *static_cast<Pending*>(io.user);
  if (io.status != StatusCode::ok && pending.code == StatusCode::ok) pending.code = io.status;
  if (--pending.left > 0) return;
  AsyncReads& reads = *pending.reads;
  const bool is_fill = pending.fill_for != nullptr;
  if (is_fill && pending.code == StatusCode::ok) reads.keep_pages(pending);
  {
    const MutexLock lock(reads.mutex_);
    pending.blob->gate().leave(pending.token);
    --pending.lane->outstanding;
    if (is_fill) std::erase(reads.fills_, &pending);
    pending.file->reads_in_flight.fetch_sub(1);
    pending.complete = true;
  }
  if (is_fill) reads.give_back(&pending);
}

void AsyncReads::keep_pages(const Pending& pending) {
  core_.cache.insert(pending.file->id, pending.begin / kBlock, pending.buffer.first(pending.length),
                     pending.file->cache_generation, pending.generation);
}

AsyncReads::Lane* AsyncReads::lane_for_submit(MutexLock& lock) {
  while (true) {
    Lane* best = nullptr;
    for (auto& lane : lanes_) {
      if (!lane->in_use && (best == nullptr || lane->outstanding < best->outstanding))
        best = lane.get();
    }
    if (best != nullptr) return best;
    if (lanes_.size() < kMaxLanes) {
      auto channel = core_.store.device().open_channel();
      if (channel) {
        lanes_.push_back(std::make_unique<Lane>());
        lanes_.back()->channel = std::move(*channel);
        return lanes_.back().get();
      }
      if (lanes_.empty()) return nullptr;
    }
    changed_.wait(lock);
  }
}

// Builds and sends the Ios for [offset, offset + length) of the blob; zeros what is not on the device.
AsyncReads::Submitted AsyncReads::submit(Pending& pending, blob::Blob& blob, uint64_t offset,
                                         size_t length) {
  pending.token = blob.gate().enter();
  pending.blob = &blob;
  pending.part_count = 0;
  uint64_t filled = offset;  // what lies between mapped, written pieces reads as zeros
  const auto zero_up_to = [&](uint64_t end) {
    std::memset(pending.buffer.span().data() + (filled - offset), 0, end - filled);
  };
  const uint64_t unit = core_.device_block_bytes;
  const uint64_t first = offset / kBlock, last = round_up(offset + length, kBlock) / kBlock;
  for (const blob::Extent& extent : core_.store.extents(blob, {first, last - first})) {
    if (extent.state == blob::ExtentState::unwritten) continue;
    const uint64_t from = std::max(extent.logical * kBlock, offset);
    const uint64_t to = std::min(extent.end() * kBlock, offset + length);
    if (from >= to) continue;
    zero_up_to(from);
    filled = to;
    if (pending.part_count == pending.parts.size()) {
      pending.parts.push_back(std::make_unique<Pending::Part>());
    }
    Pending::Part& part = *pending.parts[pending.part_count++];
    part.vector = {pending.buffer.span().data() + (from - offset), to - from};
    part.io = Io{};
    part.io.op = Op::read;
    part.io.lba = Lba{(extent.physical * kBlock + (from - extent.logical * kBlock)) / unit};
    part.io.block_count = BlockCount{(to - from) / unit};
    part.io.data = {&part.vector, 1};
    part.io.done = &AsyncReads::on_done;
    part.io.user = &pending;
  }
  zero_up_to(offset + length);
  MutexLock lock(mutex_);
  Lane* lane = pending.part_count == 0 ? nullptr : lane_for_submit(lock);
  if (lane == nullptr) {
    blob.gate().leave(pending.token);
    return pending.part_count == 0 ? Submitted::nothing_to_send : Submitted::refused;
  }
  pending.lane = lane;
  pending.left = pending.part_count;
  pending.file->reads_in_flight.fetch_add(1);
  if (pending.fill_for != nullptr) fills_.push_back(&pending);
  ++lane->outstanding;
  lane->in_use = true;
  lock.unlock();
  // A fill may be complete, given back and in use for another read once its last part is submitted.
  const size_t count = pending.part_count;
  for (size_t i = 0; i < count; ++i) lane->channel->submit(pending.parts[i]->io);
  lane->channel->poll();
  lock.lock();
  lane->in_use = false;
  changed_.notify_all();
  return Submitted::sent;
}

void AsyncReads::start(const InodeRef& inode, AsyncRead& read) {
  Pending* pending = take_pending();
  pending->reads = this;
  pending->inode = inode;
  pending->file = inode.get();
  read.impl = pending;
  read.done = false;
  read.length = 0;
  const uint64_t size = inode->size.load(std::memory_order_acquire);
  pending->complete = true;  // unless something has to come from the device
  if (read.offset >= size) return;
  read.length = std::min<uint64_t>(read.buffer.size(), size - read.offset);
  const auto out = read.buffer.first(read.length);
  const uint64_t device_end = read_tail(*inode, read.offset, out);
  uint64_t offset = read.offset;
  const bool cached = inode->kind == InodeKind::table && core_.cache.enabled();
  if (cached && device_end > offset) {
    offset += core_.cache.read(inode->id, offset, out.first(device_end - offset),
                               PageCache::Touch::reuse);
  }
  if (offset >= device_end) return;
  const auto rest = out.subspan(offset - read.offset, device_end - offset);
  Submitted submitted = Submitted::refused;
  {
    MutexLock lock(inode->mutex);
    const bool plain =
        inode->kind == InodeKind::table && !inode->no_async && inode->open_data(core_).ok();
    // Counted before the lock goes, so that drain() sees a read that is about to be sent.
    if (plain) inode->reads_in_flight.fetch_add(1);
    lock.unlock();
    if (plain) {
      const uint64_t unit = cached ? kBlock : core_.device_block_bytes;
      pending->begin = round_down(offset, unit);
      pending->length = round_up(device_end, unit) - pending->begin;
      pending->buffer = core_.buffers.take(pending->length);
      pending->generation = inode->cache_generation.load(std::memory_order_acquire);
      pending->offset = offset;
      pending->rest = rest;
      pending->complete = false;
      submitted = submit(*pending, *inode->blob, pending->begin, pending->length);
      inode->reads_in_flight.fetch_sub(1);
    }
  }
  if (submitted == Submitted::sent) return;
  pending->complete = true;
  if (submitted == Submitted::nothing_to_send) return;
  pending->rest = {};
  pending->status = read_device(core_, *inode, offset, rest);
}

AsyncReads::Pending* AsyncReads::find_fill(const OpenInode& inode, uint64_t page) {
  for (Pending* fill : fills_) {
    if (fill->file == &inode && page * kBlock - fill->begin < fill->length) return fill;
  }
  return nullptr;
}

uint64_t AsyncReads::skip_present(OpenInode& inode, uint64_t page, uint64_t last) {
  while (page < last) {
    if (core_.cache.contains(inode.id, page)) {
      ++page;
      continue;
    }
    const MutexLock lock(mutex_);
    const Pending* fill = find_fill(inode, page);
    if (fill == nullptr) return page;
    page = (fill->begin + fill->length) / kBlock;
  }
  return last;
}

uint64_t AsyncReads::end_of_gap(OpenInode& inode, uint64_t page, uint64_t last) {
  last = std::min(last, page + IoBuffers::kLargeBytes / kBlock);
  {
    const MutexLock lock(mutex_);
    for (const Pending* fill : fills_) {
      const uint64_t first = fill->begin / kBlock;
      if (fill->file == &inode && first > page) last = std::min(last, first);
    }
  }
  uint64_t end = page + 1;
  while (end < last && !core_.cache.contains(inode.id, end)) ++end;
  return end;
}

void AsyncReads::start_one_fill(OpenInode& inode, const void* owner, uint64_t page,
                                uint64_t count) {
  {
    // Counted before the lock goes, so that drain() sees a read that is about to be sent.
    const MutexLock lock(inode.mutex);
    if (inode.no_async || !inode.open_data(core_).ok()) return;
    inode.reads_in_flight.fetch_add(1);
  }
  Pending* fill = take_pending();
  fill->reads = this;
  fill->file = &inode;
  fill->fill_for = owner;
  fill->begin = page * kBlock;
  fill->length = count * kBlock;
  fill->buffer = core_.buffers.take(fill->length);
  fill->generation = inode.cache_generation.load(std::memory_order_acquire);
  const Submitted submitted = submit(*fill, *inode.blob, fill->begin, fill->length);
  if (submitted == Submitted::nothing_to_send) keep_pages(*fill);
  if (submitted != Submitted::sent) give_back(fill);
  inode.reads_in_flight.fetch_sub(1);
}

void AsyncReads::start_fill(OpenInode& inode, const void* owner, uint64_t offset, uint64_t end) {
  end = std::min(end, inode.tail_begin.load(std::memory_order_acquire));
  const uint64_t last = round_up(end, kBlock) / kBlock;
  uint64_t page = offset / kBlock;
  while ((page = skip_present(inode, page, last)) < last) {
    {
      const MutexLock lock(mutex_);
      if (fills_.size() >= kMaxFills) return;
    }
    const uint64_t gap_end = end_of_gap(inode, page, last);
    start_one_fill(inode, owner, page, gap_end - page);
    page = gap_end;
  }
}

bool AsyncReads::wait_for_fill(OpenInode& inode, uint64_t offset) {
  MutexLock lock(mutex_);
  Pending* fill = find_fill(inode, offset / kBlock);
  if (fill == nullptr) return false;
  // Given back, it may soon be another fill: what is waited for is the page, not the object.
  do {
    progress(lock, *fill->lane);
    fill = find_fill(inode, offset / kBlock);
  } while (fill != nullptr);
  return true;
}

void AsyncReads::finish_fills(const void* owner) {
  MutexLock lock(mutex_);
  while (true) {
    const auto fill =
        std::find_if(fills_.begin(), fills_.end(), [&](Pending* p) { return p->fill_for == owner; });
    if (fill == fills_.end()) return;
    progress(lock, *(*fill)->lane);
  }
}

void AsyncReads::progress(MutexLock& lock, Lane& lane) {
  if (lane.in_use) {
    // Its user completes for everybody; the timeout covers a user who only submitted.
    changed_.wait_for(lock, std::chrono::milliseconds(1));
    return;
  }
  lane.in_use = true;
  lock.unlock();
  lane.channel->wait(std::chrono::milliseconds(10));
  lock.lock();
  lane.in_use = false;
  changed_.notify_all();
}

void AsyncReads::hand_over(AsyncRead& read) {
  auto* pending = static_cast<Pending*>(read.impl);
  read.status = pending->status;
  if (pending->code != StatusCode::ok) {
    read.status = Status(pending->code, "table " + std::to_string(pending->inode->id) +
                                            ": read bytes at " + std::to_string(pending->offset));
  } else if (!pending->rest.empty()) {
    const auto raw = pending->buffer.first(pending->length);
    std::memcpy(pending->rest.data(), raw.data() + (pending->offset - pending->begin),
                pending->rest.size());
    if (core_.cache.enabled()) keep_pages(*pending);
  }
  if (!read.status.ok()) read.length = 0;
  read.impl = nullptr;
  read.done = true;
  give_back(pending);
}

Status AsyncReads::wait(std::span<AsyncRead* const> reads, size_t min_done) {
  min_done = std::min(min_done, reads.size());
  while (true) {
    size_t done = 0;
    Pending* unfinished = nullptr;
    for (AsyncRead* read : reads) {
      if (read->done) {
        ++done;
        continue;
      }
      auto* pending = static_cast<Pending*>(read->impl);
      if (pending == nullptr)
        return {StatusCode::invalid_argument, "wait_reads: a read was never started"};
      MutexLock lock(mutex_);
      if (pending->complete) {
        lock.unlock();
        hand_over(*read);
        ++done;
      } else {
        unfinished = pending;
      }
    }
    if (done >= min_done) return {};
    MutexLock lock(mutex_);
    if (!unfinished->complete) progress(lock, *unfinished->lane);
  }
}

void AsyncReads::cancel(AsyncRead& read) {
  if (read.done || read.impl == nullptr) return;
  auto* pending = static_cast<Pending*>(read.impl);
  MutexLock lock(mutex_);
  if (!pending->complete && !pending->lane->in_use) {
    Lane& lane = *pending->lane;
    lane.in_use = true;
    lock.unlock();
    for (size_t i = 0; i < pending->part_count && pending->left > 0; ++i) {
      lane.channel->cancel(pending->parts[i]->io);
    }
    lane.channel->poll();
    lock.lock();
    lane.in_use = false;
    changed_.notify_all();
  }
  while (!pending->complete) progress(lock, *pending->lane);
  lock.unlock();
  hand_over(read);
}

void AsyncReads::drain(OpenInode& inode) {
  MutexLock lock(mutex_);
  while (inode.reads_in_flight.load() != 0) {
    Lane* busiest = nullptr;
    for (auto& lane : lanes_) {
      if (lane->outstanding != 0 && !lane->in_use) busiest = lane.get();
    }
    if (busiest != nullptr) {
      progress(lock, *busiest);
    } else {
      changed_.wait_for(lock, std::chrono::milliseconds(1));
    }
  }
}

ChannelStats AsyncReads::stats() {
  MutexLock lock(mutex_);
  ChannelStats sum;
  for (auto& lane : lanes_) {
    while (lane->in_use) changed_.wait_for(lock, std::chrono::milliseconds(1));
    const ChannelStats& stats = lane->channel->stats();
    for (unsigned op = 0; op < kOpCount; ++op) sum.ops[op] += stats.ops[op];
    sum.read_bytes += stats.read_bytes;
    sum.written_bytes += stats.written_bytes;
  }
  return sum;
}

}  // namespace basalt::blobfs
