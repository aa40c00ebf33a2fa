// Log files: writing sealed blocks, syncing, and the life of a log's epoch (docs/format/log.md).
//
// A sync writes the blocks that changed with one device write and one flush (or one FUA write) and
// nothing else, once the file's metadata is durable. Concurrent syncs share a write: who finds the
// writing role taken waits, and is mostly done when it is his turn.
// Threads: any; functions that take `lock` want the inode's mutex held by it.
#pragma once

#include "blobfs/log_reader.h"
#include "blobfs/open_inode.h"
#include "blobfs/write_out.h"

namespace basalt::blobfs {

// Bytes of the file that one write to the device holds at most.
uint64_t log_write_bytes(const OpenInode& inode);

// The record of a new log.
InodeRecord new_log_record(Core& core);
LogIdentity log_identity(const OpenInode& inode);

// Space for `length` bytes; the mutex is held.
Status reserve_log(Core& core, OpenInode& inode, uint64_t length);
// write_out() for logs.
Status write_log(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode);
Status sync_log(Core& core, OpenInode& inode);

// Finds the end of a log that was not closed cleanly, on its first access; then makes the record say it
// (where the store may be written). A log that lost synced bytes gets `damage` and keeps all it has.
Status find_log_end(Core& core, OpenInode& inode);

// A new epoch for the next writes: at every open for writing. The mutex is held.
Status begin_log_epoch(Core& core, OpenInode& inode);
// Gives back the space that what is in the file and in memory does not need. The mutex is held.
Status trim_log(Core& core, OpenInode& inode);
// Journals the exact length and gives back the space beyond; when the last writer closes.
Status close_log(Core& core, OpenInode& inode, MutexLock& lock);
Status truncate_log(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length);

}  // namespace basalt::blobfs
