// BlobStore: blobs, their extents and a catalog on one device, changed only by transactions.
//
// A blob is a sparse array of 4 KiB blocks with a size in bytes and small attributes; a catalog is an
// ordered map of small keys and values. All of it changes by Transaction: apply() makes a transaction
// visible in memory at once and hands it to the journal; it is durable when wait_durable() of its
// ticket returns, or when the done function given to when_durable() runs. Formats: docs/format/.
//
//   Transaction txn;
//   BlobId id = store.new_blob_id();
//   txn.create_blob(id, {});
//   BASALT_TRY(store.allocate(txn, id, BlockRange{0, 256}));   // reserves space; fallible part first
//   txn.catalog_put("name", "value");
//   BASALT_TRY_ASSIGN(Ticket ticket, store.apply(txn));
//   BASALT_TRY(store.wait_durable(ticket));
//
// Threads: every member may be called from any thread. A Blob's data path (read, write) takes no lock
// shared between blobs. Transactions are applied one after another in ticket order; callers that read
// state to decide on a transaction keep others out by their own lock.
// Failure: when a journal or checkpoint write fails, or the device has been away, the store turns read-only for
// good and every later apply() and wait_durable() reports the first error.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/status.h>
#include <basalt/units.h>

#include "blob/channel_pool.h"
#include "blob/checksum_map.h"
#include "blob/extent_map.h"
#include "blob/io_gate.h"
#include "blob/transaction.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::blob {

// Orders transactions; 0 is "nothing". A later transaction has a larger ticket.
struct Ticket : Quantity<Ticket> {
  using Quantity::Quantity;
};

struct FormatOptions {
  uint32_t cluster_bytes = 65536;  // a power of two, 16 KiB … 1 MiB
  uint64_t journal_bytes = 0;      // 0: device size / 128, within 1 MiB … 64 MiB
  uint64_t metadata_bytes = 0;     // per copy; 0: device size / 64, 2 MiB … 64 GiB
  std::string label;
  bool force = false;  // overwrite what probe() recognises
  bool data_checksums =
      false;  // blobs may be created with checksums; older versions refuse the store
};

struct StoreIdentity {
  std::array<std::byte, 16> uuid{};
  std::array<std::byte, 16> open_id{};  // of this opening; random, durable in both superblocks
  // What the superblocks said before this opening: the tail of that open id may be replayed.
  std::array<std::byte, 16> previous_open_id{};
  std::string previous_boot_id;
  bool previous_open_was_writer = false;  // and did not close
  bool previous_open_has_tail = false;    // then a tail ought to exist
  uint64_t epoch = 0;                     // of this opening; larger than any before
};

struct StoreOptions {
  OpenMode mode = OpenMode::read_write;
  uint64_t metadata_cache_bytes = uint64_t{64} << 20;
  bool discard = false;
  uint64_t discard_bytes_per_second = uint64_t{1} << 30;  // 0: no limit
  unsigned max_channels = 64;                             // channel stacks for blocking I/O
  // What is kept in memory for this store survives the process: recorded for the next opening.
  bool has_tail = true;
  // Called when recovery has succeeded and before the store is taken over: nothing is written yet, the
  // superblocks still name the opening before. What must be found under the new open id by whoever
  // recovers from this opening is made here. An error ends open() and leaves the store as it was.
  std::function<Status(const StoreIdentity& identity)> before_takeover;
};

struct StoreSpace {
  uint64_t cluster_bytes = 0, cluster_count = 0, free_clusters = 0;
  uint64_t kept_clusters = 0;  // of those: for overwriting alone, see write()
  uint64_t metadata_pages = 0, free_metadata_pages = 0;
};

struct StoreStats {
  uint64_t transactions = 0, commits = 0, journal_bytes = 0, checkpoints = 0;
  uint64_t damaged_copies_used = 0;
};

struct BlobInfo {
  uint64_t size_bytes = 0;
  uint64_t allocated_blocks = 0;
  uint32_t flags = 0;
  BlobId parent;
};

