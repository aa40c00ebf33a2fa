// OpenInode: a file as it stands in memory, one per file however many handles; and the table of them.
//
// All handles of a file share its OpenInode: the record as last applied to the catalog, the bytes at its
// end that are still in memory, how far the device has them, and the first error. An OpenInode lives while
// somebody holds an InodeRef; the last reference to a file without names deletes its blob.
//
// The writing role. `writing` is taken under the mutex by whoever writes the file's data to the device
// (write-behind, sync, truncate, …) and kept while the mutex is released for the I/O: there is one writer per
// file at a time, appends go on beside it. `changed` tells that the role is free again.
//
// Invariants (check_invariants): written <= size; tail empty or tail.end() == size and
// tail.begin() <= written; tail_begin == (tail empty ? size : tail.begin()).
// Threads: any; the lock order is in core.h.
#pragma once

#include "base/sync.h"
#include "blob/blob_store.h"
#include "blobfs/append_tail.h"
#include "blobfs/core.h"
#include "blobfs/inode.h"
#include "blobfs/log_format.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace basalt::blobfs {

class OpenInode {
 public:
  OpenInode(Core& core, uint64_t id, const InodeRecord& record);
  ~OpenInode();

  const uint64_t id;
  const InodeKind kind;
  const LogShape shape;  // logs

  // Read without the mutex. Bytes at or beyond tail_begin are in `tail`, those below on the device.
  std::atomic<uint64_t> size{0};
  std::atomic<uint64_t> tail_begin{0};
  std::atomic<uint64_t> modified_us{0};
  std::atomic<uint64_t> cache_generation{0};
  // The blob, once opened; then constant until the inode goes.
  std::atomic<blob::Blob*> data{nullptr};

  Mutex mutex;
  CondVar changed;

  // ---- Guarded by mutex
  InodeRecord record;  // as last applied
  blob::BlobRef blob;
  AppendTail tail;
  uint64_t written = 0;    // bytes below are on the device, perhaps in its cache
  uint64_t durable = 0;    // bytes below are on stable media (logs)
  uint64_t allocated = 0;  // blob bytes mapped without a gap from the end of the file on
  bool allocated_known = false;
  bool writing = false;
  bool unflushed = false;        // logs: written to since the last flush
  uint64_t changes = 0;          // tables: changes other than appends …
  uint64_t recorded = 0;         // … and how many of them the record covers
  bool record_on_flush = false;  // tables: a change is in no memory that survives the process
  bool no_async = false;         // space is being taken away: reads are not left in flight
  bool end_known = true;         // logs: false until the end was searched for
  bool unlinked = false;         // has no name; the blob goes with the last reference
  bool displaced = false;      // logs, alternating tail: the newest partial block lies one further
  unsigned writers = 0;        // handles open for writing
  blob::Ticket meta_ticket;    // last transaction sync() has to wait for
  blob::Ticket epoch_ticket;   // logs: durable before the first write in this epoch
  bool epoch_pending = false;  // logs: that was not waited for yet
  blob::Ticket cut_ticket;     // tables: the truncation to make durable before the next write
  Status error;                // first failed write; sticky
  Status damage;               // synced bytes are missing
  BackgroundTask write_behind;
  bool write_behind_posted = false;
  uint64_t write_behind_to = 0;  // bytes below are wanted on the device, in the background
  bool synced = false;           // logs: somebody wants this one on the device as it grows
  uint64_t aged = 0;            // logs: bytes below were there at the last tick of LogWriteback …
  bool close_deferred = false;  // … which is to close it, as its last writer has gone
  std::vector<std::span<const std::byte>> spans;  // scratch of the writing role

  // Asynchronous reads on the device; they end before space is taken away.
  std::atomic<unsigned> reads_in_flight{0};

  // ---- Helpers; the mutex is held
  // Opens the blob if that was not done.
  Status open_data(Core& core);
  // tail_begin and size follow the tail.
  void publish_tail();
  // Waits for the writing role and takes it; `lock` holds the mutex.
  void take_role(MutexLock& lock);
  void drop_role();
  // The record with time and length as they are now.
  InodeRecord current_record(uint64_t length) const;
  // Remembers the first failure.
  Status fail(Status status);
  void touch(Core& core) { modified_us.store(core.now_us(), std::memory_order_relaxed); }
  // Logs: whether a whole block is not on the device.
  bool has_whole_block() const {
    return size.load(std::memory_order_relaxed) / shape.payload() > written / shape.payload();
  }
  bool check_invariants();

 private:
  friend class InodeTable;
  Core& core_;
  unsigned references_ = 0;  // under the table's mutex
};

class InodeTable;

// Counted reference to an OpenInode.
class InodeRef {
 public:
  InodeRef() = default;
  InodeRef(const InodeRef& other);
  InodeRef(InodeRef&& other) noexcept
      : table_(other.table_), inode_(std::exchange(other.inode_, nullptr)) {}
  InodeRef& operator=(InodeRef other) noexcept {
    std::swap(table_, other.table_);
    std::swap(inode_, other.inode_);
    return *this;
  }
  ~InodeRef() { reset(); }
  void reset();
  explicit operator bool() const { return inode_ != nullptr; }
  OpenInode& operator*() const { return *inode_; }
  OpenInode* operator->() const { return inode_; }
  OpenInode* get() const { return inode_; }

 private:
  friend class InodeTable;
  InodeRef(InodeTable* table, OpenInode* inode) : table_(table), inode_(inode) {}
  InodeTable* table_ = nullptr;
  OpenInode* inode_ = nullptr;
};

class InodeTable {
 public:
  explicit InodeTable(Core& core) : core_(core) {}
  ~InodeTable();

  // The inode in memory, or loaded from the catalog. The caller keeps its names from going meanwhile
  // (names lock), so that a file without names is not found again.
  Result<InodeRef> acquire(uint64_t id);
  // A file just made, by the transaction of this ticket: not in the catalog yet.
  InodeRef adopt(uint64_t id, const InodeRecord& record, blob::Ticket made_by);
  // Every inode in memory, for sync_all().
  std::vector<InodeRef> all();
  size_t size();

 private:
  friend class InodeRef;
  void add_reference(OpenInode* inode);
  void release(OpenInode* inode);

  Core& core_;
  Mutex mutex_;
  std::unordered_map<uint64_t, std::unique_ptr<OpenInode>> inodes_;
};

}  // namespace basalt::blobfs
