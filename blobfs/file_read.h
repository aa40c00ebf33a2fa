// Reading files: from the tail in memory, the page cache or the device.
//
// Bytes at or beyond the inode's tail_begin are copied from memory under its mutex; everything else takes
// no lock shared by readers but a cache shard's, where the cache is filled or a scan is the first to come to a
// page's end.
// Table pages go through the cache, logs are read and validated block by block.
// Threads: any.
#pragma once

#include "blobfs/open_inode.h"
#include "blobfs/readahead.h"

#include <span>

namespace basalt::blobfs {

// The most that is read from the device at once, and what a buffer for it holds.
inline constexpr uint64_t kMaxReadBytes = IoBuffers::kLargeBytes;

// Bytes read; short only at the end of the file.
Result<size_t> read_file(Core& core, OpenInode& inode, Readahead& readahead, uint64_t offset,
                         std::span<std::byte> out, Caching caching);
// Every request has its own status and length; reads of the device are in flight together.
void read_file_batch(Core& core, OpenInode& inode, Readahead& readahead,
                     std::span<ReadRequest> requests, Caching caching);

// The inode's blob, opened if that was not done.
Result<blob::Blob*> blob_of(Core& core, OpenInode& inode);
bool uses_cache(const Core& core, const OpenInode& inode, Caching caching);
// What of [offset, offset + out.size()) can be had at once: copies the part in the tail, and returns
// where the rest (which is on the device) ends. `out` is within the file.
uint64_t read_tail(OpenInode& inode, uint64_t offset, std::span<std::byte> out);
// [offset, offset + out.size()) from the device; the range is below tail_begin.
Status read_device(Core& core, OpenInode& inode, uint64_t offset, std::span<std::byte> out);

}  // namespace basalt::blobfs