// An asynchronous request for durability; owned by the caller until `done` runs (on whichever thread
// polls the journal). `done` must not block.
struct DurableWaiter {
  Ticket ticket;
  void (*done)(DurableWaiter& waiter, const Status& status) = nullptr;
  void* user = nullptr;
  DurableWaiter* next = nullptr;
};

class BlobStore;

// An open blob: its extents in memory, shared by everyone who opened it. I/O that uses extents is
// inside `gate`, so that space taken away is not reused before that I/O has left.
class Blob {
 public:
  BlobId id() const { return id_; }
  // For I/O done outside BlobStore::read/write with addresses from BlobStore::extents().
  IoGate& gate() { return gate_; }
  bool has_checksums() const { return has_checksums_; }

 private:
  friend class BlobStore;
  BlobId id_;
  uint32_t references_ = 0;     // under the store's metadata lock
  bool has_checksums_ = false;  // constant
  IoGate gate_;
  // Of a blob with checksums: one write at a time, and whoever must not read beside one. Taken before
  // every other lock, outside the gate.
  Mutex write_mutex_;
  SharedMutex map_lock_;  // guards extents_ and checksums_; never held during I/O
  ExtentMap extents_;
  ChecksumMap checksums_;
};

// Counted reference to an open blob.
class BlobRef {
 public:
  BlobRef() = default;
  BlobRef(BlobRef&& other) noexcept : store_(other.store_), blob_(other.blob_) {
    other.blob_ = nullptr;
  }
  BlobRef& operator=(BlobRef&& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(blob_, other.blob_);
    return *this;
  }
  ~BlobRef();
  explicit operator bool() const { return blob_ != nullptr; }
  Blob& operator*() const { return *blob_; }
  Blob* operator->() const { return blob_; }

 private:
  friend class BlobStore;
  BlobRef(BlobStore* store, Blob* blob) : store_(store), blob_(blob) {}
  BlobStore* store_ = nullptr;
  Blob* blob_ = nullptr;
};

// How a transfer treats blocks that were allocated but never recorded as written.
enum class Unwritten : uint8_t {
  zeros,  // they read as zeros; writing them makes them pending until the next mark_written
  raw,    // whatever the device holds: only for self-checking content (logs)
};

struct BlobRead {
  uint64_t offset = 0;          // bytes; a multiple of the device block size
  std::span<std::byte> buffer;  // length likewise
  StatusCode status = StatusCode::ok;
  uint64_t damaged_at = 0;  // with corruption: byte of the first block that did not verify
};

class BlobStore {
 public:
  // Makes an empty store. already_exists, naming what is there, when the device holds something
  // known, unless options.force.
  static Status format(Context& context, Device& device, const FormatOptions& options);
  // Opens and recovers. The caller keeps the device and its claim alive.
  static Result<std::unique_ptr<BlobStore>> open(Context& context, Device& device,
                                                 const StoreOptions& options);
  ~BlobStore();
  // Waits for I/O, writes a checkpoint, records a clean end; returns the first error.
  Status close();
  // Lets go without writing anything more, as the death of the process would; then destroy the store.
  void abandon();

  const StoreIdentity& identity() const;
  const std::vector<std::string>& recovery_notes() const;
  StoreSpace space();
  StoreStats stats();
  Device& device();
  bool has_data_checksums() const;
  // Leased stacks for blocking I/O; also sums device counters.
  ChannelPool& channels();
  // ok, or why the store no longer accepts transactions.
  Status health();
  // Whether the device has been away since the store was opened: what it had not made durable may be gone,
  // although nobody's process or machine has died.
  bool device_was_away() const;

