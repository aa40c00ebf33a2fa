#include "blobfs/file_space.h"

#include "base/try.h"

#include <algorithm>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMaxStep = uint64_t{64} << 20;
constexpr uint64_t kFarBlocks = uint64_t{1} << 50;

// How far the blob is mapped without a gap, from byte `from` on; `from` rounded down if it is not.
uint64_t mapped_end(Core& core, OpenInode& inode, uint64_t from) {
  uint64_t block = from / kBlock;
  for (const blob::Extent& extent : core.store.extents(*inode.blob, {block, kFarBlocks})) {
    if (extent.logical > block) break;
    block = std::max(block, extent.end());
  }
  return block * kBlock;
}

Status apply_allocation(Core& core, OpenInode& inode, uint64_t from, uint64_t end) {
  const uint64_t first = from / kBlock;
  blob::Transaction txn;
  BASALT_TRY(
      core.store.allocate(txn, BlobId{inode.id}, {first, round_up(end, kBlock) / kBlock - first}));
  if (txn.empty()) return {};
  BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
  return {};
}

// Space freed by transactions that are not durable yet cannot be had: make them so and try again.
Status apply_allocation_patiently(Core& core, OpenInode& inode, uint64_t from, uint64_t end) {
  Status status = apply_allocation(core, inode, from, end);
  if (status.code() != StatusCode::no_space) return status;
  const blob::Ticket last = core.store.last_ticket();
  if (core.store.durable_ticket() >= last) return status;
  BASALT_TRY(core.store.wait_durable(last));
  return apply_allocation(core, inode, from, end);
}

}  // namespace

Status reserve_space(Core& core, OpenInode& inode, uint64_t from, uint64_t end, uint64_t min_step) {
  if (inode.allocated_known && end <= inode.allocated) return {};
  BASALT_TRY(inode.open_data(core));
  if (!inode.allocated_known) {
    inode.allocated = mapped_end(core, inode, from);
    inode.allocated_known = true;
    if (end <= inode.allocated) return {};
  }
  const uint64_t start = std::max(inode.allocated, round_down(from, kBlock));
  const uint64_t step = std::clamp(inode.allocated, min_step, kMaxStep);
  const uint64_t wish = std::max(end, start + step);
  Status status = apply_allocation(core, inode, start, wish);
  if (status.code() == StatusCode::no_space) {
    status = apply_allocation_patiently(core, inode, start, end);
  }
  BASALT_TRY(status.with_context("file " + std::to_string(inode.id) + ": allocate [" +
                                 std::to_string(start) + ", " + std::to_string(end) + ")"));
  inode.allocated = mapped_end(core, inode, start);
  return {};
}

Status allocate_range(Core& core, OpenInode& inode, uint64_t from, uint64_t end) {
  BASALT_TRY(inode.open_data(core));
  BASALT_TRY(apply_allocation_patiently(core, inode, from, end)
                 .with_context("file " + std::to_string(inode.id) + ": allocate [" +
                               std::to_string(from) + ", " + std::to_string(end) + ")"));
  inode.allocated_known = false;
  return {};
}

bool has_space_beyond(Core& core, OpenInode& inode, uint64_t end) {
  const uint64_t first = round_up(end, core.cluster_bytes) / kBlock;
  return !core.store.extents(*inode.blob, {first, kFarBlocks}).empty();
}

Result<blob::BlockRange> free_beyond(Core& core, OpenInode& inode, blob::Transaction& txn,
                                     uint64_t end) {
  BASALT_TRY(inode.open_data(core));
  const uint64_t first = round_up(end, kBlock) / kBlock;
  const std::vector<blob::Extent> extents = core.store.extents(*inode.blob, {first, kFarBlocks});
  inode.allocated_known = false;
  if (extents.empty()) return blob::BlockRange{};
  return core.store.free_range(txn, BlobId{inode.id}, {first, extents.back().end() - first});
}

Status free_rest(Core& core, OpenInode& inode, blob::BlockRange rest) {
  while (!rest.empty()) {
    blob::Transaction txn;
    BASALT_TRY_ASSIGN(rest, core.store.free_range(txn, BlobId{inode.id}, rest));
    if (txn.empty()) break;
    BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
  }
  return {};
}

}  // namespace basalt::blobfs
