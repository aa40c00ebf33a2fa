#include "blobfs/async_reads.h"

#include "base/try.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"

#include <algorithm>
#include <cstring>
#include <new>

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
    Pending* read = nullptr;
    bool is_done = false;  // changed only by the lane's user
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

// A read counts as in flight from before it is sent, so that drain() sees it, until this ends.
class AsyncReads::InFlight {
 public:
  explicit InFlight(OpenInode& inode) : inode_(inode) { inode_.reads_in_flight.fetch_add(1); }
  ~InFlight() { inode_.reads_in_flight.fetch_sub(1); }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;

 private:
  OpenInode& inode_;
};

AsyncReads::AsyncReads(Core& core) : core_(core) { fills_.reserve(kMaxFills); }
AsyncReads::~AsyncReads() = default;

AsyncReads::PendingPtr AsyncReads::take_pending() {
  const MutexLock lock(mutex_);
  if (!free_.empty()) {
    PendingPtr pending(free_.back().release(), GiveBack{this});
    free_.pop_back();
    return pending;
  }
  free_.reserve(made_ + 1);  // giving back must not fail
  PendingPtr pending(new Pending, GiveBack{this});
  ++made_;
  return pending;
}

void AsyncReads::GiveBack::operator()(Pending* pending) const { reads->give_back(pending); }

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

