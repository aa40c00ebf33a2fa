// Reactor: one thread's event loop over descriptors, polled sources, timers and calls from other threads.
//
// A server's connections and its channels to devices live on reactors: everything that belongs to one is touched by its
// thread alone, so nothing of it needs a lock. While there is work the loop never sleeps; without any it goes on looking
// for a moment, which grows when sleeps turn out short and shrinks when the looking was for nothing, and then sleeps
// until a descriptor, a timer or another thread has something. An idle reactor uses no processor time.
//
// Threads: create(), the destructor, post(), run() and stats() are anybody's; the rest is the reactor's own, from within
// a call it makes.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>
#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "base/unique_fd.h"

namespace basalt {

struct ReactorOptions {
  std::string name = "reactor";  // of its thread
  int core = -1;                 // the one it runs on; -1: any
  // How long it looks for work, at most, before it sleeps. Zero: it sleeps at once.
  Duration longest_look = std::chrono::microseconds(200);
};

// What a reactor has done since its beginning.
struct ReactorStats {
  uint64_t loops = 0;
  uint64_t sleeps = 0;
  Duration busy{};     // in loops that found work
  Duration looking{};  // in loops that found none
  Duration asleep{};
  Duration look{};  // how long it looks at present before it sleeps
};

class Reactor {
 public:
  // Told when a descriptor is ready.
  class Handler {
   public:
    virtual void on_ready(uint32_t events) noexcept = 0;

   protected:
    ~Handler() = default;
  };
  // A descriptor and who is told of it. The owner takes it off (unwatch()) before he destroys it.
  struct Watch {
    int fd = -1;
    Handler* handler = nullptr;
  };

  // Asked in every loop.
  class Poller {
   public:
    // How many pieces of work were done.
    virtual unsigned poll() noexcept = 0;
    // The reactor is about to sleep: work that comes from now on makes a watched descriptor ready. False: it may come
    // unannounced, and the reactor must go on asking.
    virtual bool arm() noexcept = 0;

   protected:
    ~Poller() = default;
  };

  struct Timer {
    std::function<void()> expired;
    Duration due{};  // meaningful while it is set
    bool set = false;
  };

  // Errors: no_space (descriptors), invalid_argument (the core is not there).
  static Result<std::unique_ptr<Reactor>> create(Clock& clock, const ReactorOptions& options);
  // The thread ends; calls that were posted are made. Nothing may be watched or polled any more.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Has `call` made by the reactor's thread, soon, in the order of posting.
  void post(std::function<void()> call);
  // The same, and waits until it was made. Not from the reactor's own thread.
  void run(const std::function<void()>& call);
  ReactorStats stats() const;
  const std::string& name() const { return options_.name; }

  // `events` as epoll's, level-triggered. Errors: no_space.
  Status watch(Watch& watch, int fd, uint32_t events, Handler& handler);
  void rewatch(Watch& watch, uint32_t events);
  // No call for it comes any more, not even for what was found ready already.
  void unwatch(Watch& watch);
  void add(Poller& poller);
  void remove(Poller& poller);
  // A timer that is set already is set anew.
  void set(Timer& timer, Duration delay);
  void cancel(Timer& timer);
  // As of the beginning of this loop.
  Duration now() const { return now_; }

 private:
  static constexpr int kEvents = 64;

  Reactor(Clock& clock, const ReactorOptions& options, UniqueFd epoll, UniqueFd wake);
  void loop();
  unsigned make_posted_calls();
  unsigned expire_timers();
  unsigned poll_all();
  unsigned take_events(Duration timeout);
  bool arm_all();
  void sleep();
  void adapt(Duration slept);

  Clock& clock_;
  const ReactorOptions options_;
  const Duration started_;
  const UniqueFd epoll_, wake_;
  std::vector<Poller*> pollers_;
  size_t next_poller_ = 0;  // the one to be asked next, while they are asked
  std::set<std::pair<Duration, Timer*>> timers_;
  std::array<epoll_event, kEvents> events_{};
  std::span<epoll_event> untold_;  // found ready, its handler not told yet
  Duration now_{};
  Duration look_{};  // at present

  std::atomic<bool> stop_{false}, sleeping_{false}, has_posted_{false};
  Mutex mutex_;  // protects posted_
  std::vector<std::function<void()>> posted_;
  struct Counters {
    std::atomic<uint64_t> loops{0}, sleeps{0};
    std::atomic<int64_t> busy{0}, looking{0}, look{0};
  } counters_;
  Thread thread_;
};

}  // namespace basalt
