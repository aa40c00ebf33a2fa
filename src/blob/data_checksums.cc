// Blobs with checksums: verifying what is read, and writing so that data and checksum change as one.
//
// A block that is not recorded may be written where it lies: after a crash it is unwritten again. A recorded
// block is never overwritten; its whole cluster is written anew elsewhere and mapped, with its checksums, by one
// transaction. A reader looks the mapping, the bytes and the checksums up one after the other, so a write beside
// him can make them differ: what does not fit is read once more with writes held off, and only that counts.
#include "base/planted.h"
#include "base/try.h"
#include "blob/aligned_buffer.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace basalt::blob {
namespace {

constexpr size_t kChunkBlocks = 64;  // whose checksums are looked up under the lock at once

std::string name_of(const Blob& blob) { return "blob " + std::to_string(blob.id().value); }

BlockRange blocks_of(uint64_t offset, uint64_t bytes) {
  return {offset / kBlockBytes, bytes / kBlockBytes};
}

// Calls `piece` with the parts of `range` that lie in one group each.
template <typename Piece>
void for_each_group(BlockRange range, Piece&& piece) {
  while (!range.empty()) {
    const uint64_t end =
        std::min(range.end(), (ChecksumMap::group_of(range.first) + 1) * kChecksumGroupBlocks);
    piece(BlockRange{range.first, end - range.first});
    range = {end, range.end() - end};
  }
}

}  // namespace

// ---- Reading

Status BlobStore::load_checksums(Blob& blob, BlockRange range) {
  const uint64_t first = ChecksumMap::group_of(range.first);
  const uint64_t last = ChecksumMap::group_of(range.end() - 1);
  for (uint64_t group = first; group <= last; ++group) {
    blob.map_lock_.lock_shared();
    const bool there = blob.checksums_.holds(group);
    blob.map_lock_.unlock_shared();
    if (there) continue;
    // Under the metadata lock to the end: no transaction comes between looking up and keeping.
    const MutexLock lock(impl_->meta);
    const Result<std::string> stored = impl_->state.checksums(blob.id(), group);
    impl_->pages.trim();
    if (!stored) return stored.error();
    const std::lock_guard map(blob.map_lock_);
    blob.checksums_.load(group, *stored);
  }
  return {};
}

// The byte, in the blob, of the first block of `bytes` that does not fit; its checksums are loaded.
std::optional<uint64_t> BlobStore::first_damaged(Blob& blob, uint64_t offset,
                                                 std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto chunk = bytes.first(std::min<size_t>(bytes.size(), kChunkBlocks * kBlockBytes));
    const BlockRange range = blocks_of(offset, chunk.size());
    std::array<uint32_t, kChunkBlocks> expected;
    std::array<bool, kChunkBlocks> is_known{};
    blob.map_lock_.lock_shared();
    for (auto extent = blob.extents_.lower(range.first);
         extent != blob.extents_.end() && extent->logical < range.end(); ++extent) {
      if (extent->state == ExtentState::unwritten) continue;
      const uint64_t end = std::min(extent->end(), range.end());
      for (uint64_t block = std::max(extent->logical, range.first); block < end; ++block) {
        expected[block - range.first] = blob.checksums_.at(block);
        is_known[block - range.first] = true;
      }
    }
    blob.map_lock_.unlock_shared();
    for (uint64_t i = 0; i < range.count; ++i) {
      if (!is_known[i] || planted("data_checksum_ignored")) continue;
      if (block_checksum(chunk.subspan(i * kBlockBytes, kBlockBytes)) != expected[i]) {
        return offset + i * kBlockBytes;
      }
    }
    offset += chunk.size();
    bytes = bytes.subspan(chunk.size());
  }
  return {};
}

void BlobStore::verify(Blob& blob, BlobRead& read) {
  if (!blob.has_checksums_ || read.status != StatusCode::ok || read.buffer.empty()) return;
  const Status loaded = load_checksums(blob, blocks_of(read.offset, read.buffer.size()));
  if (!loaded.ok()) {
    impl_->context.log().log(
        LogLevel::error, "blob",
        name_of(blob) + ": its checksums cannot be read: " + loaded.to_string());
    read.status = loaded.code();
    read.damaged_at = read.offset;
    return;
  }
  if (const auto damaged = first_damaged(blob, read.offset, read.buffer)) {
    read.status = StatusCode::corruption;
    read.damaged_at = *damaged;
  }
}

