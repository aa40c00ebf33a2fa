// ThreadExecutor: the default Executor, one thread that sleeps until a task is due.
//
// The thread starts with the first post() and ends with the executor. Tasks wait on an intrusive
// list ordered by the time they are due; they run one after another, without the lock. Thread
// rules: any thread may post and cancel; a task must not cancel itself.
#pragma once

#include <basalt/context.h>

#include "base/sync.h"

namespace basalt {

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(Clock& clock) : clock_(clock) {}
  ~ThreadExecutor() override;

  void post(BackgroundTask& task, Duration delay) override;
  void cancel(BackgroundTask& task) override;

 private:
  using State = BackgroundTask::State;

  void loop();
  void insert(BackgroundTask& task);
  void remove(BackgroundTask& task);

  Clock& clock_;
  Mutex mutex_;       // protects what follows and the private members of all tasks
  CondVar work_;      // something was queued, or stopping_
  CondVar finished_;  // a task has run
  BackgroundTask* queue_ = nullptr;
  bool stopping_ = false;
  Thread thread_;
};

}  // namespace basalt
