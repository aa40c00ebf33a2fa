// Blob data: mapping byte ranges to device commands and running them on a leased channel.
//
// A transfer looks its extents up once, inside the blob's gate, and sends one command per contiguous
// piece. Holes and unwritten blocks are filled with zeros here, never read. What blobs with checksums add is in
// data_checksums.cc.
#include "base/try.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

constexpr unsigned kMaxPieces = 32;  // commands in flight per caller

// A run of bytes that is contiguous in the blob and on the device.
struct Piece {
  uint64_t device_byte = 0;
  std::byte* memory = nullptr;
  size_t bytes = 0;
  BlobRead* request = nullptr;
};

class Batch {
 public:
  Batch(Channel& channel, const DeviceInfo& info, Op op, IoFlags flags)
      : channel_(channel), info_(info), op_(op), flags_(flags) {}

  bool full() const { return count_ == kMaxPieces; }
  void add(const Piece& piece) { pieces_[count_++] = piece; }

  // The first failure, or ok; failed pieces mark their request.
  StatusCode run() {
    for (unsigned i = 0; i < count_; ++i) {
      const Piece& piece = pieces_[i];
      vectors_[i] = {piece.memory, piece.bytes};
      ios_[i].op = op_;
      ios_[i].flags = flags_;
      ios_[i].lba = Lba{piece.device_byte / info_.block_size};
      ios_[i].block_count = BlockCount{piece.bytes / info_.block_size};
      ios_[i].data = {&vectors_[i], 1};
    }
    const StatusCode code = run_all(channel_, {ios_, count_});
    for (unsigned i = 0; i < count_ && code != StatusCode::ok; ++i) {
      if (pieces_[i].request != nullptr && ios_[i].status != StatusCode::ok) {
        pieces_[i].request->status = ios_[i].status;
      }
    }
    count_ = 0;
    return code;
  }

 private:
  Channel& channel_;
  const DeviceInfo& info_;
  const Op op_;
  const IoFlags flags_;
  unsigned count_ = 0;
  Piece pieces_[kMaxPieces];
  iovec vectors_[kMaxPieces];
  Io ios_[kMaxPieces];
};

Status misaligned(const Blob& blob, uint64_t offset, size_t bytes, uint32_t unit) {
  return Status(StatusCode::invalid_argument, "blob " + std::to_string(blob.id().value) +
                                                  ": offset " + std::to_string(offset) +
                                                  " and length " + std::to_string(bytes) +
                                                  " must be multiples of " + std::to_string(unit));
}

// Splits [offset, +bytes) along `extents`; `fill` gets holes, `piece` mapped runs.
template <typename Mapped, typename Hole>
void for_each_run(const ExtentMap& extents, uint64_t offset, size_t bytes, Mapped&& mapped,
                  Hole&& hole) {
  const uint64_t end = offset + bytes;
  auto extent = extents.lower(offset / kBlockBytes);
  for (uint64_t at = offset; at < end;) {
    if (extent == extents.end() || extent->logical * kBlockBytes >= end) {
      hole(at, end - at);
      return;
    }
    const uint64_t first = extent->logical * kBlockBytes;
    if (first > at) {
      hole(at, first - at);
      at = first;
    }
    const uint64_t stop = std::min(end, extent->end() * kBlockBytes);
    mapped(*extent, at, stop - at);
    at = stop;
    ++extent;
  }
}

}  // namespace

Status BlobStore::read(Blob& blob, uint64_t offset, std::span<std::byte> buffer,
                       Unwritten unwritten) {
  BlobRead request{offset, buffer};
  read_batch(blob, {&request, 1}, unwritten);
  if (request.status == StatusCode::ok) return {};
  const std::string what = request.status == StatusCode::corruption
                               ? "the checksum of the block at byte " +
                                     std::to_string(request.damaged_at) +
                                     " does not match or cannot be read"
                               : std::string(to_string(request.status));
  return Status(request.status, "blob " + std::to_string(blob.id().value) + ": read of " +
                                    std::to_string(buffer.size()) + " B at " +
                                    std::to_string(offset) + ": " + what);
}

void BlobStore::read_batch(Blob& blob, std::span<BlobRead> reads, Unwritten unwritten) {
  transfer(blob, reads, unwritten);
  if (!blob.has_checksums_) return;
  for (BlobRead& request : reads) verify_patiently(blob, request);
}

