// See watch.h.
#include "nvme/watch.h"

namespace basalt::nvme {

void Watch::start(Duration interval) {
  thread_ = Thread("basalt-nvme", [this, interval] { loop(interval); });
}

void Watch::wake() noexcept {
  const MutexLock lock(mutex_);
  woken_ = true;
  changed_.notify_one();
}

void Watch::stop() noexcept {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void Watch::loop(Duration interval) {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (!woken_) changed_.wait_for(lock, interval);
    if (stopping_) return;
    woken_ = false;
    lock.unlock();
    look_();
    lock.lock();
  }
}

}  // namespace basalt::nvme
