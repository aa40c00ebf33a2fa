// delay: and error:, beyond the conformance suite: how long commands take, on which threads' sleep, which ones fail, and
// that the device below is theirs alone.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <vector>

#include "bdev/delay/delay_device.h"
#include "bdev/error/error_device.h"
#include "bdev/ram/ram_device.h"
#include "bdev/uring/uring_device.h"

namespace basalt {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

class LayersTest : public testing::Test {
 protected:
  LayersTest() : context_(std::move(*Context::create())), block_(512) {
    register_ram_scheme(*context_);
    register_uring_scheme(*context_);
    register_delay_scheme(*context_);
    register_error_scheme(*context_);
  }
  std::shared_ptr<Device> open(const std::string& uri) {
    auto device = open_device(*context_, uri);
    EXPECT_TRUE(device) << device.error().to_string();
    return device ? std::move(*device) : nullptr;
  }
  Io make_io(Op op, uint64_t lba = 0) {
    Io io;
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{1};
    if (op == Op::read || op == Op::write) io.data = {&vector_, 1};
    return io;
  }
  StatusCode run_io(Channel& channel, Op op) {
    Io io = make_io(op);
    return run(channel, io);
  }
  // How long one command takes.
  SteadyClock::duration time(Channel& channel, Op op) {
    const auto begin = SteadyClock::now();
    EXPECT_EQ(run_io(channel, op), StatusCode::ok);
    return SteadyClock::now() - begin;
  }

  std::unique_ptr<Context> context_;
  std::vector<std::byte> block_;
  iovec vector_{block_.data(), block_.size()};
};

// Goal: each kind of command takes its latency and no less; what has none is not kept.
TEST_F(LayersTest, DelaysReadsAndWrites) {
  const auto device = open("delay:(ram:1M)?read_us=20000&read_p99_us=20000&write_us=40000");
  const auto channel = std::move(*device->open_channel());
  for (const Op op : {Op::read, Op::compare}) {
    Io io = make_io(op);
    io.data = {&vector_, 1};
    const auto begin = SteadyClock::now();
    EXPECT_EQ(run(*channel, io), StatusCode::ok);
    EXPECT_GE(SteadyClock::now() - begin, milliseconds(20)) << to_string(op);
  }
  EXPECT_GE(time(*channel, Op::write), milliseconds(40));
  EXPECT_GE(time(*channel, Op::write_zeroes), milliseconds(40));
  EXPECT_LT(time(*channel, Op::flush), milliseconds(20));
  EXPECT_EQ(device->info().uri, "delay:(ram:1M)?read_p99_us=20000&read_us=20000&write_us=40000");
  EXPECT_GE(device->info().completion_bound, DelayDevice::kMaxLatency);
}

// Goal: delays run beside each other, and who waits sleeps: a hundred commands take the time of one, and no processor's.
TEST_F(LayersTest, DelaysManyAtOnce) {
  const auto device = open("delay:(ram:1M)?read_us=50000");
  const auto channel = std::move(*device->open_channel());
  std::vector<Io> ios(100, make_io(Op::read));
  unsigned done = 0;
  timespec cpu_before{}, cpu_after{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_before);
  const auto begin = SteadyClock::now();
  for (Io& io : ios) {
    io.user = &done;
    io.done = [](Io& ended) { ++*static_cast<unsigned*>(ended.user); };
    channel->submit(io);
  }
  while (done < ios.size()) channel->wait(milliseconds(1000));
  const auto took = SteadyClock::now() - begin;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu_after);
  EXPECT_GE(took, milliseconds(50));
  EXPECT_LT(took, milliseconds(2500)) << "one after the other is 5 s";
  const int64_t cpu_ns = (cpu_after.tv_sec - cpu_before.tv_sec) * 1'000'000'000 +
                         (cpu_after.tv_nsec - cpu_before.tv_nsec);
  EXPECT_LT(cpu_ns, 40'000'000) << "it does not look all the time";
}

// Goal: one command in a hundred takes the p99 latency.
TEST_F(LayersTest, DelaysOneInAHundredLonger) {
  const auto device = open("delay:(ram:1M)?read_p99_us=3000");
  const auto channel = std::move(*device->open_channel());
  size_t slow = 0;
  for (int i = 0; i < 5000; ++i) slow += time(*channel, Op::read) >= microseconds(3000) ? 1 : 0;
  EXPECT_GE(slow, 15u) << "50 of 5000 on average";
  EXPECT_LE(slow, 500u) << "some more when the machine is busy";
}

TEST_F(LayersTest, LatenciesChangeWhileOpen) {
  auto made = DelayDevice::create(*context_, open("ram:1M"), "delay:(ram:1M)");
  ASSERT_TRUE(made);
  DelayDevice& device = **made;
  const auto channel = std::move(*device.open_channel());
  device.set_latency(DelayKind::write, milliseconds(30));
  device.set_latency(DelayKind::write_p99, milliseconds(30));
  EXPECT_EQ(device.latency(DelayKind::write), milliseconds(30));
  EXPECT_GE(time(*channel, Op::write), milliseconds(30));
  device.set_latency(DelayKind::write, Duration::zero());
  device.set_latency(DelayKind::write_p99, Duration::zero());
  EXPECT_LT(time(*channel, Op::write), milliseconds(30));
}

