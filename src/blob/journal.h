// Journal: transactions on their way to the device, in a ring, by group commit.
//
// append() queues a transaction; whoever wants durability either waits (wait) or leaves a waiter
// (when_durable). One record is in flight at a time: it takes all that queued up meanwhile. A record
// that makes data readable is preceded by one flush for the whole group; the record itself is written
// with FUA, or followed by a flush where the device has no FUA of its own. Because records never
// overlap in time, everything before a record was durable when it was written (docs/format/journal.md).
//
// There is no journal thread. One waiter at a time takes the driving role: it starts the next record and
// polls the journal's own channel for everybody; an executor task does so for waiters nobody polls for.
// Locking: `mutex_` guards the queue and states; only the driver touches the channel. append() is called
// in ticket order (under the store's metadata lock). The first failed write ends the journal for good.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>

#include "base/sync.h"
#include "blob/aligned_buffer.h"
#include "blob/blob_store.h"
#include "blob/format.h"

#include <deque>
#include <vector>

namespace basalt::blob {

struct JournalGeometry {
  uint64_t first_block = 0;
  uint64_t blocks = 0;
};

// Where the next record goes and what it is called.
struct JournalCursor {
  uint64_t position = 0;
  uint64_t sequence = 1;
};

class Journal {
 public:
  static constexpr size_t kMaxQueuedBytes = size_t{4} << 20;

  struct Hooks {
    virtual ~Hooks() = default;
    // Everything up to `ticket` is durable; called by the driver, outside the journal's lock.
    virtual void on_durable(Ticket ticket) = 0;
    // The ring has no room: write a checkpoint (which makes all queued transactions durable).
    virtual Status make_room() = 0;
    virtual void on_failure(const Status& status) = 0;
    // What a command's answer is worth; takes no lock. Called when a flush or a record's write has completed.
    virtual StatusCode judge(StatusCode code) { return code; }
  };

  Journal(Context& context, Device& device, const Uuid& uuid, JournalGeometry geometry,
          Hooks& hooks);
  ~Journal();
  // `tail`: the oldest position that must stay readable.
  Status start(uint64_t epoch, JournalCursor cursor, uint64_t tail, Ticket durable);

  // Returns how many bytes are queued now: beyond kMaxQueuedBytes the caller should wait for its ticket.
  size_t append(Ticket ticket, std::span<const std::byte> bytes, uint32_t op_count,
                bool needs_flush);
  Status wait(Ticket ticket);
  void when_durable(DurableWaiter& waiter);
  // One non-blocking step, for callers with a loop of their own.
  void poll();
  Ticket durable();

  // For checkpoints. The cursor is where the first record not covered by "all appended so far" goes.
  JournalCursor cursor();
  // Whether transactions up to `covered` are in no record: recovery from before the checkpoint that
  // covers them would miss them.
  bool queues(Ticket covered);
  void checkpointed(Ticket covered, uint64_t tail);
  // Ring blocks written since position `since`.
  uint64_t blocks_since(uint64_t since);
  uint64_t ring_blocks() const { return geometry_.blocks; }
  uint64_t bytes_written();
  uint64_t records_written();
  ChannelStats channel_stats();
  void fail(const Status& status);
  // Waits until no record is in flight.
  void quiesce();

 private:
  struct Queued {
    Ticket ticket;
    uint32_t bytes;
    uint32_t op_count;
    bool needs_flush;
  };
  enum class Phase : uint8_t { idle, flushing, writing };

  void drive_once(MutexLock& lock, Duration timeout);
  void step(MutexLock& lock);
  bool seal_record();
  void submit_write();
  void finish_record(MutexLock& lock);
  void deliver(MutexLock& lock);

  Context& context_;
  Device& device_;
  const Uuid uuid_;
  const JournalGeometry geometry_;
  Hooks& hooks_;
  std::unique_ptr<Channel> channel_;

  Mutex mutex_;
  CondVar changed_;
  bool driving_ = false;
  bool no_room_ = false;
  Status failure_;
  uint64_t epoch_ = 0;
  uint64_t tail_ = 0;
  JournalCursor cursor_;
  Ticket durable_, appended_, wanted_;
  std::deque<Queued> queue_;
  std::vector<std::byte> queued_bytes_;
  size_t queued_from_ = 0;  // bytes before this were sealed or dropped
  DurableWaiter* waiters_ = nullptr;
  BackgroundTask driver_task_;
  uint64_t bytes_written_ = 0, records_written_ = 0;

  // The record in flight; the driver's.
  AlignedBuffer record_;
  size_t record_blocks_ = 0;
  Ticket record_last_;
  bool record_needs_flush_ = false;
  Phase phase_ = Phase::idle;
  unsigned outstanding_ = 0;
  StatusCode io_status_ = StatusCode::ok;
  Io ios_[2];
  iovec vectors_[2];
};

// Reads the ring from `cursor` and calls `replay` for each transaction of each valid record with a
// ticket above `covered`, in order; leaves `cursor` after the last record. corruption when a record
// beyond the end proves that a durable one is missing.
Status recover_journal(Channel& channel, const DeviceInfo& info, const Uuid& uuid,
                       JournalGeometry geometry, uint64_t epoch, JournalCursor& cursor,
                       Ticket& covered,
                       const std::function<Status(Ticket, std::span<const std::byte>)>& replay);

// Whether `bytes` (at least one block) start with a valid record of this journal; its length in bytes
// (header and payload) or 0. Pure: for recovery, tools and fuzzing.
size_t validate_record(std::span<const std::byte> bytes, const Uuid& uuid, uint64_t epoch,
                       uint64_t position);

}  // namespace basalt::blob
