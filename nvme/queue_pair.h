// QueuePair: commands on their way to one controller, and what became of them.
//
// Knows commands and their ids, not how they travel: a CommandQueue below puts them on a ring in memory
// (pcie_queue.h) or on a connection. The caller owns a Request and lends it from submit() until its `done`
// runs, exactly once, from poll() or wait(); `done` may submit, and reuse its own Request; it must not poll.
// submit() only queues; poll() rings the doorbell once for all queued commands and completes what finished.
// More than the queue holds waits in a list.
//
// A command's place is not given out again before the command has completed: one whose time is up is aborted,
// and if that does not help the controller is reset, after which it touches no memory of ours. Only then is
// the Request given back. An id is its place and, above it, a number that changes with every use: a completion
// that comes twice, names an id nobody waits for, or another queue, is counted, logged and ignored.
// What fails without "do not retry", and what a reset took away, is sent again if repeating it is harmless
// (is_repeatable in queue_pair.cc), after the delay the controller asks for; else it completes with an error. What may
// move to another controller (multipath.h) comes back as soon as this one is down; if it was sent, once that cannot
// be acted on any more.
//
// Invariants (check_invariants): places free and in use make the depth; each in use has its Request, posted.
// Threads: one at a time per QueuePair, which may move between threads.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>
#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mem/memory_map.h"
#include "nvme/unflushed_writes.h"
#include "wire/nvme/command.h"
#include "wire/nvme/status.h"

namespace basalt::nvme {

struct Request {
  // Set by the caller; cid and data pointer of `command` are the queue's.
  Command command;
  std::span<const iovec> data;    // in registered memory, or the controller's own
  std::span<std::byte> metadata;  // one piece, or none
  void (*done)(Request& request) = nullptr;
  void* user = nullptr;
  Duration timeout{};  // zero: the queue's
  // Comes back with `elsewhere` when its controller is down, or says that it does not reach the namespace.
  bool may_move = false;

  // Valid from done() until the next submit(). `status` is what the caller acts on; `completion` is what the
  // controller said, all zero when it said nothing.
  StatusCode status = StatusCode::ok;
  Completion completion;
  // It failed, and this controller has not carried it out and never will, or repeating it is harmless.
  bool elsewhere = false;

  // The queue's while it borrows the Request.
  Request* next = nullptr;
  Duration due{};  // in flight: when its time is up; to be sent again: when
  uint8_t attempts = 0;
  uint8_t memory_phase = 0;
  bool expired = false;
  uint64_t flush_number = 0;
};

// Requests that wait, first in, first out.
struct RequestList {
  Request* first = nullptr;
  Request* last = nullptr;
  void push(Request& request) noexcept {
    request.next = nullptr;
    (last != nullptr ? last->next : first) = &request;
    last = &request;
  }
  Request* pop() noexcept {
    Request* request = first;
    if (request == nullptr) return nullptr;
    first = request->next;
    if (first == nullptr) last = nullptr;
    return request;
  }
};

// The transport's half of a queue pair.
class CommandQueue {
 public:
  virtual ~CommandQueue() = default;
  CommandQueue(const CommandQueue&) = delete;
  CommandQueue& operator=(const CommandQueue&) = delete;

  // Commands that can be outstanding.
  virtual uint16_t depth() const = 0;
  // Places the command under `cid`; `slot`, below depth(), is its alone until it completes. invalid_argument:
  // its data is in memory the controller cannot reach, or in pieces it cannot be told of.
  virtual StatusCode post(uint16_t slot, uint16_t cid, const Request& request) noexcept = 0;
  // Tells the controller of everything posted.
  virtual void ring() noexcept = 0;
  // Takes completions off, as many as fit into `out`.
  virtual unsigned reap(std::span<Completion> out) noexcept = 0;
  // Sleeps until there may be something to reap, or `limit` passes, or for no reason.
  virtual void sleep(Duration limit) noexcept = 0;
  // Readable when there may be something to reap; -1: found by polling only.
  virtual int event_fd() const = 0;

 protected:
  CommandQueue() = default;
};

// The controller as its queue pairs see it.
class ControllerLink {
 public:
  virtual ~ControllerLink() = default;

  // Changes when the controller goes down (odd) and when it is up again (even).
  std::atomic<uint32_t> epoch{0};
  static constexpr uint32_t kGone = ~uint32_t{0};  // down for good
  // The epoch, of those in which it is down, in which nothing that was sent before can be acted on any more.
  std::atomic<uint32_t> settled_in{0};

  // Where queues note what they have written; null: nobody asks.
  UnflushedWrites* unflushed = nullptr;