void BlobStore::transfer(Blob& blob, std::span<BlobRead> reads, Unwritten unwritten) {
  const DeviceInfo& info = impl_->device.info();
  const uint64_t unit = blob.has_checksums_ ? kBlockBytes : info.block_size;
  const bool misused = blob.has_checksums_ && unwritten == Unwritten::raw;
  auto lease = impl_->pool.lease();
  const IoGate::Token token = blob.gate_.enter();
  std::optional<Batch> batch;
  if (lease) batch.emplace(**lease, info, Op::read, IoFlags{});
  for (BlobRead& request : reads) {
    request.status = lease ? StatusCode::ok : lease.error().code();
    if ((request.offset | request.buffer.size()) % unit != 0 || misused) {
      request.status = StatusCode::invalid_argument;
    }
    if (request.status != StatusCode::ok) continue;
    const auto memory = [&](uint64_t at) { return request.buffer.data() + (at - request.offset); };
    blob.map_lock_.lock_shared();
    for_each_run(
        blob.extents_, request.offset, request.buffer.size(),
        [&](const Extent& extent, uint64_t at, uint64_t bytes) {
          if (extent.state == ExtentState::unwritten && unwritten == Unwritten::zeros) {
            std::memset(memory(at), 0, bytes);
            return;
          }
          if (batch->full()) {
            // Does not touch extents: only device addresses already in the batch.
            (void)batch->run();
          }
          const uint64_t inside = at - extent.logical * kBlockBytes;
          batch->add({extent.physical * kBlockBytes + inside, memory(at), bytes, &request});
        },
        [&](uint64_t at, uint64_t bytes) { std::memset(memory(at), 0, bytes); });
    blob.map_lock_.unlock_shared();
  }
  if (batch) (void)impl_->judge(batch->run());
  blob.gate_.leave(token);
}

Status BlobStore::write(Blob& blob, uint64_t offset, std::span<const std::byte> bytes,
                        Unwritten unwritten, IoFlags flags) {
  if (impl_->journal == nullptr) {
    return Status(StatusCode::read_only, "the store was opened for reading");
  }
  const uint32_t unit = blob.has_checksums_ ? kBlockBytes : impl_->device.info().block_size;
  if ((offset | bytes.size()) % unit != 0) return misaligned(blob, offset, bytes.size(), unit);
  if (!blob.has_checksums_) return write_in_place(blob, offset, bytes, unwritten, flags);
  if (unwritten == Unwritten::raw) {
    return Status(StatusCode::invalid_argument, "blob " + std::to_string(blob.id().value) +
                                                    " has checksums: it has no raw content");
  }
  return write_with_checksums(blob, offset, bytes, flags);
}

Status BlobStore::write_in_place(Blob& blob, uint64_t offset, std::span<const std::byte> bytes,
                                 Unwritten unwritten, IoFlags flags) {
  const DeviceInfo& info = impl_->device.info();
  BASALT_TRY_ASSIGN(auto lease, impl_->pool.lease());
  const IoGate::Token token = blob.gate_.enter();
  Batch batch(*lease, info, Op::write, flags);
  std::vector<Piece> later;  // beyond one batch; a write in that many pieces is rare
  uint64_t missing = 0;
  bool has_hole = false, turns_pending = false;
  blob.map_lock_.lock_shared();
  for_each_run(
      blob.extents_, offset, bytes.size(),
      [&](const Extent& extent, uint64_t at, uint64_t length) {
        turns_pending |= extent.state == ExtentState::unwritten && unwritten == Unwritten::zeros;
        const uint64_t inside = at - extent.logical * kBlockBytes;
        auto* memory = const_cast<std::byte*>(bytes.data()) + (at - offset);
        const Piece piece{extent.physical * kBlockBytes + inside, memory, length, nullptr};
        if (batch.full()) {
          later.push_back(piece);
        } else {
          batch.add(piece);
        }
      },
      [&](uint64_t at, uint64_t) {
        if (!has_hole) missing = at;
        has_hole = true;
      });
  blob.map_lock_.unlock_shared();
  Status status;
  const std::string_view refusal =
      has_hole ? "is not allocated"
      : turns_pending && (offset | bytes.size()) % kBlockBytes != 0
          ? "is written for the first time in part; write whole 4096 B blocks"
          : "";
  if (!refusal.empty()) {
    status = Status(has_hole ? StatusCode::out_of_range : StatusCode::invalid_argument,
                    "blob " + std::to_string(blob.id().value) + ": byte " +
                        std::to_string(has_hole ? missing : offset) + " " + std::string(refusal));
  } else {
    StatusCode code = batch.run();
    for (size_t next = 0; next < later.size() && code == StatusCode::ok;) {
      while (next < later.size() && !batch.full()) batch.add(later[next++]);
      code = batch.run();
    }
    code = impl_->judge(code);
    if (code != StatusCode::ok) {
      status = Status(code, "blob " + std::to_string(blob.id().value) + ": write of " +
                                std::to_string(bytes.size()) + " B at " + std::to_string(offset) +
                                ": " + std::string(to_string(code)));
    } else if (turns_pending) {
      const std::lock_guard map(blob.map_lock_);
      blob.extents_.set_state({offset / kBlockBytes, bytes.size() / kBlockBytes},
                              ExtentState::pending, ExtentState::unwritten);
    }
  }
  blob.gate_.leave(token);
  return status;
}

Status BlobStore::flush() {
  BASALT_TRY_ASSIGN(auto lease, impl_->pool.lease());
  Io io;
  io.op = Op::flush;
  const StatusCode code = impl_->judge(run(*lease, io));
  if (code == StatusCode::ok) return {};
  return Status(code, "flush of " + impl_->device.info().uri + ": " + std::string(to_string(code)));
}

}  // namespace basalt::blob