  // ---- Transactions
  BlobId new_blob_id();
  // The ticket the next apply() will give, the last given, and the last known durable.
  Ticket last_ticket();
  Ticket durable_ticket();
  // Makes `txn` visible and queues it for the journal. too_large beyond Transaction::kMaxBytes;
  // no_space when the metadata region is full (transactions that only free are let into the reserve).
  // On error nothing has changed and space reserved by allocate() is given back.
  Result<Ticket> apply(Transaction& txn);
  // Durable, with the data of every write completed before apply(): one flush (if the transaction
  // needs one) and one journal write, shared by everybody waiting.
  Status wait_durable(Ticket ticket);
  void when_durable(DurableWaiter& waiter);
  // Hands each transaction's bytes, as they enter the journal queue, to a keeper (the shared-memory
  // tail); called under the store's lock, in ticket order. `durable` tells that all up to a ticket are
  // on the device and need no keeping.
  struct TransactionKeeper {
    virtual ~TransactionKeeper() = default;
    // False when there is no room: the store then commits what is queued before going on.
    virtual bool keep(Ticket ticket, std::span<const std::byte> bytes) = 0;
    virtual void durable(Ticket ticket) = 0;
  };
  void set_keeper(TransactionKeeper* keeper);
  // Applies bytes a keeper kept, if `ticket` is exactly the next; used right after open.
  Status replay_kept(Ticket ticket, std::span<const std::byte> bytes);

  // ---- Space
  // Adds to `txn` the allocation of every unmapped block of `range` (rounded out to clusters), in as
  // few extents as there are, next to the blob's last extent if possible. no_space changes nothing.
  Status allocate(Transaction& txn, BlobId id, BlockRange range);
  // Adds to `txn` the freeing of whole clusters inside `range` and returns what is left to free
  // (empty when done): one transaction frees a bounded number of extents.
  Result<BlockRange> free_range(Transaction& txn, BlobId id, BlockRange range);
  // Deletes a blob in as many transactions as it takes. The blob must have no open references. Where
  // Transaction::orphan(id) was applied before, an interruption is made good by resume_orphans().
  Status delete_blob(BlobId id);
  // Finishes the deletions that an unclean end interrupted; after replay_kept(), before other work.
  Status resume_orphans();

  // ---- Lookup
  Result<BlobInfo> info(BlobId id);
  Result<std::string> attribute(BlobId id, std::string_view name);
  Result<std::string> catalog_get(std::string_view key);  // not_found
  // Calls `visit` for each entry with key >= from in order, until it returns false. `visit` must not
  // call back into the store.
  Status catalog_scan(
      std::string_view from,
      const std::function<bool(std::string_view key, std::string_view value)>& visit);
  Status for_each_blob(const std::function<bool(BlobId id, const BlobInfo& info)>& visit);

  // ---- Data
  Result<BlobRef> open_blob(BlobId id);
  // Offsets and lengths are multiples of the device's block size; of 4096 in a blob with checksums, whose
  // every block is verified (corruption where it does not fit). Unmapped blocks read as zeros.
  Status read(Blob& blob, uint64_t offset, std::span<std::byte> buffer, Unwritten unwritten);
  // All at device depth; each request has its own status.
  void read_batch(Blob& blob, std::span<BlobRead> reads, Unwritten unwritten);
  // Every block must be allocated (out_of_range says which is not). Blocks written for the first time
  // in part (Unwritten::zeros) must be written whole. In a blob with checksums a recorded block is never
  // overwritten: its clusters are replaced by new ones, of which some are kept for that, by a transaction
  // applied here; and no read that the caller has yet to complete may be in flight, see overwrites_recorded().
  Status write(Blob& blob, uint64_t offset, std::span<const std::byte> bytes, Unwritten unwritten,
               IoFlags flags = {});
  // Whether writing these bytes replaces clusters, and so waits for I/O inside the blob's gate.
  bool overwrites_recorded(Blob& blob, uint64_t offset, uint64_t length);
  // For reads done outside BlobStore::read, just completed: sets `status` and `damaged_at` of one that was
  // ok. A write beside it looks like damage, too: read() again then, which tells them apart.
  void verify(Blob& blob, BlobRead& read);
  // Everything written on any channel before is on stable media.
  Status flush();
  // Adds to `txn` the recording of pending blocks (written, not yet recorded), and marks it as needing
  // a data flush before its journal record. True when some are left for another transaction. A blob with
  // checksums must not be written to before `txn` is applied.
  bool mark_written(Transaction& txn, Blob& blob);
  // Makes `range` unwritten (reads as zeros) where it is mapped.
  void mark_unwritten(Transaction& txn, Blob& blob, BlockRange range);
  // The extents overlapping `range`, in order.
  std::vector<Extent> extents(Blob& blob, BlockRange range);

