// The seam for everything that blocks, sleeps, spins or starts a thread.
//
// All of Basalt goes through these types instead of the standard library's, so that a simulation
// (base/sim_scheduler.h) can run many "threads" cooperatively on one, in an order that a seed
// decides. Outside a simulation each is a thin wrapper around its std counterpart: one load of a
// global and one predictable branch more. Inside one, the same objects work for the simulated
// threads; an object is not shared between simulated and real threads.
#pragma once

#include <basalt/context.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <utility>

namespace basalt {

namespace detail {
// How many simulations run in this process; only the threads that run them are affected.
inline std::atomic<unsigned> simulations{0};
// Whether this thread runs one.
bool on_simulated_thread();
inline bool simulated() {
  return __builtin_expect(simulations.load(std::memory_order_relaxed) != 0, 0) &&
         on_simulated_thread();
}
}  // namespace detail

class Mutex {
 public:
  void lock() { detail::simulated() ? lock_simulated() : impl_.lock(); }
  void unlock() { detail::simulated() ? unlock_simulated() : impl_.unlock(); }
  bool try_lock() { return detail::simulated() ? try_lock_simulated() : impl_.try_lock(); }

 private:
  friend class CondVar;
  void lock_simulated();
  void unlock_simulated();
  bool try_lock_simulated();
  std::mutex impl_;
};

class SharedMutex {
 public:
  void lock() { detail::simulated() ? lock_simulated() : impl_.lock(); }
  void unlock() { detail::simulated() ? unlock_simulated() : impl_.unlock(); }
  bool try_lock() { return detail::simulated() ? try_lock_simulated() : impl_.try_lock(); }
  void lock_shared() { detail::simulated() ? lock_shared_simulated() : impl_.lock_shared(); }
  void unlock_shared() { detail::simulated() ? unlock_shared_simulated() : impl_.unlock_shared(); }
  bool try_lock_shared() {
    return detail::simulated() ? try_lock_shared_simulated() : impl_.try_lock_shared();
  }

 private:
  void lock_simulated();
  void unlock_simulated();
  bool try_lock_simulated();
  void lock_shared_simulated();
  void unlock_shared_simulated();
  bool try_lock_shared_simulated();
  std::shared_mutex impl_;
};

using MutexLock = std::unique_lock<Mutex>;

class CondVar {
 public:
  void wait(MutexLock& lock) {
    if (detail::simulated()) return wait_simulated(lock);
    std::unique_lock<std::mutex> inner(lock.mutex()->impl_, std::adopt_lock);
    impl_.wait(inner);
    inner.release();  // `lock` owns it again
  }
  // False when the timeout passed.
  bool wait_for(MutexLock& lock, Duration timeout) {
    if (detail::simulated()) return wait_for_simulated(lock, timeout);
    std::unique_lock<std::mutex> inner(lock.mutex()->impl_, std::adopt_lock);
    const bool notified = impl_.wait_for(inner, timeout) == std::cv_status::no_timeout;
    inner.release();
    return notified;
  }
  void notify_one() { detail::simulated() ? notify_one_simulated() : impl_.notify_one(); }
  void notify_all() { detail::simulated() ? notify_all_simulated() : impl_.notify_all(); }

 private:
  void wait_simulated(MutexLock& lock);
  bool wait_for_simulated(MutexLock& lock, Duration timeout);
  void notify_one_simulated();
  void notify_all_simulated();
  std::condition_variable impl_;
};

// Joined before it is destroyed, as std::thread.
class Thread {
 public:
  Thread() = default;
  // `name` is shown by the system's tools; at most 15 bytes are kept.
  Thread(std::string name, std::function<void()> body);
  ~Thread();
  Thread(Thread&& other) noexcept
      : impl_(std::move(other.impl_)), simulated_(std::exchange(other.simulated_, 0)) {}
  Thread& operator=(Thread&& other) noexcept;
  bool joinable() const { return simulated_ != 0 || impl_.joinable(); }
  void join();

 private:
  std::thread impl_;
  uint32_t simulated_ = 0;  // the simulated thread's number; 0: a real thread, or none
};

// From here on the calling thread, when it wakes, waits for a core to be free or another's turn to be over instead of taking
// one at once from a thread that runs (Linux: SCHED_BATCH; its share of the cores stays the same). For work that nobody
// waits for. Does nothing where the process has chosen another policy than the default.
void yield_to_others();
void sleep_for(Duration duration);
void yield_thread();
// A hint for spreading work: the core this thread runs on, or 0.
unsigned current_core();

}  // namespace basalt