void BlobStore::verify_patiently(Blob& blob, BlobRead& read) {
  verify(blob, read);
  if (read.status != StatusCode::corruption) return;
  const MutexLock lock(blob.write_mutex_);
  transfer(blob, {&read, 1}, Unwritten::zeros);
  verify(blob, read);
  if (read.status != StatusCode::corruption) return;
  const auto found = extents(blob, {read.damaged_at / kBlockBytes, 1});
  const std::string place =
      found.empty() ? "nowhere"
                    : "block " + std::to_string(found[0].physical + read.damaged_at / kBlockBytes -
                                                found[0].logical);
  impl_->context.log().log(LogLevel::error, "blob",
                           name_of(blob) + ": the checksum of the block at byte " +
                               std::to_string(read.damaged_at) + " (" + place + " of " +
                               impl_->device.info().uri + ") does not match or cannot be read");
}

// ---- Writing

void BlobStore::note_checksums(Blob& blob, uint64_t first, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto chunk = bytes.first(std::min<size_t>(bytes.size(), kChunkBlocks * kBlockBytes));
    const size_t count = chunk.size() / kBlockBytes;
    std::array<uint32_t, kChunkBlocks> checksums;
    for (size_t i = 0; i < count; ++i) {
      checksums[i] = block_checksum(chunk.subspan(i * kBlockBytes, kBlockBytes));
    }
    const std::lock_guard map(blob.map_lock_);
    for (size_t i = 0; i < count; ++i) blob.checksums_.set(first + i, checksums[i]);
    first += count;
    bytes = bytes.subspan(chunk.size());
  }
}

// The map lock is held.
void BlobStore::record_checksums(Transaction& txn, const Blob& blob, BlockRange range) {
  for_each_group(range, [&](BlockRange part) {
    txn.set_checksums(blob.id(), part.first, blob.checksums_.stored(part.first, part.count));
  });
}

bool BlobStore::overwrites_recorded(Blob& blob, uint64_t offset, uint64_t length) {
  if (!blob.has_checksums_ || planted("recorded_block_overwritten")) return false;
  const std::vector<Extent> found = extents(blob, blocks_of(offset, length));
  return std::any_of(found.begin(), found.end(),
                     [](const Extent& e) { return e.state == ExtentState::written; });
}

// Blocks that were recorded as written, with their checksums, and are not any more: before that is durable, other
// bytes in their place would be damage after a crash.
Status BlobStore::wait_durable_unwritten() {
  const Ticket made{impl_->unwritten_ticket.load()};
  if (made.value == 0 || impl_->journal->durable() >= made || planted("unwritten_not_awaited")) {
    return {};
  }
  return wait_durable(made);
}

Status BlobStore::write_with_checksums(Blob& blob, uint64_t offset,
                                       std::span<const std::byte> bytes, IoFlags flags) {
  if (bytes.empty()) return {};
  const MutexLock lock(blob.write_mutex_);
  const BlockRange all = blocks_of(offset, bytes.size());
  uint64_t mapped_to = all.first;
  for (const Extent& extent : extents(blob, all)) {
    if (extent.logical <= mapped_to) mapped_to = extent.end();
  }
  if (mapped_to < all.end()) {
    return Status(
        StatusCode::out_of_range,
        name_of(blob) + ": byte " + std::to_string(mapped_to * kBlockBytes) + " is not allocated");
  }
  BASALT_TRY(load_checksums(blob, all));
  const uint64_t cluster_bytes = uint64_t{impl_->state.cluster_blocks} * kBlockBytes;
  const auto next_cluster = [&](uint64_t at) { return (at / cluster_bytes + 1) * cluster_bytes; };
  while (!bytes.empty()) {
    // As many clusters as want the same treatment.
    const uint64_t end = offset + bytes.size();
    uint64_t stop = end;
    bool replaces = overwrites_recorded(blob, offset, bytes.size());
    if (replaces) {
      stop = std::min(end, next_cluster(offset));
      replaces = overwrites_recorded(blob, offset, stop - offset);
      while (stop < end && stop - offset < kMaxExchangedBytes) {
        const uint64_t next = std::min(end, next_cluster(stop));
        if (overwrites_recorded(blob, stop, next - stop) != replaces) break;
        stop = next;
      }
    }
    const auto part = bytes.first(stop - offset);
    if (replaces) {
      BASALT_TRY(replace_clusters(blob, offset, part));
      if (flags.fua) BASALT_TRY(wait_durable(last_ticket()));
    } else {
      BASALT_TRY(wait_durable_unwritten());
      note_checksums(blob, offset / kBlockBytes, part);  // before the blocks become readable
      BASALT_TRY(write_in_place(blob, offset, part, Unwritten::zeros, flags));
    }
    offset = stop;
    bytes = bytes.subspan(part.size());
  }
  return {};
}

