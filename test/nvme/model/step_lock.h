// StepLock: a mutex between one thread that takes it over and over and others that want it now and then.
//
// A plain mutex is not fair: a stepping thread that unlocks and locks again at once can keep others out
// for a long time. Here the stepper looks first whether anybody waits, and stays out if so.
#pragma once

#include <atomic>

#include "base/sync.h"

namespace basalt::nvme::model {

class StepLock {
 public:
  void lock() {
    waiting_.fetch_add(1, std::memory_order_relaxed);
    mutex_.lock();
    waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  void unlock() { mutex_.unlock(); }
  // The stepper's lock(): false when somebody else is to have it first.
  bool lock_unless_wanted() {
    if (waiting_.load(std::memory_order_relaxed) != 0) return false;
    mutex_.lock();
    return true;
  }

 private:
  Mutex mutex_;
  std::atomic<unsigned> waiting_{0};  // a hint; the mutex orders everything
};

}  // namespace basalt::nvme::model
