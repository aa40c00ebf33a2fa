// Two controllers of one namespace as one queue: which path is taken, what becomes of commands when one is lost, and
// what a flush has to cover.
#include "nvme/multipath.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "nvme/commands.h"
#include "nvme/kept_log.h"
#include "nvme/tcp/tcp_transport.h"
#include "nvme/tcp_target.h"
#include "nvme/waited.h"

namespace basalt::nvme {
namespace {

using namespace std::chrono_literals;

class Multipath : public testing::Test {
 protected:
  static constexpr size_t kBlock = 4096;

  void SetUp() override {
    ContextOptions options;
    options.log = &log;
    context = std::move(*Context::create(options));
  }
  void TearDown() override {
    queue.reset();
    for (auto& controller : controllers) controller.reset();
  }

  struct Setting {
    bool reports_access = false;
    bool volatile_cache = false;
    bool cache_survives = false;
    PathPolicy policy = PathPolicy::round_robin;
    Duration reconnect_timeout = 20s;
    Duration patience = 20s;
    AccessState second_access = AccessState::optimized;
  };
  void start(const Setting& setting) {
    TcpTargetOptions options{.volatile_cache = setting.volatile_cache,
                             .reports_access = setting.reports_access};
    targets[0] = std::make_unique<TcpTarget>(options);
    options.controller_id = 8;
    targets[1] = std::make_unique<TcpTarget>(options, *targets[0]);
    targets[1]->set_access(setting.second_access, false);
    for (int i = 0; i < 2; ++i) {
      TcpOptions tcp;
      tcp.addresses = {*TcpAddress::parse(targets[i]->address(), kIoPort)};
      tcp.subsystem_nqn = options.nqn;
      tcp.host = *HostIdentity::of_this_host("/nonexistent");
      tcp.keep_alive = 1s;
      tcp.connect_timeout = 2s;
      tcp.write_cache_survives = setting.cache_survives;
      auto opened = Controller::open(host(*context), std::move(*TcpTransport::create(tcp)),
                                     {.queue_depth = 16,
                                      .queue_pairs = 4,
                                      .admin_timeout = 2s,
                                      .command_timeout = 5s,
                                      .abort_grace = 500ms,
                                      .reconnect_timeout = setting.reconnect_timeout});
      ASSERT_TRUE(opened) << opened.error().to_string();
      controllers[i] = std::move(*opened);
    }
    queue = open_queue(setting);
  }
  std::unique_ptr<MultipathQueue> open_queue(const Setting& setting) {
    Controller* const both[] = {controllers[0].get(), controllers[1].get()};
    auto opened = MultipathQueue::open(
        both, {.nsid = 1, .policy = setting.policy, .patience = setting.patience},
        context->clock());
    EXPECT_TRUE(opened) << opened.error().to_string();
    return std::move(*opened);
  }

  bool wait_until(const std::function<bool()>& condition, Duration limit = 30s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition() && std::chrono::steady_clock::now() < end) queue->wait(20ms);
    return condition();
  }
  StatusCode run(const Command& command, std::span<std::byte> data = {}) {
    Waited waited(command, data);
    queue->submit(waited.request);
    if (!wait_until([&] { return waited.done; })) ADD_FAILURE() << "a command did not come back";
    return waited.request.status;
  }
  static std::vector<std::byte> pattern(unsigned seed) {
    std::vector<std::byte> data(kBlock);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<std::byte>((i * 2654435761u >> 13) + seed * 31);
    }
    return data;
  }
  bool logged(const std::string& text) const { return log.text().find(text) != std::string::npos; }

  KeptLog log;
  std::unique_ptr<Context> context;
  std::unique_ptr<TcpTarget> targets[2];
  std::unique_ptr<Controller> controllers[2];
  std::unique_ptr<MultipathQueue> queue;
};

TEST_F(Multipath, GoesEachWayInTurn) {
  start({});
  for (unsigned i = 0; i < 20; ++i) {
    auto data = pattern(i);
    ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  }
  EXPECT_EQ(targets[0]->commands(), 10u);
  EXPECT_EQ(targets[1]->commands(), 10u);
  for (unsigned i = 0; i < 20; ++i) {
    std::vector<std::byte> back(kBlock);
    ASSERT_EQ(run(read_command(1, i, 1), back), StatusCode::ok);
    EXPECT_TRUE(back == pattern(i)) << i;
  }
  EXPECT_EQ(queue->moved(), 0u);
}

