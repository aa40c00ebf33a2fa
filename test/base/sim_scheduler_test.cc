// Goal: in a simulation the types of base/sync.h keep their promises under every order the seed
// chooses, time is virtual, runs replay exactly, and a deadlock is told in words.
// Method: small programs run under many seeds; some are wrong on purpose and must be caught.
#include "base/sim_scheduler.h"

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <set>
#include <vector>

#include "base/sync.h"

namespace basalt::sim {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kSeeds = 200;

// Runs `body` under one seed and expects it to end well.
void simulate(uint64_t seed, const std::function<void(Scheduler&)>& body) {
  Scheduler scheduler({.seed = seed});
  const Status status = scheduler.run([&] { body(scheduler); });
  EXPECT_TRUE(status.ok()) << "seed " << seed << ": " << status.to_string();
}

TEST(SimMutex, ExcludesUnderEverySeed) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [](Scheduler&) {
      Mutex mutex;
      int inside = 0, total = 0;
      std::vector<Thread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back("worker", [&] {
          for (int n = 0; n < 10; ++n) {
            const MutexLock lock(mutex);
            EXPECT_EQ(inside++, 0);
            yield_thread();
            --inside;
            ++total;
          }
        });
      }
      for (Thread& thread : threads) thread.join();
      EXPECT_EQ(total, 40);
    });
  }
}

// The counterpart: without the lock some seed must show the lost update, else the seeds prove
// nothing.
TEST(SimScheduler, FindsALostUpdate) {
  unsigned lost = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [&](Scheduler&) {
      int counter = 0;
      const auto increment = [&] {
        const int seen = counter;
        yield_thread();
        counter = seen + 1;
      };
      Thread a("a", increment), b("b", increment);
      a.join();
      b.join();
      if (counter != 2) ++lost;
    });
  }
  EXPECT_GT(lost, kSeeds / 20);
  EXPECT_LT(lost, kSeeds);
}

TEST(SimScheduler, SeedsGiveDifferentOrders) {
  std::set<std::vector<int>> orders;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [&](Scheduler&) {
      std::vector<int> order;
      std::vector<Thread> threads;
      for (int i = 0; i < 4; ++i) threads.emplace_back("t", [&, i] { order.push_back(i); });
      for (Thread& thread : threads) thread.join();
      orders.insert(order);
    });
  }
  EXPECT_EQ(orders.size(), 24u);  // all of 4!
}

TEST(SimCondVar, NoWakeUpIsLost) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [](Scheduler&) {
      Mutex mutex;
      CondVar changed;
      std::vector<int> queue;
      int taken = 0;
      std::vector<Thread> consumers;
      for (int i = 0; i < 3; ++i) {
        consumers.emplace_back("consumer", [&] {
          for (int n = 0; n < 5; ++n) {
            MutexLock lock(mutex);
            while (queue.empty()) changed.wait(lock);
            queue.pop_back();
            ++taken;
          }
        });
      }
      Thread producer("producer", [&] {
        for (int n = 0; n < 15; ++n) {
          const MutexLock lock(mutex);
          queue.push_back(n);
          changed.notify_one();
        }
      });
      for (Thread& thread : consumers) thread.join();
      producer.join();
      EXPECT_EQ(taken, 15);
    });
  }
}

TEST(SimCondVar, NotifyOneWakesOneNotifyAllWakesAll) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [](Scheduler&) {
      Mutex mutex;
      CondVar changed;
      int waiting = 0, woken = 0;
      std::vector<Thread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back("waiter", [&] {
          MutexLock lock(mutex);
          ++waiting;
          changed.wait(lock);
          ++woken;
        });
      }
      const auto settle = [&] { sleep_for(seconds(1)); };  // everybody else runs until they block
      settle();
      EXPECT_EQ(waiting, 4);
      changed.notify_one();
      settle();
      EXPECT_EQ(woken, 1);
      changed.notify_all();
      settle();
      EXPECT_EQ(woken, 4);
      for (Thread& thread : threads) thread.join();
    });
  }
}