// In the lane's user, from the channel; the read's last Io completes it.
void AsyncReads::on_done(Io& io) {
  auto& part = *static_cast<Pending::Part*>(io.user);
  part.is_done = true;
  Pending& pending = *part.read;
  if (io.status != StatusCode::ok && pending.code == StatusCode::ok) pending.code = io.status;
  if (--pending.left > 0) return;
  AsyncReads& reads = *pending.reads;
  const bool is_fill = pending.fill_for != nullptr;
  // What does not verify is left to the read that wants it, which says so.
  if (is_fill && pending.code == StatusCode::ok && reads.verify(pending)) reads.keep_pages(pending);
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

bool AsyncReads::verify(const Pending& pending) {
  blob::BlobRead read{pending.begin, pending.buffer.first(pending.length)};
  core_.store.verify(*pending.blob, read);
  return read.status == StatusCode::ok;
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

void AsyncReads::add_part(Pending& pending, uint64_t device_byte, std::span<std::byte> memory) {
  if (pending.part_count == pending.parts.size()) {
    pending.parts.push_back(std::make_unique<Pending::Part>());
  }
  Pending::Part& part = *pending.parts[pending.part_count++];
  part.vector = {memory.data(), memory.size()};
  part.read = &pending;
  part.is_done = false;
  part.io = Io{};
  part.io.op = Op::read;
  part.io.lba = Lba{device_byte / core_.device_block_bytes};
  part.io.block_count = BlockCount{memory.size() / core_.device_block_bytes};
  part.io.data = {&part.vector, 1};
  part.io.done = &AsyncReads::on_done;
  part.io.user = &part;
}

// Makes the parts for [begin, begin + length) of the blob and zeros what is not on the device.
void AsyncReads::make_parts(Pending& pending, blob::Blob& blob) {
  const std::span<std::byte> memory = pending.buffer.first(pending.length);
  const uint64_t begin = pending.begin, end = begin + pending.length;
  pending.part_count = 0;
  uint64_t filled = begin;
  const auto zero_up_to = [&](uint64_t to) {
    std::memset(memory.data() + (filled - begin), 0, to - filled);
  };
  const uint64_t first = begin / kBlock, last = round_up(end, kBlock) / kBlock;
  for (const blob::Extent& extent : core_.store.extents(blob, {first, last - first})) {
    if (extent.state == blob::ExtentState::unwritten) continue;
    const uint64_t from = std::max(extent.logical * kBlock, begin);
    const uint64_t to = std::min(extent.end() * kBlock, end);
    if (from >= to) continue;
    zero_up_to(from);
    filled = to;
    add_part(pending, extent.physical * kBlock + (from - extent.logical * kBlock),
             memory.subspan(from - begin, to - from));
  }
  zero_up_to(end);
}

AsyncReads::Submitted AsyncReads::submit(Pending& pending, blob::Blob& blob) {
  pending.blob = &blob;
  pending.token = blob.gate().enter();
  Submitted result = Submitted::refused;
  try {
    make_parts(pending, blob);
    result = pending.part_count == 0 ? Submitted::nothing_to_send : send(pending);
  } catch (...) {
    blob.gate().leave(pending.token);
    throw;
  }
  if (result != Submitted::sent) blob.gate().leave(pending.token);
  return result;
}

AsyncReads::Submitted AsyncReads::send(Pending& pending) {
  const bool is_fill = pending.fill_for != nullptr;
  MutexLock lock(mutex_);
  Lane* lane = lane_for_submit(lock);
  if (lane == nullptr || (is_fill && fills_.size() == kMaxFills)) return Submitted::refused;
  pending.lane = lane;
  pending.left = pending.part_count;
  pending.file->reads_in_flight.fetch_add(1);
  if (is_fill) fills_.push_back(&pending);
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
  PendingPtr pending = take_pending();
  pending->reads = this;
  pending->inode = inode;
  pending->file = inode.get();
  pending->generation = inode->cache_generation.load(std::memory_order_acquire);
  pending->complete = true;  // unless something has to come from the device
  start_rest(*pending, read);
  read.done = false;
  read.impl = pending.release();
}

void AsyncReads::start_rest(Pending& pending, AsyncRead& read) {
  OpenInode& inode = *pending.file;
  const uint64_t size = inode.size.load(std::memory_order_acquire);
  read.length = read.offset < size ? std::min<uint64_t>(read.buffer.size(), size - read.offset) : 0;
  if (read.length == 0) return;
  const auto out = read.buffer.first(read.length);
  const uint64_t device_end = read_tail(inode, read.offset, out);
  uint64_t offset = read.offset;
  const bool cached = inode.kind == InodeKind::table && core_.cache.enabled();
  if (cached && device_end > offset) {
    offset +=
        core_.cache.read(inode.id, offset, out.first(device_end - offset), PageCache::Touch::reuse);
  }
  if (offset >= device_end) return;
  const auto rest = out.subspan(offset - read.offset, device_end - offset);
  std::optional<InFlight> in_flight;
  {
    const MutexLock lock(inode.mutex);
    if (inode.kind == InodeKind::table && !inode.no_async && inode.open_data(core_).ok()) {
      in_flight.emplace(inode);
    }
  }
  if (in_flight) {
    const uint64_t unit = cached ? kBlock : core_.table_unit;
    pending.begin = round_down(offset, unit);
    pending.length = round_up(device_end, unit) - pending.begin;
    pending.buffer = core_.buffers.take(pending.length);
    pending.offset = offset;
    pending.rest = rest;
    pending.complete = false;
    const Submitted submitted = submit(pending, *inode.blob);
    if (submitted == Submitted::sent) return;
    pending.complete = true;
    if (submitted == Submitted::nothing_to_send) return;
    pending.rest = {};
  }
  pending.status = read_device(core_, inode, offset, rest);
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

bool AsyncReads::start_one_fill(OpenInode& inode, const void* owner, uint64_t page,
                                uint64_t count) {
  PendingPtr fill = take_pending();
  fill->reads = this;
  fill->file = &inode;
  fill->fill_for = owner;
  fill->begin = page * kBlock;
  std::optional<InFlight> in_flight;
  {
    // Where the tail begins does not change beside this; see page_cache.h for the generation.
    const MutexLock lock(inode.mutex);
    fill->generation = inode.cache_generation.load(std::memory_order_acquire);
    const uint64_t pages =
        round_up(inode.tail_begin.load(std::memory_order_acquire), kBlock) / kBlock;
    if (inode.no_async || pages <= page || !inode.open_data(core_).ok()) return false;
    fill->length = std::min(count, pages - page) * kBlock;
    in_flight.emplace(inode);
  }
  fill->buffer = core_.buffers.take(fill->length);
  const Submitted submitted = submit(*fill, *inode.blob);
  if (submitted == Submitted::sent) (void)fill.release();  // whoever completes it gives it back
  if (submitted == Submitted::nothing_to_send) keep_pages(*fill);
  return submitted != Submitted::refused;
}

bool AsyncReads::may_fill() {
  MutexLock lock(mutex_);
  if (fills_.size() < kMaxFills) return true;
  // Nobody may be waiting for those under way: complete what has arrived.
  for (size_t i = 0; i < lanes_.size() && fills_.size() == kMaxFills; ++i) {
    Lane& lane = *lanes_[i];
    if (lane.in_use || lane.outstanding == 0) continue;
    lane.in_use = true;
    lock.unlock();
    lane.channel->poll();
    lock.lock();
    lane.in_use = false;
    changed_.notify_all();
  }
  return fills_.size() < kMaxFills;
}

uint64_t AsyncReads::start_fill(OpenInode& inode, const void* owner, uint64_t offset,
                                uint64_t end) {
  const uint64_t last =
      round_up(std::min(end, inode.tail_begin.load(std::memory_order_acquire)), kBlock) / kBlock;
  uint64_t page = offset / kBlock;
  try {
    while ((page = skip_present(inode, page, last)) < last) {
      const uint64_t gap_end = end_of_gap(inode, page, last);
      if (!may_fill() || !start_one_fill(inode, owner, page, gap_end - page)) return page * kBlock;
      page = gap_end;
    }
  } catch (const std::bad_alloc&) {
    return page * kBlock;  // a favour, not worth an error
  }
  return end;
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
    const auto fill = std::find_if(fills_.begin(), fills_.end(),
                                   [&](Pending* p) { return p->fill_for == owner; });
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
  } else if (!pending->rest.empty() && !verify(*pending)) {
    // Damaged, or written to beside the read: reading again tells.
    read.status = read_device(core_, *pending->inode, pending->offset, pending->rest);
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
    for (size_t i = 0; i < pending->part_count; ++i) {
      if (!pending->parts[i]->is_done) lane.channel->cancel(pending->parts[i]->io);
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