TEST_F(Multipath, TheShorterQueueIsTaken) {
  start({.policy = PathPolicy::queue_depth});
  targets[0]->faults.silent = true;  // what goes there stays there
  std::vector<std::byte> data(kBlock);
  std::vector<std::unique_ptr<Waited>> stuck;
  // Of two paths as idle one is taken in turn: so one of the first two is answered, and one is not.
  for (int i = 0; i < 2; ++i) {
    stuck.push_back(std::make_unique<Waited>(read_command(1, 0, 1), data));
    queue->submit(stuck.back()->request);
  }
  ASSERT_TRUE(wait_until([&] { return stuck[0]->done || stuck[1]->done; }, 5s));
  const uint64_t before = targets[1]->commands();
  for (int i = 0; i < 6; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_EQ(targets[1]->commands(), before + 6);
  targets[0]->faults.silent = false;
  EXPECT_TRUE(wait_until([&] { return stuck[0]->done && stuck[1]->done; }));
}

TEST_F(Multipath, ManyCommandsGoAtOnce) {
  start({});
  constexpr unsigned kCommands = 200;  // more than both queues hold
  std::vector<std::vector<std::byte>> data;
  std::vector<std::unique_ptr<Waited>> waited;
  for (unsigned i = 0; i < kCommands; ++i) {
    data.push_back(pattern(i));
    waited.push_back(std::make_unique<Waited>(write_command(1, i, 1), data.back()));
    queue->submit(waited.back()->request);
  }
  for (const auto& one : waited) {
    ASSERT_TRUE(wait_until([&] { return one->done; }));
    EXPECT_EQ(one->request.status, StatusCode::ok);
  }
  for (unsigned i = 0; i < kCommands; ++i) EXPECT_TRUE(targets[1]->read(i, 1) == data[i]) << i;
  EXPECT_GT(targets[0]->commands(), 50u);
  EXPECT_GT(targets[1]->commands(), 50u);
}

// ---- Paths that are lost

TEST_F(Multipath, ALostPathIsDoneWithoutAndUsedAgain) {
  start({});
  auto data = pattern(1);
  ASSERT_EQ(run(write_command(1, 0, 1), data), StatusCode::ok);
  targets[0]->stop();
  ASSERT_TRUE(wait_until([&] { return !controllers[0]->is_up(); })) << log.text();
  for (unsigned i = 0; i < 20; ++i) {
    data = pattern(i + 2);
    ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok) << log.text();
  }
  targets[0]->start();
  ASSERT_TRUE(wait_until([&] { return controllers[0]->is_up(); })) << log.text();
  const uint64_t before = targets[0]->commands();
  std::vector<std::byte> back(kBlock);
  ASSERT_TRUE(wait_until([&] {
    EXPECT_EQ(run(read_command(1, 19, 1), back), StatusCode::ok);
    return targets[0]->commands() > before;
  })) << log.text();
  EXPECT_TRUE(back == pattern(21));
}

