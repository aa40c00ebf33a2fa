// Reading files: from the tail in memory, the page cache or the device.
//
// Bytes at or beyond the inode's tail_begin are copied from memory under its mutex; everything else takes
// no lock shared by readers but a cache shard's. Table pages go through the cache, logs are read and
// validated block by block.
// Threads: any.
#pragma once

#include "blobfs/open_inode.h"
#include "blobfs/readahead.h"

#include <span>

namespace basalt::blobfs {

// Bytes read; short only at the end of the file.
Result<size_t> read_file(Core& core, OpenInode& inode, Readahead& readahead, uint64_t offset,
                         std::span<std::byte> out, Caching caching);
void read_file_batch(Core& core, OpenInode& inode, Readahead& readahead,
                     std::span<ReadRequest> requests, Caching caching);
// Brings the pages of [offset, end) into the cache, as far as they are on the device.
Status load_pages(Core& core, OpenInode& inode, uint64_t offset, uint64_t end);

// What of [offset, offset + out.size()) can be had at once: copies the part in the tail, and returns
// where the rest (which is on the device) ends. `out` is within the file.
uint64_t read_tail(OpenInode& inode, uint64_t offset, std::span<std::byte> out);
// [offset, offset + out.size()) from the device; the range is below tail_begin.
Status read_device(Core& core, OpenInode& inode, uint64_t offset, std::span<std::byte> out);

}  // namespace basalt::blobfs
