// BlobStore::Impl: the parts of an open store and the locks between them.
//
// Lock order: checkpoint_mutex, then meta, then the journal's own mutex; a Blob's map_lock is taken
// last. `meta` guards pages, state, superblock, the table of open blobs and the lists of freed space;
// it is not held while a transaction waits for durability nor while a checkpoint writes. Page faults
// of the metadata cache read under it.
#pragma once

#include "base/sync.h"
#include "blob/blob_store.h"
#include "blob/discard_queue.h"
#include "blob/journal.h"
#include "blob/page_store.h"
#include "blob/state.h"
#include "blob/superblock.h"

#include <atomic>
#include <deque>
#include <unordered_map>

namespace basalt::blob {

// Of recorded blocks, exchanged by one transaction; and the most clusters that can take, with parts of clusters at
// both ends.
inline constexpr uint64_t kMaxExchangedBytes = 256 * 1024;
inline uint64_t max_exchanged_clusters(uint64_t cluster_bytes) {
  return kMaxExchangedBytes / cluster_bytes + 2;
}

struct BlobStore::Impl final : Journal::Hooks, Transaction::ReservationKeeper, DeviceListener {
  Impl(Context& ctx, Device& dev, const StoreOptions& opts, const Superblock& sb);
  ~Impl() override;

  // ---- Bring-up (open.cc)
  Status load();
  Status replay(Channel& channel);
  Status become_writer(Channel& channel, bool replayed);
  bool may_mend();

  // ---- Checkpoints (checkpoint.cc)
  // Seals everything applied so far: the pages to write, and a superblock that names them, but for its generation
  // and where the journal goes on. Meta held.
  Result<Superblock> seal_state(std::vector<FrozenPage>& frozen);
  // Writes everything applied so far; two flips make both superblocks say so.
  Status checkpoint();
  Status flip_again(Channel& channel);
  Status check_owner(Channel& channel);
  void post_checkpoint_if_due();  // meta held

  // ---- Verification (verify.cc)
  Status verify_page_map(uint64_t& bytes);
  Status verify_superblocks(uint64_t& bytes);

  // ---- Transactions (blob_store.cc)
  // Finds the metadata region roomy enough for the transaction, or makes it so; `lock` is of `meta`.
  // Also finds what is wrong with the transaction.
  Status make_metadata_room(std::span<const std::byte> operations, bool only_frees,
                            MutexLock& lock);
  void note_unwritten(Ticket ticket, const std::vector<Effect>& effects);
  void publish(Ticket ticket, const std::vector<Effect>& effects, std::vector<Blob*>& to_drain);
  // Freed space (space.cc)
  void release_durable(Ticket ticket);  // meta held
  void release_range(uint64_t first_cluster, uint64_t count);
  bool wait_for_space(MutexLock& lock);  // `lock` is of `meta`
  // Free clusters that only exchanges may have, so that a full store can be overwritten.
  uint64_t clusters_kept() const {
    return state.data_checksums ? max_exchanged_clusters(superblock.cluster_bytes) : 0;
  }
  void discard_released();
  Status health();
  void poison(const Status& status);  // meta held
  Status check_device();              // device_removed if judge() says so of everything

  // DeviceListener
  void on_event(Device&, DeviceEvent event) override;
  // Journal::Hooks
  StatusCode judge(StatusCode code) override;
  void on_durable(Ticket ticket) override;
  Status make_room() override { return checkpoint(); }
  void on_failure(const Status& status) override;
  // Transaction::ReservationKeeper
  void give_back(std::span<const Transaction::Reservation> reservations) override;

  Context& context;
  Device& device;
  const StoreOptions options;
  ChannelPool pool;
  StoreIdentity identity;
  std::vector<std::string> notes;

  Mutex checkpoint_mutex;
  Mutex meta;
  Superblock superblock;                // as last flipped in
  uint64_t older_journal_position = 0;  // the other superblock's
  PageStore pages;
  State state;
  Ticket last_ticket;
  Status failure;
  bool closing = false;
  bool owner_recorded = false;  // our open id is in the newest superblock
  // The last transaction that made written blocks unwritten: until it is durable, they are written after a crash.
  std::atomic<uint64_t> unwritten_ticket{0};
  // The device has been away, if only for a moment: what its cache held may be gone. Whatever the answers of a
  // device that has returned, nothing becomes durable any more. Set for good.
  std::atomic<bool> device_lost{false};

  struct Freed {
    Ticket ticket;
    uint64_t first_cluster, count;
  };
  std::deque<Freed> freed;  // in ticket order, waiting for durability
  DiscardQueue to_discard;
  unsigned exchanges =
      0;  // that have got their new clusters, and will free as many or give them back
  bool discarding = false;  // a range taken from to_discard is at the device
  std::unordered_map<BlobId, std::unique_ptr<Blob>> open_blobs;
  TransactionKeeper* keeper = nullptr;

  std::unique_ptr<Journal> journal;  // none when opened for reading
  BackgroundTask checkpoint_task;
  BackgroundTask discard_task;
  uint64_t checkpoints = 0, transactions = 0;
};

// Both copies of every page, in device order, neighbours joined into larger writes; not yet flushed. Sorts
// `frozen`.
Status write_pages(PageStore& pages, ChannelPool& pool, std::vector<FrozenPage>& frozen);

// Whether this version knows enough to open the store so.
Status check_features(const Superblock& superblock, OpenMode mode);

// Shared by open() and the read-only tools: the store's state without taking it over.
Result<std::unique_ptr<BlobStore::Impl>> open_impl(Context& context, Device& device,
                                                   const StoreOptions& options);

}  // namespace basalt::blob
