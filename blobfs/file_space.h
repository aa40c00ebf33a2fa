// Space of a file: allocating ahead of what is appended, and giving back what was not used.
//
// Allocation goes in growing steps, so that most appends meet space that is there: an append is accepted
// only when its space is allocated, and a sync of it then finds nothing to journal.
#pragma once

#include "blobfs/open_inode.h"

namespace basalt::blobfs {

inline constexpr uint64_t kBlock = blob::kBlockBytes;
constexpr uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }
constexpr uint64_t round_up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Allocates the blob up to byte `end`, and further as the file has grown before (at least `min_step`);
// `from` is where the file's data ends now. The inode's mutex is held. no_space changes nothing.
Status reserve_space(Core& core, OpenInode& inode, uint64_t from, uint64_t end, uint64_t min_step);
// Allocates what is not mapped in [from, end) of the blob; no steps.
Status allocate_range(Core& core, OpenInode& inode, uint64_t from, uint64_t end);
// Whether a whole cluster at or beyond byte `end` of the (opened) blob is allocated.
bool has_space_beyond(Core& core, OpenInode& inode, uint64_t end);
// Adds to `txn` the freeing of whole clusters at or beyond byte `end` of the blob. Returns what is left for
// further transactions.
Result<blob::BlockRange> free_beyond(Core& core, OpenInode& inode, blob::Transaction& txn,
                                     uint64_t end);
// Applies transactions until `rest` is freed.
Status free_rest(Core& core, OpenInode& inode, blob::BlockRange rest);

}  // namespace basalt::blobfs
