// SimDevice: the disk behind the block contract: delayed and reordered completions, the cut seen through
// channels, determinism by seed.
#include "sim/sim_device.h"

#include <gtest/gtest.h>

#include <cstring>

#include "sim/sim_command.h"

namespace basalt::sim {
namespace {

class SimDeviceTest : public testing::Test {
 protected:
  void open(const SimOptions& options) {
    if (!context_) context_ = std::move(*Context::create());
    channel_.reset();
    device_.reset();
    disk_ = std::make_shared<SimDisk>(options);
    device_ = open_sim_device(*context_, disk_);
    channel_ = std::move(*device_->open_channel());
  }
  StatusCode run_one(Op op, uint64_t lba, std::vector<std::byte>& buffer, bool fua = false) {
    iovec vector{buffer.data(), buffer.size()};
    Io io;
    io.op = op;
    io.flags.fua = fua;
    io.lba = Lba{lba};
    io.block_count = BlockCount{buffer.size() / kBlock};
    if (op == Op::read || op == Op::write) io.data = {&vector, 1};
    return run(*channel_, io);
  }

  std::unique_ptr<Context> context_;
  std::shared_ptr<SimDisk> disk_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Channel> channel_;
};

std::vector<std::byte> filled(size_t blocks, char value) {
  return std::vector<std::byte>(blocks * kBlock, static_cast<std::byte>(value));
}

TEST_F(SimDeviceTest, DescribesTheDisk) {
  open({.size_bytes = 1 << 20, .block_bytes = 4096, .atomic_blocks = 4});
  EXPECT_EQ(device_->info().block_size, 4096u);
  EXPECT_EQ(device_->info().block_count, BlockCount{256});
  EXPECT_EQ(device_->info().atomic_write_blocks, 4u);
  EXPECT_TRUE(device_->info().volatile_write_cache);
  EXPECT_TRUE(device_->info().native.has(Op::flush));
}

TEST_F(SimDeviceTest, WritesReadsAndFlushes) {
  open({.size_bytes = 1 << 20});
  auto data = filled(4, 'q');
  EXPECT_EQ(run_one(Op::write, 100, data), StatusCode::ok);
  std::vector<std::byte> back(4 * kBlock), none;
  EXPECT_EQ(run_one(Op::read, 100, back), StatusCode::ok);
  EXPECT_EQ(back, data);
  EXPECT_EQ(run_one(Op::flush, 0, none), StatusCode::ok);
  EXPECT_EQ(disk_->unflushed_writes(), 0u);
  EXPECT_EQ(run_one(Op::read, (1 << 20) / kBlock, back), StatusCode::out_of_range);
}

TEST_F(SimDeviceTest, FuaIsOneCommandWhereItIsNativeAndWriteAndFlushElsewhere) {
  auto data = filled(1, 'f');
  open({.size_bytes = 1 << 20});
  EXPECT_EQ(run_one(Op::write, 0, data, true), StatusCode::ok);
  EXPECT_EQ(disk_->counters().fua_writes, 1u);
  EXPECT_EQ(disk_->counters().flushes, 0u);
  EXPECT_EQ(disk_->unflushed_writes(), 0u);
  open({.size_bytes = 1 << 20, .native_fua = false});
  EXPECT_EQ(run_one(Op::write, 0, data, true), StatusCode::ok);
  EXPECT_EQ(disk_->counters().writes, 1u);
  EXPECT_EQ(disk_->counters().flushes, 1u);
  EXPECT_EQ(disk_->unflushed_writes(), 0u);
}

// Many Ios at once complete each exactly once, some out of order, and the order depends on the seed only.
TEST_F(SimDeviceTest, CompletesInAnOrderTheSeedDecides) {
  struct Write {
    Io io;
    iovec vector;
    std::vector<std::byte> buffer;
    std::vector<int>* order;
    int number;
  };
  const auto order_of = [&](uint64_t seed) {
    open({.size_bytes = 1 << 20, .max_delay_polls = 5, .seed = seed});
    std::vector<int> order;
    std::vector<Write> writes(50);
    for (int i = 0; i < 50; ++i) {
      Write& write = writes[static_cast<size_t>(i)];
      write.buffer = filled(1, static_cast<char>('0' + i));
      write.vector = {write.buffer.data(), kBlock};
      write.order = &order;
      write.number = i;
      write.io.op = Op::write;
      write.io.lba = Lba{static_cast<uint64_t>(i)};
      write.io.block_count = BlockCount{1};
      write.io.data = {&write.vector, 1};
      write.io.user = &write;
      write.io.done = [](Io& io) {
        auto* self = static_cast<Write*>(io.user);
        self->order->push_back(self->number);
      };
      channel_->submit(write.io);
    }
    while (order.size() < 50) channel_->poll();
    return order;
  };
  const std::vector<int> first = order_of(7);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  EXPECT_EQ(first, order_of(7));
  EXPECT_NE(first, order_of(8));
  EXPECT_EQ(disk_->counters().buffers_changed, 0u);
}

TEST_F(SimDeviceTest, WaitSleepsThroughTheLatency) {
  open({.size_bytes = 1 << 20, .latency = std::chrono::milliseconds(3)});
  auto data = filled(1, 'l');
  const Duration before = context_->clock().now();
  EXPECT_EQ(run_one(Op::write, 0, data), StatusCode::ok);
  EXPECT_GE(context_->clock().now() - before, std::chrono::milliseconds(3));
}

TEST_F(SimDeviceTest, AfterTheCutEverythingFailsWithDeviceRemovedAtOnce) {
  open({.size_bytes = 1 << 20, .latency = std::chrono::hours(1)});
  auto data = filled(1, 'c');
  iovec vector{data.data(), data.size()};
  bool done = false;
  Io io;
  io.op = Op::write;
  io.block_count = BlockCount{1};
  io.data = {&vector, 1};
  io.user = &done;
  io.done = [](Io& finished) { *static_cast<bool*>(finished.user) = true; };
  channel_->submit(io);
  channel_->poll();
  channel_->poll();
  EXPECT_FALSE(done);
  disk_->power_cut();
  channel_->poll();
  EXPECT_TRUE(done);
  EXPECT_EQ(io.status, StatusCode::device_removed);
  EXPECT_EQ(run_one(Op::read, 0, data), StatusCode::device_removed);
  EXPECT_EQ(run_one(Op::write, 0, data), StatusCode::device_removed);
  std::vector<std::byte> none;
  EXPECT_EQ(run_one(Op::flush, 0, none), StatusCode::device_removed);
}

// The core counts polls: a command that times out is told so many later than others.
TEST_F(SimDeviceTest, ATimedOutCommandCompletesLate) {
  open({.size_bytes = 1 << 20, .max_delay_polls = 0});
  const auto polls_until_done = [&](StatusCode expected) {
    auto data = filled(1, 't');
    iovec vector{data.data(), data.size()};
    bool done = false;
    Io io;
    io.op = Op::write;
    io.block_count = BlockCount{1};
    io.data = {&vector, 1};
    io.user = &done;
    io.done = [](Io& finished) { *static_cast<bool*>(finished.user) = true; };
    channel_->submit(io);
    unsigned polls = 0;
    while (!done) {
      channel_->poll();
      ++polls;
    }
    EXPECT_EQ(io.status, expected);
    return polls;
  };
  const unsigned normally = polls_until_done(StatusCode::ok);
  disk_->inject({.ops = {Op::write},
                 .first = Lba{0},
                 .block_count = BlockCount{1},
                 .times = 1,
                 .kind = FaultKind::timeout,
                 .late_polls = 9});
  EXPECT_EQ(polls_until_done(StatusCode::timed_out), normally + 9);
  EXPECT_EQ(polls_until_done(StatusCode::ok), normally);
}

TEST_F(SimDeviceTest, AVanishedDiskFailsAtOnceAndAnswersAgainWhenItReturns) {
  struct Heard final : DeviceListener {
    void on_event(Device&, DeviceEvent event) override { events.push_back(event); }
    std::vector<DeviceEvent> events;
  } heard;
  open({.size_bytes = 1 << 20, .latency = std::chrono::hours(1)});
  device_->add_listener(heard);
  auto data = filled(1, 'v');
  iovec vector{data.data(), data.size()};
  Io ios[2];
  unsigned done = 0;
  for (Io& io : ios) {
    io.op = Op::write;
    io.block_count = BlockCount{1};
    io.data = {&vector, 1};
    io.user = &done;
    io.done = [](Io& finished) { ++*static_cast<unsigned*>(finished.user); };
  }
  channel_->submit(ios[0]);
  channel_->poll();
  channel_->submit(ios[1]);  // queued; the other has been executed
  disk_->vanish();
  EXPECT_FALSE(device_->open_channel());
  while (done < 2) channel_->poll();
  EXPECT_EQ(ios[0].status, StatusCode::device_removed);
  EXPECT_EQ(ios[1].status, StatusCode::device_removed);
  EXPECT_EQ(run_one(Op::read, 0, data), StatusCode::device_removed);
  disk_->come_back(SimDisk::Cache::lost, 0);
  EXPECT_EQ(heard.events, (std::vector{DeviceEvent::removed, DeviceEvent::returned}));
  device_->remove_listener(heard);
  channel_.reset();
  disk_->vanish();
  const auto second = open_sim_device(*context_, disk_);
  EXPECT_FALSE(second->open_channel()) << "opened while the disk is away";
  disk_->come_back(SimDisk::Cache::kept);
  EXPECT_TRUE(second->open_channel());
}

TEST_F(SimDeviceTest, TheSurvivorOpensAsADeviceOfItsOwn) {
  open({.size_bytes = 1 << 20});
  auto data = filled(2, 's');
  std::vector<std::byte> none, back(2 * kBlock);
  ASSERT_EQ(run_one(Op::write, 8, data), StatusCode::ok);
  ASSERT_EQ(run_one(Op::flush, 0, none), StatusCode::ok);
  disk_->power_cut();
  const auto survivor = disk_->surviving_image(3);
  const auto device = open_sim_device(*context_, survivor);
  const auto channel = std::move(*device->open_channel());
  iovec vector{back.data(), back.size()};
  Io io;
  io.op = Op::read;
  io.lba = Lba{8};
  io.block_count = BlockCount{2};
  io.data = {&vector, 1};
  EXPECT_EQ(run(*channel, io), StatusCode::ok);
  EXPECT_EQ(back, data);
}

TEST_F(SimDeviceTest, SplitsAtTheLargestCommandTheDiskTakes) {
  open({.size_bytes = 1 << 20, .max_transfer_blocks = 4});
  auto data = filled(10, 't');
  std::vector<std::byte> back(10 * kBlock);
  EXPECT_EQ(run_one(Op::write, 0, data), StatusCode::ok);
  EXPECT_EQ(disk_->counters().writes, 3u);
  EXPECT_EQ(run_one(Op::read, 0, back), StatusCode::ok);
  EXPECT_EQ(back, data);
}

}  // namespace
}  // namespace basalt::sim
