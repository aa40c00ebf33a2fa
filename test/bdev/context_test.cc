// Context: its defaults, what can be injected, and the background executor.
#include <basalt/context.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "bdev/scheme_table.h"
#include "test/bdev/limited_device.h"

namespace basalt {
namespace {

using namespace std::chrono_literals;

TEST(Context, HasDefaults) {
  auto context = Context::create();
  ASSERT_TRUE(context) << context.error().to_string();
  EXPECT_EQ((*context)->boot_id().size(), 36u) << (*context)->boot_id();
  EXPECT_EQ((*context)->shared_memory_dir(), "/dev/shm");
  const Duration before = (*context)->clock().now();
  EXPECT_GE((*context)->clock().now(), before);
  EXPECT_GT((*context)->clock().wall_now(), std::chrono::hours(24 * 365 * 50));
  std::set<uint64_t> values;
  for (int i = 0; i < 100; ++i) {
    uint64_t value = 0;
    (*context)->random().fill(std::as_writable_bytes(std::span(&value, 1)));
    values.insert(value);
  }
  EXPECT_EQ(values.size(), 100u);
  EXPECT_EQ((*context)->schemes().known(), "none");
}

TEST(Context, TakesWhatIsGiven) {
  struct FakeClock final : Clock {
    Duration now() override { return 5s; }
    Duration wall_now() override { return 6s; }
  } clock;
  struct FakeLog final : LogSink {
    void log(LogLevel, std::string_view, std::string_view line) override { last = line; }
    std::string last;
  } log;
  auto context = Context::create({.log = &log,
                                  .clock = &clock,
                                  .boot_id = "this boot",
                                  .shared_memory_dir = "/tmp",
                                  .bounce_bytes_per_channel = 12345});
  ASSERT_TRUE(context);
  EXPECT_EQ((*context)->clock().now(), 5s);
  (*context)->log().log(LogLevel::debug, "test", "a line");
  EXPECT_EQ(log.last, "a line");
  EXPECT_EQ((*context)->boot_id(), "this boot");
  EXPECT_EQ((*context)->shared_memory_dir(), "/tmp");
  EXPECT_EQ((*context)->bounce_bytes_per_channel(), 12345u);
}

// Goal: an unknown scheme is refused with those that are known; schemes can be added twice.
TEST(Context, NamesKnownSchemes) {
  auto context = Context::create();
  register_limited_scheme(**context);
  register_limited_scheme(**context);
  const auto device = open_device(**context, "part:(floppy:a)");
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code(), StatusCode::not_found);
  EXPECT_NE(device.error().message().find("unknown scheme \"part\""), std::string_view::npos);
  EXPECT_NE(device.error().message().find("limited: (limited:64M?transfer=8)"),
            std::string_view::npos)
      << device.error().message();
}

TEST(Executor, RunsTasksOffTheCallersThread) {
  auto context = Context::create();
  std::atomic<bool> ran{false};
  std::thread::id where;
  BackgroundTask task;
  task.run = [&] {
    where = std::this_thread::get_id();
    ran = true;
  };
  (*context)->executor().post(task);
  while (!ran) std::this_thread::yield();
  (*context)->executor().cancel(task);
  EXPECT_NE(where, std::this_thread::get_id());
}

// Goal: tasks run in the order they are due, not before; posting again keeps the earlier time.
TEST(Executor, RunsInOrderOfTime) {
  auto context = Context::create();
  Clock& clock = (*context)->clock();
  std::vector<int> order;
  std::atomic<int> ran{0};
  std::vector<BackgroundTask> tasks(3);
  const Duration begin = clock.now();
  const Duration delays[] = {40ms, 20ms, 60ms};
  Duration first_run{};
  for (int i = 0; i < 3; ++i) {
    tasks[i].run = [&, i] {
      if (order.empty()) first_run = clock.now();
      order.push_back(i);
      ++ran;
    };
    (*context)->executor().post(tasks[i], delays[i]);
    (*context)->executor().post(tasks[i], 10s);
  }
  while (ran != 3) std::this_thread::yield();
  for (BackgroundTask& task : tasks) (*context)->executor().cancel(task);
  EXPECT_EQ(order, (std::vector<int>{1, 0, 2}));
  EXPECT_GE(first_run - begin, 20ms);
}

// Goal: cancel() takes a queued task back, waits for a running one, and ends one that re-posts
// itself.
TEST(Executor, Cancels) {
  auto context = Context::create();
  Executor& executor = (*context)->executor();
  std::atomic<int> runs{0};
  BackgroundTask later;
  later.run = [&] { ++runs; };
  executor.post(later, 10s);
  executor.cancel(later);
  EXPECT_EQ(runs, 0);

  std::atomic<bool> inside{false};
  std::atomic<bool> left{false};
  BackgroundTask slow;
  slow.run = [&] {
    inside = true;
    std::this_thread::sleep_for(30ms);
    left = true;
  };
  executor.post(slow);
  while (!inside) std::this_thread::yield();
  executor.cancel(slow);
  EXPECT_TRUE(left) << "cancel() came back while the task was running";

  BackgroundTask repeating;
  repeating.run = [&] {
    ++runs;
    executor.post(repeating);
  };
  executor.post(repeating);
  while (runs < 100) std::this_thread::yield();
  executor.cancel(repeating);
  const int end = runs;
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(runs, end);
}

}  // namespace
}  // namespace basalt