// The clusters around [offset, + bytes) elsewhere, with these bytes in place of the old ones. What is kept keeps
// its checksum as it was recorded: damage stays damage. The write mutex is held.
Status BlobStore::replace_clusters(Blob& blob, uint64_t offset, std::span<const std::byte> bytes) {
  const uint64_t unit = impl_->state.cluster_blocks;
  const BlockRange changed = blocks_of(offset, bytes.size());
  const uint64_t first = changed.first / unit * unit;
  const BlockRange range{first, (changed.end() + unit - 1) / unit * unit - first};
  AlignedBuffer image(range.count * kBlockBytes);
  BASALT_TRY(load_checksums(blob, range));
  if (changed != range) {
    BlobRead present{first * kBlockBytes, image.span()};
    transfer(blob, {&present, 1}, Unwritten::zeros);
    if (present.status != StatusCode::ok) {
      return Status(present.status,
                    name_of(blob) + ": reading the cluster at byte " +
                        std::to_string(first * kBlockBytes) +
                        " to overwrite a part of it: " + std::string(to_string(present.status)));
    }
  }
  std::memcpy(image.data() + (changed.first - first) * kBlockBytes, bytes.data(), bytes.size());

  Transaction txn;
  std::vector<Extent> planned;
  BASALT_TRY(plan_replacement(txn, blob, range, planned));
  const Status status = exchange(blob, txn, range, changed, planned, image.span());
  txn.abandon();  // what was not applied is free again before others are told that it is over
  end_replacement();
  return status;
}

// Writes `image`, the blocks of `range`, to the planned clusters and applies the exchange.
Status BlobStore::exchange(Blob& blob, Transaction& txn, BlockRange range, BlockRange changed,
                           std::span<const Extent> planned, std::span<const std::byte> image) {
  const auto bytes_at = [&](uint64_t block, uint64_t count) {
    return image.subspan((block - range.first) * kBlockBytes, count * kBlockBytes);
  };
  ExtentMap after;
  for (const Extent& extent : planned) after.set(extent);
  for (const Extent& extent : extents(blob, range)) {
    if (extent.state == ExtentState::unwritten) continue;
    const uint64_t from = std::max(extent.logical, range.first);
    after.set_state({from, std::min(extent.end(), range.end()) - from}, ExtentState::written);
  }
  after.set_state(changed, ExtentState::written);

  std::vector<le32> checksums(range.count);
  blob.map_lock_.lock_shared();
  for (uint64_t i = 0; i < range.count; ++i) checksums[i] = blob.checksums_.at(range.first + i);
  blob.map_lock_.unlock_shared();
  const BlockRange anew = planted("exchange_renews_checksums") ? range : changed;
  for (uint64_t block = anew.first; block < anew.end(); ++block) {
    checksums[block - range.first] = block_checksum(bytes_at(block, 1));
  }

  {
    BASALT_TRY_ASSIGN(auto lease, impl_->pool.lease());
    std::vector<BlockWrite> writes;
    for (const Extent& extent : after.all()) {
      if (extent.state != ExtentState::written) continue;
      writes.push_back({extent.physical, bytes_at(extent.logical, extent.count)});
      txn.set_state(blob.id(), {extent.logical, extent.count}, ExtentState::written);
    }
    BASALT_TRY(write_batch(*lease, impl_->device.info(), writes, name_of(blob)));
  }
  for_each_group(range, [&](BlockRange part) {
    txn.set_checksums(blob.id(), part.first,
                      {reinterpret_cast<const char*>(&checksums[part.first - range.first]),
                       part.count * sizeof(le32)});
  });
  if (!planted("exchange_not_flushed")) txn.require_data_flush();
  const Result<Ticket> ticket = apply(txn);
  // Also where apply() failed after the fact: what is mapped is what counts.
  const std::lock_guard map(blob.map_lock_);
  const Extent* now = blob.extents_.find(range.first);
  const bool is_exchanged =
      now != nullptr && now->physical + (range.first - now->logical) == planned[0].physical;
  for (uint64_t i = 0; i < range.count && is_exchanged; ++i) {
    blob.checksums_.set(range.first + i, checksums[i]);
  }
  return ticket ? Status() : ticket.error();
}

}  // namespace basalt::blob
