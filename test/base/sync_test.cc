// Goal: outside a simulation, base/sync.h behaves as the standard library's types do.
// Method: real threads; what depends on time is only bounded from below.
#include "base/sync.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <vector>

namespace basalt {
namespace {

using std::chrono::milliseconds;

TEST(Mutex, Excludes) {
  Mutex mutex;
  int counter = 0;
  std::vector<Thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back("counter", [&] {
      for (int n = 0; n < 10000; ++n) {
        const MutexLock lock(mutex);
        ++counter;
      }
    });
  }
  for (Thread& thread : threads) thread.join();
  EXPECT_EQ(counter, 40000);
}

TEST(Mutex, TryLockFailsWhileHeld) {
  Mutex mutex;
  const MutexLock lock(mutex);
  bool taken = true;
  Thread other("other", [&] { taken = mutex.try_lock(); });
  other.join();
  EXPECT_FALSE(taken);
}

TEST(SharedMutex, ReadersShareWritersDoNot) {
  SharedMutex mutex;
  mutex.lock_shared();
  bool read = false, written = true;
  Thread other("other", [&] {
    read = mutex.try_lock_shared();
    if (read) mutex.unlock_shared();
    written = mutex.try_lock();
  });
  other.join();
  mutex.unlock_shared();
  EXPECT_TRUE(read);
  EXPECT_FALSE(written);
}

TEST(CondVar, WakesAWaiterAndKeepsTheLock) {
  Mutex mutex;
  CondVar changed;
  bool ready = false;
  Thread other("other", [&] {
    const MutexLock lock(mutex);
    ready = true;
    changed.notify_one();
  });
  MutexLock lock(mutex);
  while (!ready) changed.wait(lock);
  EXPECT_TRUE(lock.owns_lock());
  lock.unlock();
  other.join();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

TEST(CondVar, TimesOutNotTooEarly) {
  Mutex mutex;
  CondVar never;
  MutexLock lock(mutex);
  const auto start = std::chrono::steady_clock::now();
  bool notified = true;
  while (notified) notified = never.wait_for(lock, milliseconds(20));  // may wake for no reason
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(20));
  EXPECT_TRUE(lock.owns_lock());
}

TEST(Thread, MovesAndJoins) {
  int ran = 0;
  Thread first("a name longer than fifteen bytes", [&] { ++ran; });
  Thread second = std::move(first);
  EXPECT_FALSE(first.joinable());
  EXPECT_TRUE(second.joinable());
  second.join();
  EXPECT_FALSE(second.joinable());
  EXPECT_EQ(ran, 1);
}

TEST(Thread, YieldsToOthersOnceItIsAsked) {
  const auto policy_after = [](int before) {
    int policy = -1;
    Thread thread("patient", [&] {
      const sched_param none{};
      ASSERT_EQ(sched_setscheduler(0, before, &none), 0);
      yield_to_others();
      policy = sched_getscheduler(0);
    });
    thread.join();
    return policy;
  };
  EXPECT_EQ(policy_after(SCHED_OTHER), SCHED_BATCH);
  EXPECT_EQ(policy_after(SCHED_IDLE), SCHED_IDLE) << "somebody's choice";
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER) << "it is the thread's own";
}

TEST(ThreadDeathTest, MustBeJoined) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH({ Thread left_alone("left", [] {}); }, "joined before it is destroyed");
}

TEST(SleepFor, Sleeps) {
  const auto start = std::chrono::steady_clock::now();
  sleep_for(milliseconds(5));
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(5));
}

TEST(CurrentCore, IsACore) { EXPECT_LT(current_core(), 4096u); }

}  // namespace
}  // namespace basalt
