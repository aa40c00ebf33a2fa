#include "base/sync.h"

#include <pthread.h>
#include <sched.h>

#include "base/check.h"
#include "base/sim_scheduler.h"

namespace basalt {
namespace {

using sim::Scheduler;
using sim::WaitKind;

Scheduler& simulation() { return *Scheduler::current(); }

}  // namespace

bool detail::on_simulated_thread() { return Scheduler::current() != nullptr; }

// The std objects hold the state also in a simulation. Their try_lock() never blocks, and a single
// real thread is the only one that touches them, so they are mere flags there.

void Mutex::lock_simulated() {
  simulation().reschedule();
  while (!impl_.try_lock()) simulation().wait_on(this, WaitKind::mutex);
  simulation().note_holder(this);
}

bool Mutex::try_lock_simulated() {
  simulation().reschedule();
  if (!impl_.try_lock()) return false;
  simulation().note_holder(this);
  return true;
}

void Mutex::unlock_simulated() {
  simulation().forget_holder(this);
  impl_.unlock();
  simulation().wake_all(this);
}

void SharedMutex::lock_simulated() {
  simulation().reschedule();
  while (!impl_.try_lock()) simulation().wait_on(this, WaitKind::shared_mutex);
  simulation().note_holder(this);
}

bool SharedMutex::try_lock_simulated() {
  simulation().reschedule();
  if (!impl_.try_lock()) return false;
  simulation().note_holder(this);
  return true;
}

void SharedMutex::unlock_simulated() {
  simulation().forget_holder(this);
  impl_.unlock();
  simulation().wake_all(this);
}

void SharedMutex::lock_shared_simulated() {
  simulation().reschedule();
  while (!impl_.try_lock_shared()) simulation().wait_on(this, WaitKind::shared_mutex);
  simulation().note_holder(this);
}

bool SharedMutex::try_lock_shared_simulated() {
  simulation().reschedule();
  if (!impl_.try_lock_shared()) return false;
  simulation().note_holder(this);
  return true;
}

void SharedMutex::unlock_shared_simulated() {
  simulation().forget_holder(this);
  impl_.unlock_shared();
  simulation().wake_all(this);
}

void CondVar::wait_simulated(MutexLock& lock) {
  Scheduler& scheduler = simulation();
  scheduler.forget_holder(lock.mutex());
  lock.mutex()->impl_.unlock();
  scheduler.wake_all(lock.mutex());
  // Nothing else runs between the unlock and this: no notification can be missed.
  scheduler.wait_on(this, WaitKind::condition);
  lock.mutex()->lock_simulated();
}

bool CondVar::wait_for_simulated(MutexLock& lock, Duration timeout) {
  Scheduler& scheduler = simulation();
  scheduler.forget_holder(lock.mutex());
  lock.mutex()->impl_.unlock();
  scheduler.wake_all(lock.mutex());
  const bool notified = scheduler.wait_on_for(this, WaitKind::condition, timeout);
  lock.mutex()->lock_simulated();
  return notified;
}

void CondVar::notify_one_simulated() { simulation().wake_one(this); }
void CondVar::notify_all_simulated() { simulation().wake_all(this); }

void yield_to_others() {
  if (detail::simulated() || sched_getscheduler(0) != SCHED_OTHER) return;
  const sched_param none{};
  sched_setscheduler(0, SCHED_BATCH, &none);  // refused: it goes on as it did
}

Thread::Thread(std::string name, std::function<void()> body) {
  if (detail::simulated()) {
    simulated_ = simulation().start(std::move(name), std::move(body));
    return;
  }
  impl_ = std::thread([name = name.substr(0, 15), body = std::move(body)] {
    pthread_setname_np(pthread_self(), name.c_str());
    body();
  });
}

Thread::~Thread() { BASALT_CHECK(!joinable(), "a thread is joined before it is destroyed"); }

Thread& Thread::operator=(Thread&& other) noexcept {
  BASALT_CHECK(!joinable(), "a thread is joined before it is replaced");
  impl_ = std::move(other.impl_);
  simulated_ = std::exchange(other.simulated_, 0);
  return *this;
}

void Thread::join() {
  if (simulated_ == 0) return impl_.join();
  simulation().join(std::exchange(simulated_, 0));
}

void sleep_for(Duration duration) {
  if (detail::simulated()) return simulation().sleep(duration);
  std::this_thread::sleep_for(duration);
}

void yield_thread() {
  if (detail::simulated()) return simulation().yield();
  std::this_thread::yield();
}

unsigned current_core() {
  if (detail::simulated()) return simulation().core();
  const int core = sched_getcpu();
  return core < 0 ? 0 : static_cast<unsigned>(core);
}

}  // namespace basalt
