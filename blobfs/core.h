// Core: what the rooms of one mounted file system share.
//
// Owned by the file system (file_system_impl.h) and handed to each room by reference; constant while
// mounted except for the counters.
//
// Lock order of the whole folder, outermost first:
//   1. NameSpace::lock()      names; exclusive for changes
//   2. InodeTable's mutex     which inodes are in memory
//   3. OpenInode::mutex       one file's state; never two at a time
//   4. leaves: SharedTail, PageCache shards, Readahead, AsyncReads, LogWriteback; and the blob store's own locks
// A file's `writing` role (open_inode.h) is taken under its mutex and held while the mutex is released for
// I/O. Device I/O for files and waits for durability happen under none of 1-3, except: changes to names
// and records apply transactions under 1 and 3, which may wait for the journal when its keeper is full.
#pragma once

#include <basalt/context.h>
#include <basalt/file_system.h>

#include "blob/blob_store.h"
#include "blobfs/io_buffers.h"
#include "blobfs/page_cache.h"
#include "blobfs/shared_tail.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace basalt::blobfs {

class AsyncReads;
class LogWriteback;

struct Core {
  Core(Context& context_in, blob::BlobStore& store_in, PageCache& cache_in,
       const MountOptions& options)
      : context(context_in), store(store_in), cache(cache_in) {
    const DeviceInfo& info = store.device().info();
    read_only = options.mode == OpenMode::read_only;
    device_block_bytes = info.block_size;
    table_unit = store.has_data_checksums() ? blob::kBlockBytes : info.block_size;
    cluster_bytes = store.space().cluster_bytes;
    volatile_cache = info.volatile_write_cache;
    atomic_bytes = std::max(options.atomic_write_bytes, info.block_size * info.atomic_write_blocks);
  }

  Context& context;
  blob::BlobStore& store;
  SharedTail* tail = nullptr;  // none: flush() writes to the device
  AsyncReads* reads = nullptr;
  LogWriteback* logs = nullptr;  // none: where nothing is written, or nothing kept in memory
  PageCache& cache;
  IoBuffers buffers;
  bool read_only = false;
  bool volatile_cache = true;
  uint32_t device_block_bytes = 0;
  uint32_t table_unit = 0;  // tables are read from the device in multiples of this
  uint64_t cluster_bytes = 0;
  uint32_t atomic_bytes =
      0;  // the device writes so many bytes, aligned, in one piece or not at all

  // Ticket of the last change to names: any later sync() covers it.
  std::atomic<uint64_t> names_ticket{0};
  std::atomic<uint64_t> log_syncs{0}, log_blocks_written{0};

  uint64_t now_us() {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(context.clock().wall_now()).count());
  }
  // What `ticket` changed survives the death of the process: kept in the tail, or else durable.
  Status survive_process(blob::Ticket ticket) {
    return tail != nullptr ? Status{} : store.wait_durable(ticket);
  }
  void note_names(blob::Ticket ticket) {
    uint64_t known = names_ticket.load(std::memory_order_relaxed);
    while (known < ticket.value && !names_ticket.compare_exchange_weak(known, ticket.value)) {
    }
  }
  // Durable: `ticket`, and every change to names so far. Free when nothing is left to do.
  Status sync_metadata(blob::Ticket ticket) {
    ticket = std::max(ticket, blob::Ticket{names_ticket.load()});
    if (store.durable_ticket() >= ticket) return {};
    return store.wait_durable(ticket);
  }
};

}  // namespace basalt::blobfs
