// MultipathQueue: a namespace through several controllers of its subsystem, as if they were one queue pair.
//
// A command goes over a path whose controller is up and says it reaches the namespace best (ANA, base specification
// 2.0, §8.1): of those that are optimized, or else of those that are not, in turn or where least is outstanding. A
// path that is lost, or says that it does not reach the namespace now, is left for another: with what was not sent, at
// once; with what was, when the controller there can no longer act on it (tcp/tcp_transport.h: at most twice the
// keep-alive timeout), for a write that is carried out late over a newer one would be silent corruption. What must not
// be repeated, and may have been carried out, fails. While no path serves commands wait, `patience` in all at most.
//
// A flush covers what the controller it goes to has acknowledged; so it goes to each that has acknowledged writes no
// flush has covered, and waits for a path that is down or inaccessible until it serves again. A path given up because
// such writes may be lost fails the whole queue: every later flush would call them safe.
//
// Fused commands go over one path only if there is but one: do not use them here. Threads: as QueuePair.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "nvme/controller.h"
#include "nvme/queue_pair.h"

namespace basalt::nvme {

enum class PathPolicy : uint8_t { round_robin, queue_depth };

class MultipathQueue {
 public:
  struct Options {
    uint32_t nsid = 0;
    PathPolicy policy = PathPolicy::round_robin;
    Duration patience = std::chrono::seconds(60);  // without any path
  };
  // A queue pair of each controller that is up; of the others later, when they are. The controllers outlive it.
  // Errors: those of opening the first, if no controller can be used; no_space if one that is up has no queue pair left.
  // One controller at least.
  static Result<std::unique_ptr<MultipathQueue>> open(std::span<Controller* const> controllers,
                                                      const Options& options, Clock& clock);
  // Nothing is outstanding.
  ~MultipathQueue();
  MultipathQueue(const MultipathQueue&) = delete;
  MultipathQueue& operator=(const MultipathQueue&) = delete;

  // As of QueuePair. poll() may open queues on controllers that have come back, which takes as long as that does.
  void submit(Request& request) noexcept;
  unsigned poll() noexcept;
  unsigned wait(Duration timeout) noexcept;
  void send() noexcept;
  void sleep(Duration timeout) noexcept;
  int event_fd() const { return events_.get(); }
  // Commands that can be with the controllers: of all paths together.
  uint16_t depth() const { return depth_; }
  unsigned outstanding() const { return outstanding_; }
  // How often a command was sent again, by another path if there was one.
  uint64_t moved() const { return moved_; }

 private:
  struct Path {
    Controller* controller;
    std::unique_ptr<QueuePair> pair;  // null: not open yet
    uint32_t access_generation = 0;   // of what follows
    AccessState access = AccessState::inaccessible;
    bool to_flush = false;   // by the flush that is being sent
    Duration rests_until{};  // having refused a command; zero: it serves
    Duration opened_at{};    // before which its queue pair is not tried to be opened again
  };
  // A command of a caller's Request on its way over one path. Of the whole, while it has any: `attempts` counts them,
  // `status` and `completion` are those of the first that failed, and `expired` says that all are to be sent again.
  // Whatever it has: `due` is when it has waited enough; zero: it has not.
  struct Part {
    Request request;
    Request* whole = nullptr;
    MultipathQueue* queue = nullptr;
    Path* path = nullptr;
    Part* next = nullptr;  // free
  };
  enum class Sent : uint8_t { yes, no_room, no_path, hopeless };

  MultipathQueue(const Options& options, Clock& clock, std::vector<Path> paths, UniqueFd events,
                 UniqueFd timer);
  void watch_events(const QueuePair& pair) noexcept;
  Sent dispatch(Request& whole) noexcept;
  Sent dispatch_flush(Request& whole) noexcept;
  void send_part(Request& whole, Path& path) noexcept;
  Path* choose() noexcept;
  bool serves(Path& path) noexcept;
  static bool is_optimized(const Path& path) { return path.access == AccessState::optimized; }
  void part_done(Part& part) noexcept;
  void refused(Part& part) noexcept;
  bool has_waited_enough(Request& whole) noexcept;
  void wait_for_path(Request& whole) noexcept;
  void set_timer(Duration span) noexcept;
  void finish(Request& whole) noexcept;
  void dispatch_waiting() noexcept;
  void look() noexcept;

  const Options options_;
  Clock& clock_;
  const UniqueFd events_;  // epoll: every path's event, and the timer
  const UniqueFd
      timer_;  // for who sleeps while commands lack a path: no event says that one is back
  bool timer_set_ = false;
  std::vector<Path> paths_;
  std::vector<Part> parts_;
  Part* free_ = nullptr;
  unsigned free_count_ = 0;
  RequestList waiting_;      // for a path, or for room
  bool lacks_path_ = false;  // some of them, at the last poll()
  size_t turn_ = 0;          // of the path after the one chosen last
  uint16_t depth_ = 0;
  unsigned outstanding_ = 0;
  unsigned completed_ = 0;  // since poll() began
  unsigned polls_ = 0;
  bool event_ = false;  // something has come, and be it to an idle path
  uint64_t moved_ = 0;
  bool failed_ = false;  // writes may be lost: for good
};

}  // namespace basalt::nvme