TEST_F(Multipath, NothingIsLostWhenPathsGoAndComeUnderLoad) {
  start({});
  constexpr unsigned kWriters = 12;
  struct Writer {
    std::unique_ptr<Waited> waited;
    std::vector<std::byte> data;
    unsigned written = 0;
  };
  std::vector<Writer> writers(kWriters);
  const auto submit = [&](unsigned i) {
    Writer& writer = writers[i];
    writer.data = pattern(i * 1000 + writer.written + 1);
    writer.waited = std::make_unique<Waited>(write_command(1, i, 1), writer.data);
    queue->submit(writer.waited->request);
  };
  const auto work_for = [&](int rounds) {
    for (int round = 0; round < rounds; ++round) {
      queue->wait(20ms);
      for (unsigned i = 0; i < kWriters; ++i) {
        if (!writers[i].waited->done) continue;
        ASSERT_EQ(writers[i].waited->request.status, StatusCode::ok) << log.text();
        ++writers[i].written;
        submit(i);
      }
    }
  };
  for (unsigned i = 0; i < kWriters; ++i) submit(i);
  for (int which = 0; which < 2; ++which) {
    work_for(50);
    targets[which]->faults.late_writes = 1;  // so that one is on its way
    while (targets[which]->faults.late_writes > 0) work_for(1);
    targets[which]->stop();
    // Those in flight there move once that is settled; the others go on meanwhile.
    ASSERT_TRUE(wait_until([&] { return !controllers[which]->is_up(); })) << log.text();
    const uint64_t moved = queue->moved();
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (queue->moved() == moved && std::chrono::steady_clock::now() < end) work_for(1);
    work_for(20);
    targets[which]->start();
    while (!controllers[which]->is_up() && std::chrono::steady_clock::now() < end + 20s) {
      work_for(1);
    }
    EXPECT_TRUE(controllers[which]->is_up()) << log.text();
  }
  for (unsigned i = 0; i < kWriters; ++i) {
    ASSERT_TRUE(wait_until([&] { return writers[i].waited->done; })) << log.text();
    EXPECT_EQ(writers[i].waited->request.status, StatusCode::ok);
    EXPECT_TRUE(targets[0]->read(i, 1) == writers[i].data) << i;
  }
  EXPECT_GT(queue->moved(), 0u);
}

// The write is with the first target when its connection ends, and is carried out only after it could have been sent over
// the other path, and a newer one as well.
TEST_F(Multipath, ALateWriteDoesNotUndoANewerOneOverTheOtherPath) {
  start({});
  targets[0]->faults.late_by = 700ms;  // less than keep_alive
  targets[0]->faults.late_writes = 1;
  auto old_data = pattern(1), new_data = pattern(2), other = pattern(3);
  Waited first(write_command(1, 3, 1), old_data);
  queue->submit(first.request);  // the first in turn
  ASSERT_TRUE(wait_until([&] { return targets[0]->faults.late_writes == 0; }, 5s));
  targets[0]->drop_connections();
  ASSERT_TRUE(wait_until([&] { return !controllers[0]->is_up(); })) << log.text();
  EXPECT_EQ(run(write_command(1, 4, 1), other), StatusCode::ok) << "the other path is there";
  EXPECT_FALSE(first.done) << "it may still be carried out";
  ASSERT_TRUE(wait_until([&] { return first.done; }));
  EXPECT_EQ(first.request.status, StatusCode::ok) << log.text();
  EXPECT_EQ(run(write_command(1, 3, 1), new_data), StatusCode::ok);
  std::this_thread::sleep_for(1s);
  EXPECT_TRUE(targets[1]->read(3, 1) == new_data);
}

TEST_F(Multipath, AWriteThatIsLostWithItsPathGoesTheOtherWay) {
  start({});
  targets[0]->faults.late_by = 700ms;  // less than keep_alive
  targets[0]->faults.late_writes = 1;
  auto data = pattern(1);
  Waited first(write_command(1, 3, 1), data);
  queue->submit(first.request);  // the first in turn
  ASSERT_TRUE(wait_until([&] { return targets[0]->faults.late_writes == 0; }, 5s));
  targets[0]->stop();
  ASSERT_TRUE(wait_until([&] { return first.done; })) << log.text();
  EXPECT_EQ(first.request.status, StatusCode::ok) << log.text();
  EXPECT_EQ(queue->moved(), 1u);
  EXPECT_FALSE(controllers[0]->is_up());
}

TEST_F(Multipath, WithoutAnyPathCommandsWaitAndThenFail) {
  start({.reconnect_timeout = 1s, .patience = 1s});
  targets[0]->stop();
  targets[1]->stop();
  std::vector<std::byte> data(kBlock);
  EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::io_error);
  EXPECT_EQ(run(flush_command(1)), StatusCode::io_error);
}

TEST_F(Multipath, AQueueMayBeOpenedWhileAPathIsDown) {
  start({});
  targets[0]->stop();
  ASSERT_TRUE(wait_until([&] { return !controllers[0]->is_up(); })) << log.text();
  queue.reset();
  queue = open_queue({});
  auto data = pattern(1);
  ASSERT_EQ(run(write_command(1, 0, 1), data), StatusCode::ok);
  const uint64_t before = targets[0]->commands();
  targets[0]->start();
  ASSERT_TRUE(wait_until([&] {
    EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
    return targets[0]->commands() > before;
  })) << log.text();
}

