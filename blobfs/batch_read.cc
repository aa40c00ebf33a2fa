// read_file_batch (file_read.h): many reads of one file, at the device's depth.
//
// Requests are answered from memory as far as possible; what remains goes to the blob store in batches,
// straight into the caller's memory where it covers whole device blocks, else through one shared buffer.
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace basalt::blobfs {

namespace {

// Reads of the device that wait to be sent together. No allocation but the buffer's, which is reused.
class BatchRead {
 public:
  BatchRead(Core& core, OpenInode& inode, Caching caching)
      : core_(core),
        inode_(inode),
        cached_(uses_cache(core, inode, caching)),
        unit_(cached_ ? kBlock : core.table_unit),
        generation_(inode.cache_generation.load(std::memory_order_acquire)) {}

  bool cached() const { return cached_; }
  // Whether a read of this many bytes is better done on its own.
  bool is_too_long(size_t bytes) const { return bytes > kMaxReadBytes - 2 * unit_; }

  // `out` is the part of the request that starts at `offset` in the file and is on the device.
  void add(ReadRequest& request, uint64_t offset, std::span<std::byte> out) {
    const uint64_t begin = round_down(offset, unit_);
    const uint64_t length = round_up(offset + out.size(), unit_) - begin;
    const bool direct = !cached_ && begin == offset && length == out.size();
    if (count_ == kMost || (!direct && used_ + length > kMaxReadBytes)) run();
    std::span<std::byte> target = out;
    if (!direct) {
      if (!buffer_) buffer_.emplace(core_.buffers.take(kMaxReadBytes));
      target = buffer_->span().subspan(used_, length);
      used_ += length;
    }
    wanted_[count_] = {&request, offset, out};
    reads_[count_++] = {begin, target};
  }

  void run() {
    if (count_ == 0) return;
    const Result<blob::Blob*> blob = blob_of(core_, inode_);
    if (blob) core_.store.read_batch(**blob, {reads_.data(), count_}, blob::Unwritten::zeros);
    for (size_t i = 0; i < count_; ++i) {
      if (blob && reads_[i].status == StatusCode::ok) {
        deliver(reads_[i], wanted_[i]);
      } else {
        refuse(*wanted_[i].request, wanted_[i].offset,
               blob ? Status(reads_[i].status, std::string(to_string(reads_[i].status)))
                    : blob.error());
      }
    }
    count_ = 0;
    used_ = 0;
  }

 private:
  static constexpr size_t kMost = 32;
  struct Wanted {
    ReadRequest* request = nullptr;
    uint64_t offset = 0;
    std::span<std::byte> out;
  };

  void deliver(const blob::BlobRead& read, const Wanted& wanted) {
    if (cached_) {
      core_.cache.insert(inode_.id, read.offset / kBlock, read.buffer, inode_.cache_generation,
                         generation_);
    }
    if (read.buffer.data() == wanted.out.data()) return;
    std::memcpy(wanted.out.data(), read.buffer.data() + (wanted.offset - read.offset),
                wanted.out.size());
  }

  void refuse(ReadRequest& request, uint64_t offset, const Status& status) {
    request.length = 0;
    request.status = status.with_context("table " + std::to_string(inode_.id) + ": read bytes at " +
                                         std::to_string(offset));
  }

  Core& core_;
  OpenInode& inode_;
  const bool cached_;
  const uint64_t unit_;
  const uint64_t generation_;
  size_t count_ = 0;
  uint64_t used_ = 0;  // of the buffer
  std::optional<IoBuffers::Lease> buffer_;
  std::array<blob::BlobRead, kMost> reads_;
  std::array<Wanted, kMost> wanted_;
};

}  // namespace

void read_file_batch(Core& core, OpenInode& inode, Readahead& readahead,
                     std::span<ReadRequest> requests, Caching caching) {
  BatchRead batch(core, inode, caching);
  for (ReadRequest& request : requests) {
    if (inode.kind == InodeKind::log || batch.is_too_long(request.buffer.size())) {
      const auto result =
          read_file(core, inode, readahead, request.offset, request.buffer, caching);
      request.status = result ? Status{} : result.error();
      request.length = result.value_or(0);
      continue;
    }
    const uint64_t size = inode.size.load(std::memory_order_acquire);
    const uint64_t there = request.offset < size ? size - request.offset : 0;
    request.length = std::min<uint64_t>(request.buffer.size(), there);
    request.status = {};
    if (request.length == 0) continue;
    const auto out = request.buffer.first(request.length);
    const uint64_t device_end = read_tail(inode, request.offset, out);
    uint64_t offset = request.offset;
    if (batch.cached() && device_end > offset) {
      offset += core.cache.read(inode.id, offset, out.first(device_end - offset),
                                PageCache::Touch::reuse);
    }
    if (offset >= device_end) continue;
    batch.add(request, offset, out.subspan(offset - request.offset, device_end - offset));
  }
  batch.run();
}

}  // namespace basalt::blobfs
