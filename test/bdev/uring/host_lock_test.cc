// Goal: one owner at a time, across processes; a killed owner's writes drain before the next one
// comes in; whoever is refused learns by whom. Method: forked children that own the device and are
// killed.
#include "bdev/host/host_lock.h"

#include <fcntl.h>

#include <chrono>

#include "test/bdev/uring/child_process.h"
#include "test/bdev/uring/fixture.h"
#include "test/bdev/uring/loop_device.h"

namespace basalt {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class HostLock : public UringTest {
 protected:
  // A child that opens the device and then sleeps until it is killed.
  std::unique_ptr<ChildProcess> owner(const std::string& uri,
                                      OpenMode mode = OpenMode::read_write) {
    auto child = std::make_unique<ChildProcess>([this, uri, mode](const auto& ready) {
      make_context();
      auto device = open(uri, {.mode = mode});
      CHILD_CHECK(device);
      ready();
      pause();
      return 0;
    });
    EXPECT_TRUE(child->wait_until_ready());
    return child;
  }
};

TEST_F(HostLock, NamesTheOwnerAtOnce) {
  const std::string uri = file_uri("size=1M");
  const auto child = owner(uri);
  const auto begin = SteadyClock::now();
  const std::string why = why_not(uri);
  EXPECT_LT(SteadyClock::now() - begin, 2s) << "an owner that lives is not waited for";
  EXPECT_SAYS(why, "busy");
  EXPECT_SAYS(why, "in use by pid " + std::to_string(child->pid()) + " (");
  EXPECT_SAYS(why_not(uri, {.mode = OpenMode::read_only}), std::to_string(child->pid()));
  child->kill_now();
  EXPECT_EQ(why_not(uri), "opened") << "not even reaped yet";
}

TEST_F(HostLock, NamesThisProcess) {
  const auto device = open(file_uri("size=1M"));
  ASSERT_TRUE(device);
  EXPECT_SAYS(why_not(file_uri("")), "in use by this process (pid " + std::to_string(getpid()));
}

TEST_F(HostLock, LetsReadersShare) {
  ASSERT_EQ(why_not(file_uri("size=1M")), "opened");
  const auto child = owner(file_uri(""), OpenMode::read_only);
  auto reader = open(file_uri(""), {.mode = OpenMode::read_only});
  EXPECT_TRUE(reader);
  EXPECT_SAYS(why_not(file_uri("")), "busy");
}

TEST_F(HostLock, CanBeSkipped) {
  const auto child = owner(file_uri("size=1M"));
  EXPECT_EQ(why_not(file_uri("shared_unsafe=1")), "opened");
  EXPECT_SAYS(why_not(file_uri("")), "busy") << "which does not break the owner's lock";
}

// Goal: two that create the same file at once: one wins, nobody sees half of it.
TEST_F(HostLock, OneOfTwoCreatorsWins) {
  for (int round = 0; round < 20; ++round) {
    const std::string uri = file_uri("size=1M", "new" + std::to_string(round));
    std::vector<std::unique_ptr<ChildProcess>> children;
    children.reserve(3);
    for (int i = 0; i < 3; ++i) {
      children.push_back(std::make_unique<ChildProcess>([this, uri](const auto&) {
        make_context();
        for (int attempt = 0; attempt < 500; ++attempt) {
          auto device = open(uri);
          if (device) {
            return (*device)->info().block_count.value * (*device)->info().block_size == 1 << 20
                       ? 0
                       : 2;
          }
          if (device.error().code() != StatusCode::busy) {
            std::fprintf(stderr, "%s\n", device.error().to_string().c_str());
            return 3;
          }
          usleep(1000);
        }
        return 4;
      }));
    }
    for (auto& child : children) EXPECT_EQ(child->wait_for_end(), 0);
  }
}

constexpr size_t kSlotBytes = 1 << 20;
constexpr size_t kSlots = 64;

// A child that fills all slots over and over, all of them at once, until it is killed.
std::unique_ptr<ChildProcess> busy_writer(const std::string& uri) {
  return std::make_unique<ChildProcess>([uri](const auto& ready) {
    auto context = Context::create();
    CHILD_CHECK(context);
    register_uring_scheme(**context);
    auto device = open_device(**context, uri);
    CHILD_CHECK(device);
    auto channel = (*device)->open_channel();
    CHILD_CHECK(channel);
    const Pages memory(kSlotBytes, 0xAA);
    const iovec vector{memory.span().data(), kSlotBytes};
    const uint64_t blocks = kSlotBytes / (*device)->info().block_size;
    std::vector<Io> ios(kSlots);
    for (size_t i = 0; i < kSlots; ++i) {
      ios[i].op = Op::write;
      ios[i].lba = Lba{i * blocks};
      ios[i].block_count = BlockCount{blocks};
      ios[i].data = {&vector, 1};
      ios[i].user = channel->get();
      ios[i].done = [](Io& io) { static_cast<Channel*>(io.user)->submit(io); };
      (*channel)->submit(ios[i]);
    }
    (*channel)->poll();
    ready();
    for (;;) (*channel)->wait(100ms);
    return 0;
  });
}

// Goal: an owner killed with writes in flight: the next open waits for them, so that none of them
// lands on what the next owner writes. Method: kill, open, write a mark over the head of each slot,
// look whether it stays.
void expect_drained_after_kill(Context& context, const std::string& uri) {
  for (int round = 0; round < 8; ++round) {
    const auto child = busy_writer(uri);
    ASSERT_TRUE(child->wait_until_ready());
    usleep(3000 * static_cast<unsigned>(round));
    child->kill_now();
    auto device = open_device(context, uri, {.lock_timeout = 60s});
    ASSERT_TRUE(device) << device.error().to_string();
    auto channel = (*device)->open_channel();
    ASSERT_TRUE(channel);
    const uint32_t block_size = (*device)->info().block_size;
    const Pages memory(4096, round);
    const iovec vector{memory.span().data(), memory.span().size()};
    for (size_t slot = 0; slot < kSlots; ++slot) {
      Io io;
      io.op = Op::write;
      io.lba = Lba{slot * kSlotBytes / block_size};
      io.block_count = BlockCount{4096 / block_size};
      io.data = {&vector, 1};
      ASSERT_EQ(run(**channel, io), StatusCode::ok);
    }
    usleep(100'000);
    unsigned overwritten = 0;
    for (size_t slot = 0; slot < kSlots; ++slot) {
      Io io;
      io.lba = Lba{slot * kSlotBytes / block_size};
      io.block_count = BlockCount{4096 / block_size};
      io.data = {&vector, 1};
      ASSERT_EQ(run(**channel, io), StatusCode::ok);
      overwritten += memory.all(round) ? 0 : 1;
    }
    EXPECT_EQ(overwritten, 0u) << "the killed owner still wrote, round " << round;
  }
}

TEST_F(HostLock, WaitsForAKilledOwnersWrites) {
  expect_drained_after_kill(*context_, file_uri("size=64M"));
}

TEST_F(HostLock, WaitsForAKilledOwnersWritesToABlockDevice) {
  const std::string why = why_no_loop_devices();
  if (!why.empty()) GTEST_SKIP() << why;
  auto loop = LoopDevice::create(directory_ + "/backing", 64 << 20, 512);
  ASSERT_TRUE(loop) << loop.error().to_string();
  expect_drained_after_kill(*context_, "uring:" + loop->path());
}

TEST_F(HostLock, GuardsBlockDevices) {
  const std::string why = why_no_loop_devices();
  if (!why.empty()) GTEST_SKIP() << why;
  auto loop = LoopDevice::create(directory_ + "/backing", 8 << 20, 512);
  ASSERT_TRUE(loop) << loop.error().to_string();
  const std::string uri = "uring:" + loop->path();
  const auto child = owner(uri);
  EXPECT_SAYS(why_not(uri), "in use by pid " + std::to_string(child->pid()));
  EXPECT_SAYS(why_not(uri, {.mode = OpenMode::read_only}), "busy");
  EXPECT_LT(::open(loop->path().c_str(), O_RDWR | O_EXCL), 0) << "mount(8) is kept out as well";
}

// Goal: a lock that a child has inherited does not go with its owner; that is waited for as long as
// told, and then said.
TEST_F(HostLock, WaitsNoLongerThanTold) {
  const std::string uri = file_uri("size=1M");
  ChildProcess parent([this, uri](const auto& ready) {
    make_context();
    auto device = open(uri);
    CHILD_CHECK(device);
    const pid_t heir = fork();
    if (heir == 0) {
      prctl(PR_SET_PDEATHSIG, 0);
      ready();
      sleep(2);
      _exit(0);
    }
    sleep(60);
    return 0;
  });
  ASSERT_TRUE(parent.wait_until_ready());
  parent.kill_now();
  parent.wait_for_end();
  const auto begin = SteadyClock::now();
  const std::string why = why_not(uri, {.lock_timeout = 300ms});
  EXPECT_SAYS(why, "busy");
  EXPECT_SAYS(why, "waited 0.3 s");
  EXPECT_GE(SteadyClock::now() - begin, 300ms);
  EXPECT_EQ(why_not(uri, {.lock_timeout = 30s}), "opened") << "once the heir has ended";
}

TEST_F(HostLock, ListsHolders) {
  auto device = open(file_uri("size=1M"));
  ASSERT_TRUE(device);
  const auto holders = find_lock_holders(dynamic_cast<UringDevice&>(**device).fd());
  ASSERT_EQ(holders.size(), 1u);
  EXPECT_EQ(holders[0].pid, getpid());
  EXPECT_TRUE(holders[0].alive);
  EXPECT_FALSE(holders[0].command.empty());
}

}  // namespace
}  // namespace basalt