TEST(SimCondVar, TimesOutInVirtualTime) {
  const auto real_start = std::chrono::steady_clock::now();
  simulate(7, [](Scheduler& scheduler) {
    Mutex mutex;
    CondVar never;
    MutexLock lock(mutex);
    const Duration start = scheduler.clock().now();
    EXPECT_FALSE(never.wait_for(lock, hours(10)));
    EXPECT_TRUE(lock.owns_lock());
    EXPECT_GE(scheduler.clock().now() - start, hours(10));
    EXPECT_LT(scheduler.clock().now() - start, hours(10) + seconds(1));
  });
  EXPECT_LT(std::chrono::steady_clock::now() - real_start, seconds(5));
}

TEST(SimCondVar, ANotificationBeforeTheTimeoutIsTold) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [](Scheduler& scheduler) {
      Mutex mutex;
      CondVar changed;
      bool notified = false;
      Thread waiter("waiter", [&] {
        MutexLock lock(mutex);
        notified = changed.wait_for(lock, hours(1));
      });
      sleep_for(seconds(1));
      changed.notify_all();
      waiter.join();
      EXPECT_TRUE(notified);
      EXPECT_LT(scheduler.now(), seconds(2));
    });
  }
}

TEST(SimSleep, WakesInTheOrderOfTheDeadlines) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [](Scheduler&) {
      std::vector<int> order;
      std::vector<Thread> threads;
      for (int i : {3, 1, 4, 2}) {
        threads.emplace_back("sleeper", [&order, i] {
          sleep_for(seconds(i));
          order.push_back(i);
        });
      }
      for (Thread& thread : threads) thread.join();
      EXPECT_EQ(order, (std::vector{1, 2, 3, 4}));
    });
  }
}

TEST(SimClock, ALoopThatOnlyYieldsReachesItsDeadline) {
  simulate(3, [](Scheduler& scheduler) {
    const Duration deadline = scheduler.clock().now() + milliseconds(10);
    while (scheduler.clock().now() < deadline) yield_thread();
  });
}

TEST(SimSharedMutex, ReadersTogetherWritersAlone) {
  int most_readers = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    simulate(seed, [&](Scheduler&) {
      SharedMutex mutex;
      int readers = 0, writers = 0;
      std::vector<Thread> threads;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back("reader", [&] {
          for (int n = 0; n < 5; ++n) {
            mutex.lock_shared();
            most_readers = std::max(most_readers, ++readers);
            EXPECT_EQ(writers, 0);
            yield_thread();
            --readers;
            mutex.unlock_shared();
          }
        });
      }
      for (int i = 0; i < 2; ++i) {
        threads.emplace_back("writer", [&] {
          for (int n = 0; n < 5; ++n) {
            mutex.lock();
            EXPECT_EQ(++writers, 1);
            EXPECT_EQ(readers, 0);
            yield_thread();
            --writers;
            mutex.unlock();
          }
        });
      }
      for (Thread& thread : threads) thread.join();
    });
  }
  EXPECT_EQ(most_readers, 3);
}

TEST(SimTryLock, FailsWhileAnotherHolds) {
  simulate(5, [](Scheduler&) {
    Mutex mutex;
    SharedMutex shared;
    mutex.lock();
    shared.lock_shared();
    Thread other("other", [&] {
      EXPECT_FALSE(mutex.try_lock());
      EXPECT_FALSE(shared.try_lock());
      EXPECT_TRUE(shared.try_lock_shared());
      shared.unlock_shared();
    });
    other.join();
    shared.unlock_shared();
    mutex.unlock();
    EXPECT_TRUE(mutex.try_lock());
    mutex.unlock();
  });
}

// A program with locks, timeouts and randomness, for replaying.
uint64_t run_mixture(uint64_t seed, std::vector<TraceStep>& trace) {
  Scheduler scheduler({.seed = seed, .record_trace = true});
  const Status status = scheduler.run([&] {
    Mutex mutex;
    CondVar changed;
    int value = 0;
    std::vector<Thread> threads;
    for (int i = 0; i < 5; ++i) {
      threads.emplace_back("mixed", [&] {
        for (int n = 0; n < 20; ++n) {
          MutexLock lock(mutex);
          if (scheduler.random(3) == 0) changed.wait_for(lock, milliseconds(scheduler.random(5)));
          value += static_cast<int>(current_core());
          changed.notify_one();
        }
      });
    }
    for (Thread& thread : threads) thread.join();
  });
  EXPECT_TRUE(status.ok()) << status.to_string();
  trace = scheduler.trace();
  return scheduler.trace_hash();
}

