#include "bdev/executor.h"

#include <algorithm>

#include "base/check.h"

namespace basalt {

ThreadExecutor::~ThreadExecutor() {
  {
    MutexLock lock(mutex_);
    BASALT_CHECK(queue_ == nullptr, "background tasks must be cancelled before their Context ends");
    stopping_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ThreadExecutor::post(BackgroundTask& task, Duration delay) {
  MutexLock lock(mutex_);
  const Duration due = clock_.now() + delay;
  switch (task.state) {
    case State::idle:
      task.due = due;
      insert(task);
      break;
    case State::queued:
      if (task.due <= due) return;
      remove(task);
      task.due = due;
      insert(task);
      break;
    case State::running:
      task.due = due;
      task.state = State::running_requeued;
      return;  // the thread queues it when the present run has ended
    case State::running_requeued: task.due = std::min(task.due, due); return;
  }
  if (!thread_.joinable()) thread_ = Thread("basalt-bg", [this] { loop(); });
  work_.notify_one();
}

void ThreadExecutor::cancel(BackgroundTask& task) {
  MutexLock lock(mutex_);
  while (task.state != State::idle) {
    if (task.state == State::queued) {
      remove(task);
      task.state = State::idle;
      return;
    }
    task.state = State::running;  // it may have posted itself again: not any more
    finished_.wait(lock);
  }
}

void ThreadExecutor::loop() {
  yield_to_others();
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (queue_ == nullptr) {
      work_.wait(lock);
      continue;
    }
    const Duration early = queue_->due - clock_.now();
    if (early > Duration::zero()) {
      work_.wait_for(lock, early);
      continue;
    }
    BackgroundTask& task = *queue_;
    queue_ = task.next;
    task.state = State::running;
    lock.unlock();
    task.run();
    lock.lock();
    if (task.state == State::running_requeued) {
      insert(task);
    } else {
      task.state = State::idle;
    }
    finished_.notify_all();
  }
}

void ThreadExecutor::insert(BackgroundTask& task) {
  BackgroundTask** at = &queue_;
  while (*at != nullptr && (*at)->due <= task.due) at = &(*at)->next;
  task.next = *at;
  *at = &task;
  task.state = State::queued;
}

void ThreadExecutor::remove(BackgroundTask& task) {
  BackgroundTask** at = &queue_;
  while (*at != &task) at = &(*at)->next;
  *at = task.next;
}

}  // namespace basalt