// ---- Flushes

TEST_F(Multipath, AFlushGoesWhereverThereIsSomethingToFlush) {
  start({.volatile_cache = true});
  auto data = pattern(1);
  ASSERT_EQ(run(flush_command(1)), StatusCode::ok);
  EXPECT_EQ(targets[0]->flushes() + targets[1]->flushes(), 1u) << "there is nothing to flush";
  for (unsigned i = 0; i < 2; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  const uint64_t flushes[] = {targets[0]->flushes(), targets[1]->flushes()};
  ASSERT_EQ(run(flush_command(1)), StatusCode::ok);
  EXPECT_EQ(targets[0]->flushes(), flushes[0] + 1);
  EXPECT_EQ(targets[1]->flushes(), flushes[1] + 1);
  targets[0]->lose_cache();
  targets[1]->lose_cache();
  for (unsigned i = 0; i < 2; ++i) EXPECT_TRUE(targets[0]->read(i, 1) == data);
}

TEST_F(Multipath, WritesThatALostPathMayHaveLostAreNotCalledSafe) {
  start({.volatile_cache = true});
  auto data = pattern(1);
  for (unsigned i = 0; i < 2; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  targets[0]->stop();
  targets[0]->lose_cache();
  EXPECT_EQ(run(flush_command(1)), StatusCode::io_error);
  EXPECT_EQ(run(read_command(1, 1, 1), data), StatusCode::io_error)
      << "nothing works until it is opened again";
  EXPECT_TRUE(logged("writes that were not flushed are gone")) << log.text();
}

TEST_F(Multipath, FlushedWritesAllowAPathToGo) {
  start({.volatile_cache = true});
  auto data = pattern(1);
  for (unsigned i = 0; i < 2; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  ASSERT_EQ(run(flush_command(1)), StatusCode::ok);
  targets[0]->stop();
  targets[0]->lose_cache();
  ASSERT_TRUE(wait_until([&] { return !controllers[0]->is_up(); })) << log.text();
  for (unsigned i = 2; i < 6; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok) << log.text();
}

TEST_F(Multipath, ACacheThatSurvivesAllowsAPathToGoAnyTime) {
  start({.volatile_cache = true, .cache_survives = true});
  auto data = pattern(1);
  for (unsigned i = 0; i < 2; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  targets[0]->stop();
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok) << log.text();
  for (unsigned i = 0; i < 4; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok) << log.text();
}

// ---- Asymmetric access

TEST_F(Multipath, ThePathThatIsNotOptimizedIsForNeed) {
  start({.reports_access = true, .second_access = AccessState::non_optimized});
  std::vector<std::byte> data(kBlock);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_EQ(targets[0]->commands(), 10u);
  EXPECT_EQ(targets[1]->commands(), 0u);
  targets[0]->stop();
  for (int i = 0; i < 10; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_GE(targets[1]->commands(), 9u);
}

TEST_F(Multipath, AChangeThatIsToldMovesWhatComes) {
  start({.reports_access = true, .second_access = AccessState::inaccessible});
  std::vector<std::byte> data(kBlock);
  for (int i = 0; i < 4; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_EQ(targets[1]->commands(), 0u);
  targets[1]->set_access(AccessState::optimized);
  ASSERT_TRUE(wait_until([&] { return controllers[1]->access_state(1) == AccessState::optimized; }))
      << log.text();
  targets[0]->set_access(AccessState::inaccessible);
  ASSERT_TRUE(wait_until([&] {
    return controllers[0]->access_state(1) == AccessState::inaccessible;
  })) << log.text();
  const uint64_t before = targets[0]->commands();
  for (int i = 0; i < 4; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_EQ(targets[0]->commands(), before);
  EXPECT_EQ(queue->moved(), 0u);
}

class MultipathRefusals : public Multipath, public testing::WithParamInterface<AccessState> {};
INSTANTIATE_TEST_SUITE_P(All, MultipathRefusals,
                         testing::Values(AccessState::inaccessible, AccessState::persistent_loss,
                                         AccessState::change),
                         [](const auto& state) {
                           return state.param == AccessState::inaccessible ? "inaccessible"
                                  : state.param == AccessState::change     ? "change"
                                                                           : "persistent_loss";
                         });

TEST_P(MultipathRefusals, AreNoErrors) {
  start({.reports_access = true});
  std::vector<std::byte> data(kBlock);
  const uint64_t logs = targets[0]->access_logs();
  targets[0]->set_access(GetParam(), false);
  for (unsigned i = 0; i < 10; ++i) {
    ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok) << log.text();
  }
  EXPECT_GE(queue->moved(), 1u);
  EXPECT_TRUE(wait_until([&] { return targets[0]->access_logs() > logs; }, 5s))
      << "a refusal is a reason to look";
  targets[0]->set_access(AccessState::optimized);
  const uint64_t before = targets[0]->commands();
  EXPECT_TRUE(wait_until([&] {
    EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
    return targets[0]->commands() > before + 5;
  })) << log.text();
}

// What a path refuses for its own sake, and says no more of, is no error, and no reason to leave it for good.
TEST_F(Multipath, ErrorsOfThePathAreNotTheCommands) {
  start({});
  std::vector<std::byte> data(kBlock);
  for (auto& target : targets) target->faults.path_error = 3;
  for (int i = 0; i < 10; ++i) ASSERT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  EXPECT_GE(queue->moved(), 2u);
  const uint64_t before[] = {targets[0]->commands(), targets[1]->commands()};
  EXPECT_TRUE(wait_until([&] {
    EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
    return targets[0]->commands() > before[0] + 3 && targets[1]->commands() > before[1] + 3;
  })) << log.text();
}

// A path that is taken out of service in an orderly way, with writes in its controller's cache.
TEST_F(Multipath, AFlushWaitsForAPathThatIsInaccessible) {
  start({.reports_access = true, .volatile_cache = true});
  auto data = pattern(1);
  for (unsigned i = 0; i < 2; ++i) ASSERT_EQ(run(write_command(1, i, 1), data), StatusCode::ok);
  targets[0]->set_access(AccessState::change, false);
  Waited flush(flush_command(1));
  queue->submit(flush.request);
  EXPECT_FALSE(wait_until([&] { return flush.done; }, 1500ms));
  targets[0]->set_access(AccessState::non_optimized);
  ASSERT_TRUE(wait_until([&] { return flush.done; })) << log.text();
  EXPECT_EQ(flush.request.status, StatusCode::ok) << log.text();
  targets[0]->lose_cache();
  targets[1]->lose_cache();
  for (unsigned i = 0; i < 2; ++i) EXPECT_TRUE(targets[0]->read(i, 1) == data) << i;
}

TEST_F(Multipath, ItsEventIsNotThereForNothing) {
  start({});
  targets[0]->stop();
  ASSERT_TRUE(wait_until([&] { return !controllers[0]->is_up(); })) << log.text();
  std::this_thread::sleep_for(4s);  // until what it had is settled, which wakes
  pollfd entry{queue->event_fd(), POLLIN, 0};
  int ready = 1;
  for (int tries = 0; ready != 0 && tries < 20; ++tries) {
    for (int i = 0; i < 200; ++i) queue->poll();
    ready = ::poll(&entry, 1, 0);
  }
  EXPECT_EQ(ready, 0) << "an event loop would spin";
}

TEST_F(Multipath, CommandsWaitWhileNoPathIsAccessible) {
  start({.reports_access = true});
  targets[0]->set_access(AccessState::change, false);
  targets[1]->set_access(AccessState::inaccessible, false);
  std::vector<std::byte> data(kBlock);
  Waited waited(read_command(1, 0, 1), data);
  queue->submit(waited.request);
  EXPECT_FALSE(wait_until([&] { return waited.done; }, 1500ms));
  targets[0]->set_access(AccessState::non_optimized);
  EXPECT_TRUE(wait_until([&] { return waited.done; })) << log.text();
  EXPECT_EQ(waited.request.status, StatusCode::ok);
}

}  // namespace
}  // namespace basalt::nvme
