// Table files: raw extents, written aligned from the tail in memory, recorded by a transaction.
//
// Bytes go to the device from memory that survives the process, in long writes. What was written becomes
// part of the file by record_table(): one transaction with the extents' states, the length and the time,
// which the store journals only after a flush; the syncs of all files share both. Only then is the memory
// given back. Positioned writes go straight to the device, reading and rewriting blocks written in part.
// Threads: any; functions that take `lock` want the inode's mutex held by it and, but for sync_table and
// reserve_table, the writing role.
#pragma once

#include "blobfs/open_inode.h"
#include "blobfs/write_out.h"

namespace basalt::blobfs {

// Bytes that one write to the device holds at most: each costs its thread a sleep and a wake-up.
inline constexpr uint64_t kTableWriteBytes = uint64_t{4} << 20;

enum class TrimSpace : bool { no, yes };

// Space for the first `length` bytes; the mutex is held.
Status reserve_table(Core& core, OpenInode& inode, uint64_t length);
// Writes [written, target) to the device. full_blocks leaves the last, partial block out.
Status write_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode);
// Applies a transaction that makes everything written so far part of the file, then gives its memory
// back. With TrimSpace::yes, also frees the space beyond the end.
Status record_table(Core& core, OpenInode& inode, TrimSpace trim);
Status sync_table(Core& core, OpenInode& inode);
Status close_table(Core& core, OpenInode& inode, MutexLock& lock);

Status write_table_at(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset,
                      std::span<const std::byte> bytes);
Status truncate_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length);
Status punch_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset, uint64_t length);

// Cached pages that hold bytes of [offset, offset + length) are dropped, and reads of the device that
// began before will not bring them back.
void invalidate_pages(Core& core, OpenInode& inode, uint64_t offset, uint64_t length);

}  // namespace basalt::blobfs
