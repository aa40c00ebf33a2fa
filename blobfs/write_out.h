// Appending, and the dispatch of writing out: what log and table files have in common.
//
// append_bytes() copies into the file's tail in memory and sees to it that the tail stays bounded: from one write's worth of
// bytes on a background task writes, and where that does not keep up the appender itself: from kMaxPending on, a table
// when the tail is crowded. A log that nobody has synced stays in shared memory while there is room (keeps_unsynced,
// log_writeback.h).
#pragma once

#include "blobfs/open_inode.h"

#include <span>

namespace basalt::blobfs {

enum class WriteMode : uint8_t {
  full_blocks,  // leave the last, partial block in memory
  all,          // everything, but perhaps only in the device's cache
  durable,      // everything, on stable media (logs; tables get there by their transaction)
};

// Writes the file's bytes below `target` to the device; tables also record them, so that their memory
// is free again. The caller holds the mutex by `lock` and the writing role; the mutex is released
// meanwhile. A device error is remembered in the inode.
Status write_out(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode);

// Appends, once space for `bytes` was reserved. The mutex is held.
Status append_bytes(Core& core, OpenInode& inode, MutexLock& lock,
                    std::span<const std::byte> bytes);

// Brings the last, partial block back into memory, so that it can be continued. The mutex and the
// writing role are held.
Status load_partial_block(Core& core, OpenInode& inode, MutexLock& lock);

// append() of either kind: reserves, then appends.
Status append_to_file(Core& core, OpenInode& inode, std::span<const std::byte> bytes);
// flush() of either kind.
Status flush_file(Core& core, OpenInode& inode);
// Starts writing in the background whole blocks of what is there now. The mutex is held.
void start_write_behind(Core& core, OpenInode& inode);
// Closes the file, once its last writer has gone. The mutex and the writing role are held.
Status close_file(Core& core, OpenInode& inode, MutexLock& lock);
// Whether the file is a log that survives the process without the device, and nobody has wanted more. The mutex is held.
bool keeps_unsynced(const Core& core, const OpenInode& inode);

}  // namespace basalt::blobfs