  // A command has not been answered in time: has it aborted, or, if that was asked for before, resets the
  // controller. Returns at once.
  virtual void expired(uint16_t queue_id, uint16_t cid, bool aborted_before) = 0;
  // After a reset: makes the queue anew, and says in which epoch. May take as long as two admin commands. busy: not now,
  // ask again.
  virtual Result<std::unique_ptr<CommandQueue>> renew(uint16_t queue_id, uint32_t& made_in) = 0;
  // The queue pair goes: the controller is to forget its queues, which were made in epoch `made_in`.
  virtual void close(uint16_t queue_id, uint32_t made_in) noexcept = 0;
  // How long to wait before what failed with this status is sent again.
  virtual Duration retry_delay(CompletionStatus status) const = 0;
  // Takes back what made the queue's event readable without there being anything to reap.
  virtual void settle(uint16_t) noexcept {}
  // What requests complete with once the controller is down for good.
  virtual StatusCode gone_status() const = 0;

 protected:
  ControllerLink() = default;
};

struct QueuePairOptions {
  uint16_t id = 0;
  Duration timeout = std::chrono::seconds(30);  // of a command, unless it has its own
  Duration abort_grace =
      std::chrono::seconds(5);  // from asking for its abort to asking for a reset
  uint8_t max_attempts = 5;     // of a command that may be sent again
};

struct QueuePairCounters {
  uint64_t completed = 0;
  uint64_t retried = 0;
  uint64_t expired = 0;
  uint64_t stray = 0;  // completions nobody waited for
};

class QueuePair {
 public:
  QueuePair(const QueuePairOptions& options, ControllerLink& link,
            std::unique_ptr<CommandQueue> queue, MemoryMap& memory, Clock& clock, LogSink& log);
  // Nothing is outstanding; tells the link that the queue is not used any more.
  ~QueuePair();
  QueuePair(const QueuePair&) = delete;
  QueuePair& operator=(const QueuePair&) = delete;

  // Of two fused commands the second is submitted right after the first, with no poll() between them.
  void submit(Request& request) noexcept;
  // Sends what is queued, completes what has finished; how many Requests completed. Never sleeps, except
  // after a reset, when the queue is made anew.
  unsigned poll() noexcept;
  // poll(), then sleeps until something completes or `timeout` passes.
  unsigned wait(Duration timeout) noexcept;
  // The two halves of wait(): rings the doorbell, completes nothing; the same, then sleeps until there may be
  // something to poll() for, or `timeout` passes, or a tenth of a second.
  void send() noexcept;
  void sleep(Duration timeout) noexcept;
  // Takes back a wake-up that was not for a completion; poll() does so too.
  void settle() noexcept { link_.settle(options_.id); }
  // For event loops, as CommandQueue::event_fd().
  int event_fd() const { return queue_ ? queue_->event_fd() : -1; }

  uint16_t id() const { return options_.id; }
  uint16_t depth() const { return static_cast<uint16_t>(in_use_.size()); }
  // Commands are sent at once: the controller is up, and the queue as new as it. Else poll() works on that.
  bool usable() const noexcept {
    return queue_ != nullptr && epoch_ == link_.epoch.load(std::memory_order_relaxed);
  }
  unsigned outstanding() const { return outstanding_; }
  const QueuePairCounters& counters() const { return counters_; }
  bool check_invariants() const;

 private:
  static constexpr uint8_t kNoMemory = 0xff;

  bool has_room(const Request& request) const noexcept;
  bool post(Request& request) noexcept;
  void post_waiting() noexcept;
  bool complete(const Completion& completion) noexcept;
  bool note_kept(const Request& request) noexcept;
  Request& take(uint16_t slot) noexcept;
  void enter_memory(Request& request) noexcept;
  void leave_memory(Request& request) noexcept;
  void give_back(Request& request, StatusCode status) noexcept;
  bool try_again(Request& request, CompletionStatus status) noexcept;
  unsigned give_back_failed() noexcept;
  unsigned catch_up() noexcept;
  unsigned resend_lost() noexcept;
  static bool can_go_elsewhere(const Request& request) noexcept;
  unsigned move_elsewhere(bool settled) noexcept;
  unsigned give_back_all(StatusCode status) noexcept;
  void watch(Duration now) noexcept;
  void report_stray(const Completion& completion) noexcept;

  const QueuePairOptions options_;
  ControllerLink& link_;
  std::unique_ptr<CommandQueue> queue_;
  Clock& clock_;
  LogSink& log_;
  MemoryUser memory_user_;
  uint32_t epoch_;
  unsigned slot_bits_;
  std::vector<Request*> in_use_;  // by slot; null: free
  std::vector<uint16_t> ids_;     // by slot: the id it has, or had last
  std::vector<uint16_t> free_;    // slots
  RequestList waiting_;           // for a free slot, or for the controller to come back
  RequestList delayed_;           // to be sent again at `due`
  RequestList failed_;            // refused by submit(); `done` is due
  unsigned outstanding_ = 0;      // Requests borrowed
  unsigned polls_ = 0;
  uint32_t hopeless_in_ =
      0;  // the epoch in which there is no queue for it, for the reason below; 0: none
  StatusCode hopeless_for_ = StatusCode::ok;
  QueuePairCounters counters_;
  std::array<Completion, 64>
      reaped_;  // poll()'s: to clear so much at each would be a fifth of its time
};

}  // namespace basalt::nvme
