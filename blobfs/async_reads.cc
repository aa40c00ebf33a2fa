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
  AsyncReads* owner = nullptr;
  Lane* lane = nullptr;
  InodeRef inode;
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
  const MutexLock lock(pending.owner->mutex_);
  pending.blob->gate().leave(pending.token);
  pending.inode->reads_in_flight.fetch_sub(1);
  pending.complete = true;
  --pending.lane->outstanding;
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

// Builds and sends the Ios for [offset, offset + length) of the blob; false when nothing was sent and
// the caller has to read by himself.
bool AsyncReads::submit(Pending& pending, blob::Blob& blob, uint64_t offset, size_t length) {
  pending.token = blob.gate().enter();
  pending.blob = &blob;
  std::memset(pending.buffer.span().data(), 0, length);  // what is unmapped or unwritten
  pending.part_count = 0;
  const uint64_t unit = core_.device_block_bytes;
  const uint64_t first = offset / kBlock, last = round_up(offset + length, kBlock) / kBlock;
  for (const blob::Extent& extent : core_.store.extents(blob, {first, last - first})) {
    if (extent.state == blob::ExtentState::unwritten) continue;
    const uint64_t from = std::max(extent.logical * kBlock, offset);
    const uint64_t to = std::min(extent.end() * kBlock, offset + length);
    if (from >= to) continue;
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
  MutexLock lock(mutex_);
  Lane* lane = pending.part_count == 0 ? nullptr : lane_for_submit(lock);
  if (lane == nullptr) {
    blob.gate().leave(pending.token);
    pending.complete = pending.part_count == 0;
    return pending.complete;
  }
  pending.lane = lane;
  pending.left = pending.part_count;
  pending.inode->reads_in_flight.fetch_add(1);
  ++lane->outstanding;
  lane->in_use = true;
  lock.unlock();
  for (size_t i = 0; i < pending.part_count; ++i) lane->channel->submit(pending.parts[i]->io);
  lane->channel->poll();
  lock.lock();
  lane->in_use = false;
  changed_.notify_all();
  return true;
}

void AsyncReads::start(const InodeRef& inode, AsyncRead& read) {
  Pending* pending = take_pending();
  pending->owner = this;
  pending->inode = inode;
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
  bool sent = false;
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
      sent = submit(*pending, *inode->blob, pending->begin, pending->length);
      inode->reads_in_flight.fetch_sub(1);
    }
  }
  if (sent) return;
  pending->rest = {};
  pending->status = read_device(core_, *inode, offset, rest);
  pending->complete = true;
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
    if (core_.cache.enabled()) {
      core_.cache.insert(pending->inode->id, pending->begin / kBlock, raw,
                         pending->inode->cache_generation, pending->generation);
    }
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
