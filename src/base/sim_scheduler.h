// Scheduler: runs many simulated threads on one real thread, in an order that a seed decides.
//
// While run() executes, the types of base/sync.h work on simulated threads: fibers (ucontext) with
// a stack each. Every lock, wait, sleep and yield is a point where the seed picks who runs next.
// Time is virtual: it moves a little with each step, and jumps to the next deadline when nobody can
// run. When nobody can ever run again, run() ends with a description of who waits for whom. The
// same seed and the same program give the same run, step by step; trace_hash() proves it.
//
//   sim::Scheduler scheduler({.seed = 42});
//   const Status status = scheduler.run([&] {
//     Thread other("other", [] { sleep_for(std::chrono::hours(1)); });   // takes no real time
//     other.join();
//   });
//
// What a simulation cannot see: std primitives and atomics used directly, real threads, system
// calls that sleep; and thread_local variables are shared by all its threads. Thread rules:
// everything is called from the real thread that calls run().
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace basalt::sim {

struct SchedulerOptions {
  uint64_t seed = 1;
  unsigned cores = 4;                // current_core() answers below it
  uint64_t max_steps = 100'000'000;  // a run longer than that ends with an error
  bool record_trace = false;         // keep every step, not only their hash
};

enum class WaitKind : uint8_t { none, mutex, shared_mutex, condition, sleep, join };

// One scheduling decision: `thread` goes on, at virtual time `at`.
struct TraceStep {
  uint32_t thread = 0;
  Duration at{};
  bool operator==(const TraceStep&) const = default;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Runs `body` as the simulated thread "main", and every thread it starts, until all have ended.
  // Errors: internal, naming every thread and what it waits for (deadlock), or timed_out
  // (max_steps); the threads are then abandoned where they stand. Once per Scheduler.
  Status run(std::function<void()> body);

  // Virtual time, for Context; wall_now() starts at 2020-01-01. Each reading takes a nanosecond, so
  // a loop that waits for the clock ends.
  Clock& clock();
  Duration now() const { return now_; }
  uint64_t steps() const { return steps_; }
  uint64_t trace_hash() const { return trace_hash_; }
  const std::vector<TraceStep>& trace() const { return trace_; }
  // The run's own randomness, for simulated devices and workloads: below `bound`, which is not 0.
  uint64_t random(uint64_t bound);

  // The one that is running on this real thread, or null.
  static Scheduler* current();

  // For base/sync.cc, called by simulated threads.
  void reschedule();
  void yield();
  void sleep(Duration duration);
  void wait_on(const void* object, WaitKind kind);
  bool wait_on_for(const void* object, WaitKind kind, Duration timeout);  // false: timed out
  void wake_one(const void* object);
  void wake_all(const void* object);
  void note_holder(const void* lock);
  void forget_holder(const void* lock);
  uint32_t start(std::string name, std::function<void()> body);
  void join(uint32_t thread);
  unsigned core();

 private:
  class VirtualClock;
  struct Fiber;
  static void fiber_main();

  Fiber* pick();
  bool wake_expired();
  void block(const void* object, WaitKind kind, Duration deadline);
  void switch_to(Fiber* next);
  void make_ready(Fiber& fiber);
  std::string describe_waits() const;
  std::string describe_wait(const Fiber& fiber) const;

  const SchedulerOptions options_;
  std::unique_ptr<VirtualClock> clock_;
  Duration now_{};
  uint64_t random_state_;
  uint64_t steps_ = 0;
  uint64_t trace_hash_ = 0xcbf29ce484222325;
  std::vector<TraceStep> trace_;
  std::vector<std::unique_ptr<Fiber>> fibers_;  // by number; 0 is the scheduler's own context
  std::vector<Fiber*> ready_;                   // may run now; the running one too, while it picks
  std::multimap<Duration, Fiber*> timed_;       // waiting with a deadline
  std::multimap<const void*, uint32_t> holders_;  // lock → threads that hold it, for messages
  Fiber* running_ = nullptr;
  Status failure_;
};

}  // namespace basalt::sim