TEST(SimScheduler, TheSameSeedReplaysStepByStep) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    std::vector<TraceStep> first, second;
    const uint64_t first_hash = run_mixture(seed, first);
    // Memory laid out differently must not matter.
    const std::vector<std::unique_ptr<int>> clutter(seed + 1);
    const auto block = std::make_unique<char[]>(100 + seed * 7);
    EXPECT_EQ(run_mixture(seed, second), first_hash);
    EXPECT_EQ(first, second);
    EXPECT_GT(first.size(), 100u);
  }
}

TEST(SimScheduler, OtherSeedsRunOtherwise) {
  std::set<uint64_t> hashes;
  std::vector<TraceStep> trace;
  for (uint64_t seed = 0; seed < 50; ++seed) hashes.insert(run_mixture(seed, trace));
  EXPECT_EQ(hashes.size(), 50u);
}

// A mutex that abandoned threads may hold for good: it is never destroyed.
Mutex& eternal_mutex() {
  static std::deque<Mutex>& all = *new std::deque<Mutex>;
  return all.emplace_back();
}

TEST(SimDeadlock, CrossedLocksAreToldWithTheirHolders) {
  unsigned deadlocks = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Mutex& a = eternal_mutex();
    Mutex& b = eternal_mutex();
    Scheduler scheduler({.seed = seed});
    const Status status = scheduler.run([&] {
      const auto take = [](Mutex& first, Mutex& second) {
        first.lock();
        second.lock();
        second.unlock();
        first.unlock();
      };
      Thread one("one", [&] { take(a, b); });
      Thread two("two", [&] { take(b, a); });
      one.join();
      two.join();
    });
    if (status.ok()) continue;
    ++deadlocks;
    EXPECT_EQ(status.code(), StatusCode::internal);
    EXPECT_EQ(status.message(),
              "deadlock: thread \"main\" (1) waits for the end of thread \"one\"; "
              "thread \"one\" (2) waits for a mutex held by thread \"two\" (3); "
              "thread \"two\" (3) waits for a mutex held by thread \"one\" (2)");
  }
  EXPECT_GT(deadlocks, 10u);
  EXPECT_LT(deadlocks, kSeeds);
}

TEST(SimDeadlock, AForgottenNotificationIsTold) {
  Scheduler scheduler({});
  Mutex mutex;
  CondVar never;
  const Status status = scheduler.run([&] {
    MutexLock lock(mutex);
    never.wait(lock);
  });
  EXPECT_EQ(status.message(),
            "deadlock: thread \"main\" (1) waits for a condition variable nobody notifies");
}

TEST(SimDeadlock, LockingTwiceIsTold) {
  Scheduler scheduler({});
  Mutex& mutex = eternal_mutex();
  const Status status = scheduler.run([&] {
    mutex.lock();
    mutex.lock();
  });
  EXPECT_EQ(status.message(),
            "deadlock: thread \"main\" (1) waits for a mutex held by thread \"main\" (1, itself)");
}

TEST(SimScheduler, AnEndlessRunEnds) {
  Scheduler scheduler({.max_steps = 1000});
  const Status status = scheduler.run([] {
    for (;;) yield_thread();
  });
  EXPECT_EQ(status.code(), StatusCode::timed_out);
  EXPECT_EQ(status.message(), "the simulation has not ended after 1000 steps");
}

TEST(SimScheduler, ManyThreadsEnd) {
  simulate(11, [](Scheduler&) {
    int ended = 0;
    for (int round = 0; round < 20; ++round) {
      std::vector<Thread> threads;
      for (int i = 0; i < 20; ++i) threads.emplace_back("brief", [&] { ++ended; });
      for (Thread& thread : threads) thread.join();
    }
    EXPECT_EQ(ended, 400);
  });
}

TEST(SimScheduler, RealThreadsBesideItAreUntouched) {
  Mutex mutex;
  uint64_t counted = 0;
  std::atomic<bool> stop = false;
  Thread real("real", [&] {
    while (!stop.load()) {
      const MutexLock lock(mutex);
      ++counted;
    }
  });
  for (uint64_t seed = 0; seed < 20; ++seed) {
    simulate(seed, [](Scheduler&) {
      Thread other("other", [] { sleep_for(hours(1)); });
      other.join();
    });
  }
  stop.store(true);
  real.join();
  EXPECT_EQ(Scheduler::current(), nullptr);
}

}  // namespace
}  // namespace basalt::sim
