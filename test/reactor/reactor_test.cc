// Reactor: order of calls, descriptors and their end, timers, pollers, and that an idle one sleeps.
#include "reactor/reactor.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <vector>

#include "test/mem/steady_clock.h"

namespace basalt {
namespace {

class ReactorTest : public testing::Test {
 protected:
  void start(const ReactorOptions& options = {}) {
    auto made = Reactor::create(clock_, options);
    ASSERT_TRUE(made) << made.error().to_string();
    reactor_ = std::move(*made);
  }
  // Until `happened` says so; false after a minute.
  static bool wait_until(const std::function<bool()>& happened) {
    for (int i = 0; i < 60'000; ++i) {
      if (happened()) return true;
      sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  SteadyClock clock_;
  std::unique_ptr<Reactor> reactor_;
};

// Counts what it is told, and reads the descriptor empty.
struct Counter final : Reactor::Handler {
  void on_ready(uint32_t) noexcept override {
    uint64_t value = 0;
    if (::read(watch.fd, &value, sizeof value) == sizeof value) sum += value;
    ++told;
    if (then) then();
  }
  Reactor::Watch watch;
  std::function<void()> then;
  std::atomic<uint64_t> sum{0};
  std::atomic<int> told{0};
};

void ring(const UniqueFd& fd) {
  const uint64_t one = 1;
  ASSERT_EQ(::write(fd.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
}

UniqueFd make_event() { return UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

TEST_F(ReactorTest, MakesCallsInTheirOrder) {
  start();
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) reactor_->post([&order, i] { order.push_back(i); });
  reactor_->run([] {});
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST_F(ReactorTest, MakesCallsThatWerePostedBeforeItsEnd) {
  start();
  std::atomic<int> made{0};
  for (int i = 0; i < 100; ++i) reactor_->post([&] { ++made; });
  reactor_.reset();
  EXPECT_EQ(made.load(), 100);
}

// Goal: no call is lost between "there is nothing" and the sleep. Method: many single calls, each after a pause of
// another length.
TEST_F(ReactorTest, SleepsThroughNoCall) {
  start({.longest_look = std::chrono::microseconds(20)});
  std::atomic<int> made{0};
  for (int i = 0; i < 2000; ++i) {
    reactor_->post([&] { ++made; });
    ASSERT_TRUE(wait_until([&] { return made.load() == i + 1; }));
    const Duration end = clock_.now() + std::chrono::microseconds(i % 100);
    while (clock_.now() < end) {
    }
  }
  EXPECT_GT(reactor_->stats().sleeps, 0u);
}

TEST_F(ReactorTest, TellsOfReadyDescriptors) {
  start();
  const UniqueFd event = make_event();
  Counter counter;
  reactor_->run(
      [&] { ASSERT_TRUE(reactor_->watch(counter.watch, event.get(), EPOLLIN, counter).ok()); });
  for (int i = 0; i < 100; ++i) ring(event);
  EXPECT_TRUE(wait_until([&] { return counter.sum.load() == 100; }));
  reactor_->run([&] { reactor_->unwatch(counter.watch); });
  const int before = counter.told.load();
  ring(event);
  reactor_->run([] {});
  EXPECT_EQ(counter.told.load(), before);
}

// Goal: a descriptor's owner may go in another's call, found ready in the same breath.
TEST_F(ReactorTest, TellsNobodyWhoHasLeft) {
  start();
  const UniqueFd first = make_event(), second = make_event();
  Counter one, other;
  one.then = [&] { reactor_->unwatch(other.watch); };
  other.then = [&] { reactor_->unwatch(one.watch); };
  reactor_->run([&] {
    ASSERT_TRUE(reactor_->watch(one.watch, first.get(), EPOLLIN, one).ok());
    ASSERT_TRUE(reactor_->watch(other.watch, second.get(), EPOLLIN, other).ok());
    ring(first);
    ring(second);
  });
  EXPECT_TRUE(wait_until([&] { return one.told + other.told > 0; }));
  reactor_->run([] {});
  EXPECT_EQ(one.told + other.told, 1);
  reactor_->run([&] {
    reactor_->unwatch(one.watch);
    reactor_->unwatch(other.watch);
  });
}

TEST_F(ReactorTest, TimersExpireInOrderAndOnce) {
  start();
  std::vector<int> order;
  Reactor::Timer timers[3], canceled;
  for (int i = 0; i < 3; ++i) timers[i].expired = [&order, i] { order.push_back(i); };
  canceled.expired = [&order] { order.push_back(100); };
  reactor_->run([&] {
    reactor_->set(timers[0], std::chrono::milliseconds(30));
    reactor_->set(timers[1], std::chrono::milliseconds(10));
    reactor_->set(timers[2], std::chrono::hours(1));
    reactor_->set(timers[2], std::chrono::milliseconds(20));  // anew
    reactor_->set(canceled, std::chrono::milliseconds(5));
    reactor_->cancel(canceled);
  });
  const auto count = [&] {
    size_t size = 0;
    reactor_->run([&] { size = order.size(); });
    return size;
  };
  EXPECT_TRUE(wait_until([&] { return count() == 3; }));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 0}));
}

TEST_F(ReactorTest, ATimerMaySetItselfWithoutDelay) {
  start();
  std::atomic<int> count{0};
  Reactor::Timer timer;
  timer.expired = [&] {
    if (++count < 1000) reactor_->set(timer, Duration::zero());
  };
  reactor_->run([&] { reactor_->set(timer, Duration::zero()); });
  EXPECT_TRUE(wait_until([&] { return count.load() == 1000; }));
}

// Asked in every loop; has work a given number of times.
struct Work final : Reactor::Poller {
  unsigned poll() noexcept override {
    ++asked;
    if (left > 0) return --left, ++done, 1u;
    return 0;
  }
  bool arm() noexcept override {
    ++armed;
    return may_sleep;
  }
  std::atomic<uint64_t> asked{0};
  unsigned left = 0, done = 0, armed = 0;
  bool may_sleep = true;
};

TEST_F(ReactorTest, AsksPollersUntilThereIsNothing) {
  start();
  Work work;
  reactor_->run([&] {
    work.left = 100;
    reactor_->add(work);
  });
  EXPECT_TRUE(wait_until([&] {
    bool slept = false;
    reactor_->run([&] { slept = work.done == 100 && work.armed > 0; });
    return slept;
  }));
  reactor_->run([&] { work.may_sleep = false; });
  // Work that comes unannounced: it does not sleep.
  const uint64_t sleeps = reactor_->stats().sleeps, asked = work.asked.load();
  EXPECT_TRUE(wait_until([&] { return work.asked.load() > asked + 10'000; }));
  EXPECT_LE(reactor_->stats().sleeps, sleeps + 1);
  reactor_->run([&] { reactor_->remove(work); });
}

TEST_F(ReactorTest, IdleItUsesNoProcessorTime) {
  start();
  EXPECT_TRUE(wait_until([&] { return reactor_->stats().sleeps > 0; }));
  const uint64_t loops = reactor_->stats().loops;
  sleep_for(std::chrono::milliseconds(300));
  EXPECT_LE(reactor_->stats().loops, loops + 5);
}

TEST_F(ReactorTest, RefusesACoreThatIsNotThere) {
  const auto made = Reactor::create(clock_, {.core = 100'000});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(made.error().message().find("core 100000"), std::string_view::npos);
}

}  // namespace
}  // namespace basalt