  // Where verify_metadata() is; a fresh one is at the beginning.
  struct MetadataPosition {
    enum class Part : uint8_t { trees, page_map, superblocks, end };
    Part part = Part::trees;
    unsigned tree = 0;
    std::string key;
  };
  // Reads both copies of the pages of the trees, a leaf and what leads to it at a time, then of the page map, then
  // both superblocks, and moves on; adds to `bytes` what it read. A damaged copy of a page is rewritten from a good
  // one where the store is open for writing; that and a damaged superblock, which the next two checkpoints replace,
  // is noted. False at the end; corruption where both are damaged, and the position
  // is behind it. The journal is not looked at: what lies behind a checkpoint was never meant to be read again.
  Result<bool> verify_metadata(MetadataPosition& position, uint64_t& bytes);

  // Writes a checkpoint now and waits for it.
  Status checkpoint();

  struct Impl;

 private:
  friend class BlobRef;
  explicit BlobStore(std::unique_ptr<Impl> impl);
  void release(Blob* blob);
  // data_io.cc
  void transfer(Blob& blob, std::span<BlobRead> reads, Unwritten unwritten);
  Status write_in_place(Blob& blob, uint64_t offset, std::span<const std::byte> bytes,
                        Unwritten unwritten, IoFlags flags);
  // data_checksums.cc
  Status load_checksums(Blob& blob, BlockRange range);
  std::optional<uint64_t> first_damaged(Blob& blob, uint64_t offset,
                                        std::span<const std::byte> bytes);
  void verify_patiently(Blob& blob, BlobRead& read);
  void note_checksums(Blob& blob, uint64_t first, std::span<const std::byte> bytes);
  static void record_checksums(Transaction& txn, const Blob& blob, BlockRange range);
  Status write_with_checksums(Blob& blob, uint64_t offset, std::span<const std::byte> bytes,
                              IoFlags flags);
  Status wait_durable_unwritten();
  Status exchange(Blob& blob, Transaction& txn, BlockRange range, BlockRange changed,
                  std::span<const Extent> planned, std::span<const std::byte> image);
  Status replace_clusters(Blob& blob, uint64_t offset, std::span<const std::byte> bytes);
  // space.cc
  Status plan_replacement(Transaction& txn, Blob& blob, BlockRange range,
                          std::vector<Extent>& planned);
  void end_replacement();
  std::unique_ptr<Impl> impl_;
};

// Verification, repair and inspection of an unmounted store, for `basalt check` and `basalt dump`.
enum class CheckMode : uint8_t {
  report,  // reads only
  repair,  // rewrites damaged copies from their good twins; the caller has the device to itself
};
struct CheckOptions {
  CheckMode mode = CheckMode::report;
  std::function<void(double fraction)> progress{};
  // Puts a key of the catalog into words, for what is said about those that cannot be read.
  std::function<std::string(std::string_view key)> name_catalog_key{};
};
struct StoreReport {
  // What was rewritten, in `repair`; then `problems` are what remains.
  std::vector<std::string> problems, notes, repairs;
  uint64_t blobs = 0, metadata_pages = 0, catalog_entries = 0;
};
// Fails when nothing could be checked: no usable superblock, or a store this version may not repair.
Result<StoreReport> check_store(Context& context, Device& device, const CheckOptions& options);
Status dump_store(Context& context, Device& device, std::string& out);

// What a device holds, in words ("ext4 file system", "Basalt store 'label' (uuid)"), or nothing if
// nothing known is recognised. Shared by format(), the tools and the plugin.
Result<std::optional<std::string>> probe(Channel& channel, const DeviceInfo& info);

}  // namespace basalt::blob