// Goal: an event loop that sleeps on the channel's descriptor is woken when a kept command is due, once, and by the device
// below. Method: over a file, whose channel has a descriptor.
TEST_F(LayersTest, DelaysInAnEventLoop) {
  const auto path =
      std::filesystem::temp_directory_path() / ("basalt-layers-" + std::to_string(::getpid()));
  {
    const auto device = open("delay:(file:" + path.string() + "?size=1M)?read_us=30000");
    ASSERT_NE(device, nullptr);
    const auto channel = std::move(*device->open_channel());
    const int fd = channel->wait_fd();
    ASSERT_GE(fd, 0);
    for (int round = 0; round < 3; ++round) {
      Io io = make_io(Op::read);
      bool done = false;
      io.user = &done;
      io.done = [](Io& ended) { *static_cast<bool*>(ended.user) = true; };
      const auto begin = SteadyClock::now();
      channel->submit(io);
      channel->poll();
      unsigned sleeps = 0;
      while (!done && sleeps < 100) {
        channel->arm();
        if (channel->poll() != 0) break;
        ++sleeps;
        pollfd entry{fd, POLLIN, 0};
        EXPECT_EQ(::poll(&entry, 1, 2000), 1) << "it slept through";
        channel->poll();
      }
      EXPECT_TRUE(done);
      EXPECT_GE(SteadyClock::now() - begin, milliseconds(30));
      EXPECT_LE(sleeps, 10u) << "it is woken without reason";
      pollfd idle{fd, POLLIN, 0};
      channel->arm();
      channel->poll();
      EXPECT_EQ(::poll(&idle, 1, 50), 0) << "readable with nothing to do";
    }
  }
  std::filesystem::remove(path);
}

// Goal: what is cancelled while it is kept ends at once, with what the device below made of it.
TEST_F(LayersTest, DelayIsCutShort) {
  const auto device = open("delay:(ram:1M)?write_us=30000000");
  const auto channel = std::move(*device->open_channel());
  Io io = make_io(Op::write);
  bool done = false;
  io.user = &done;
  io.done = [](Io& ended) { *static_cast<bool*>(ended.user) = true; };
  channel->submit(io);
  channel->poll();
  channel->poll();
  EXPECT_FALSE(done);
  channel->cancel(io);
  channel->poll();
  EXPECT_TRUE(done);
  EXPECT_EQ(io.status, StatusCode::ok);
}

// Goal: exactly so many commands of the kind fail, whichever channel they are on, and have no effect below.
TEST_F(LayersTest, FailsAsToldTo) {
  const std::shared_ptr<Device> below = open("ram:1M");
  auto made = ErrorDevice::create(*context_, below, "error:(ram:1M)");
  ASSERT_TRUE(made);
  ErrorDevice& device = **made;
  const auto one = std::move(*device.open_channel()), two = std::move(*device.open_channel());
  const auto direct = std::move(*below->open_channel());
  EXPECT_EQ(run_io(*one, Op::write), StatusCode::ok);
  device.fail(Op::write, 3);
  std::fill(block_.begin(), block_.end(), std::byte{7});
  EXPECT_EQ(run_io(*one, Op::write), StatusCode::io_error);
  EXPECT_EQ(run_io(*two, Op::write), StatusCode::io_error);
  EXPECT_EQ(run_io(*two, Op::read), StatusCode::ok);
  EXPECT_EQ(run_io(*direct, Op::read), StatusCode::ok);
  EXPECT_EQ(block_[0], std::byte{0}) << "a write that failed was made";
  EXPECT_EQ(run_io(*two, Op::write), StatusCode::io_error);
  EXPECT_EQ(run_io(*one, Op::write), StatusCode::ok);
  device.fail(Op::flush, 2);
  EXPECT_EQ(run_io(*one, Op::flush), StatusCode::io_error);
  device.fail(Op::flush, 0);
  EXPECT_EQ(run_io(*one, Op::flush), StatusCode::ok);
  EXPECT_EQ(one->stats().errors[static_cast<size_t>(Op::write)], 1u);
  EXPECT_EQ(two->stats().errors[static_cast<size_t>(Op::write)], 2u);
}

TEST_F(LayersTest, FailsAsItsUriSays) {
  const auto device = open("error:(ram:1M)?read=2&discard=1");
  const auto channel = std::move(*device->open_channel());
  for (const StatusCode expected : {StatusCode::io_error, StatusCode::io_error, StatusCode::ok}) {
    EXPECT_EQ(run_io(*channel, Op::read), expected);
  }
  EXPECT_EQ(run_io(*channel, Op::discard), StatusCode::io_error);
  EXPECT_EQ(run_io(*channel, Op::discard), StatusCode::ok);
}

// Goal: nobody else writes to the device below, and who does already is named.
TEST_F(LayersTest, OwnWhatIsBelow) {
  const std::shared_ptr<Device> below = open("ram:1M");
  {
    auto layer = DelayDevice::create(*context_, below, "delay:(ram:1M)");
    ASSERT_TRUE(layer);
    const auto second = ErrorDevice::create(*context_, below, "error:(ram:1M)");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), StatusCode::busy);
    EXPECT_NE(second.error().message().find("\"delay:(ram:1M)\" holds it"), std::string_view::npos)
        << second.error().to_string();
    EXPECT_FALSE(below->claim(ClaimMode::shared_writer, "an export"));
    EXPECT_TRUE((*layer)->claim(ClaimMode::shared_writer, "an export"));
  }
  EXPECT_TRUE(below->claim(ClaimMode::exclusive_writer, "a store"));
}

TEST_F(LayersTest, RefuseWhatTheyDoNotKnow) {
  for (const char* uri :
       {"delay:(ram:1M)?read=5", "delay:(ram:1M)?read_us=60000001", "delay:ram", "delay:(ram:1M)?x",
        "error:(ram:1M)?write=4294967296", "error:(ram:1M)?unmap=1", "error:(nothing:1M)"}) {
    EXPECT_FALSE(open_device(*context_, uri)) << uri;
  }
}

}  // namespace
}  // namespace basalt
