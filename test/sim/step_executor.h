// StepExecutor: background work that happens only when the test says so, in the test's thread, in the
// order it was posted. Delays do not count: a posted task may run at the next step. That makes a run with
// one thread depend on its seed alone.
//
// Thread rules: tasks may be posted from any thread; run_one() and cancel() from one.
#pragma once

#include <basalt/context.h>

#include <algorithm>
#include <vector>

#include "base/sync.h"

namespace basalt::sim {

class StepExecutor final : public Executor {
 public:
  void post(BackgroundTask& task, Duration) override {
    const MutexLock lock(mutex_);
    if (std::find(queue_.begin(), queue_.end(), &task) == queue_.end()) queue_.push_back(&task);
  }
  void cancel(BackgroundTask& task) override {
    const MutexLock lock(mutex_);
    std::erase(queue_, &task);
  }
  // Runs the oldest task; false when there is none.
  bool run_one() {
    BackgroundTask* task = nullptr;
    {
      const MutexLock lock(mutex_);
      if (queue_.empty()) return false;
      task = queue_.front();
      queue_.erase(queue_.begin());
    }
    task->run();
    return true;
  }

 private:
  Mutex mutex_;  // protects queue_
  std::vector<BackgroundTask*> queue_;
};

}  // namespace basalt::sim
