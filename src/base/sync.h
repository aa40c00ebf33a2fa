// The seam for everything that blocks, sleeps, spins or starts a thread.
//
// All of Basalt goes through these types instead of the standard library's, so that a simulation can
// run many "threads" cooperatively on one, in an order that a seed decides (DESIGN: simulated world).
// Outside a simulation each is a thin wrapper that inlines to its std counterpart.
#pragma once

#include <basalt/context.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>

namespace basalt {

class Mutex {
 public:
  void lock() { impl_.lock(); }
  void unlock() { impl_.unlock(); }
  bool try_lock() { return impl_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex impl_;
};

class SharedMutex {
 public:
  void lock() { impl_.lock(); }
  void unlock() { impl_.unlock(); }
  bool try_lock() { return impl_.try_lock(); }
  void lock_shared() { impl_.lock_shared(); }
  void unlock_shared() { impl_.unlock_shared(); }
  bool try_lock_shared() { return impl_.try_lock_shared(); }

 private:
  std::shared_mutex impl_;
};

using MutexLock = std::unique_lock<Mutex>;

class CondVar {
 public:
  void wait(MutexLock& lock) { impl_.wait(lock); }
  // False when the timeout passed.
  bool wait_for(MutexLock& lock, Duration timeout) {
    return impl_.wait_for(lock, timeout) == std::cv_status::no_timeout;
  }
  void notify_one() { impl_.notify_one(); }
  void notify_all() { impl_.notify_all(); }

 private:
  std::condition_variable_any impl_;
};

class Thread {
 public:
  Thread() = default;
  // `name` is shown by the system's tools; at most 15 bytes are kept.
  Thread(std::string name, std::function<void()> body);
  Thread(Thread&&) = default;
  Thread& operator=(Thread&&) = default;
  bool joinable() const { return impl_.joinable(); }
  void join() { impl_.join(); }

 private:
  std::thread impl_;
};

void sleep_for(Duration duration);
void yield_thread();
// A hint for spreading work: the core this thread runs on, or 0.
unsigned current_core();

}  // namespace basalt
