// What the core does beyond the conformance suite, on the device with every restriction: which
// native commands it makes, durability of FUA, events, removal, registered memory, and that it
// allocates nothing per Io.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "bdev/delay/delay_device.h"
#include "bdev/error/error_device.h"
#include "bdev/latency.h"
#include "bdev/part/part_device.h"
#include "bdev/ram/ram_device.h"
#include "bdev/range_lock.h"
#include "mem/arena.h"
#include "mem/memory_map.h"
#include "test/bdev/conformance.h"
#include "test/bdev/count_allocations.h"
#include "test/bdev/limited_device.h"

namespace basalt {
namespace {

struct Rig {
  std::unique_ptr<Context> context;
  std::unique_ptr<Device> device;
  std::unique_ptr<Channel> channel;

  explicit Rig(std::string_view uri, ContextOptions options = {}) {
    context = std::move(*Context::create(options));
    register_limited_scheme(*context);
    register_part_scheme(*context);
    register_ram_scheme(*context);
    register_delay_scheme(*context);
    register_error_scheme(*context);
    auto opened = open_device(*context, uri);
    EXPECT_TRUE(opened) << opened.error().to_string();
    device = std::move(*opened);
    channel = std::move(*device->open_channel());
  }
  StatusCode run_io(Op op, uint64_t lba, uint64_t count, std::span<std::byte> data,
                    bool fua = false) {
    const iovec vector{data.data(), data.size()};
    Io io;
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{count};
    io.data = {&vector, 1};
    io.flags.fua = fua;
    return run(*channel, io);
  }
  uint64_t seen(Op op) const { return commands_seen(*device, op); }
};

// Goal: an Io becomes exactly as many native commands as its size needs.
TEST(Core, SplitsIntoAsFewCommandsAsPossible) {
  Rig rig("limited:1M?transfer=8&vectors=4");
  const TestMemory memory(100 * 512);
  ASSERT_EQ(rig.run_io(Op::write, 0, 8, memory.span().first(8 * 512)), StatusCode::ok);
  EXPECT_EQ(rig.seen(Op::write), 1u);
  EXPECT_EQ(rig.channel->stats().split, 0u);
  ASSERT_EQ(rig.run_io(Op::write, 0, 17, memory.span().first(17 * 512)), StatusCode::ok);
  EXPECT_EQ(rig.seen(Op::write), 1u + 3u);
  EXPECT_EQ(rig.channel->stats().split, 1u);
}

// Goal: a FUA write where the device has none is durable when it completes, also when it was split,
// and costs one flush; where the device has it, it costs none.
TEST(Core, MakesForcedWritesDurable) {
  for (const bool native : {false, true}) {
    Rig rig(native ? "limited:1M?transfer=8&fua=1" : "limited:1M?transfer=8");
    const TestMemory memory = std::move(TestMemory(20 * 512).fill(3));
    ASSERT_EQ(rig.run_io(Op::write, 4, 20, memory.span(), true), StatusCode::ok);
    const auto durable = durable_blocks(*rig.device, 4, 20);
    EXPECT_TRUE(std::equal(durable.begin(), durable.end(), memory.data()));
    EXPECT_EQ(rig.seen(Op::flush), native ? 0u : 1u);
    EXPECT_EQ(rig.channel->stats().emulated, native ? 0u : 1u);
    ASSERT_EQ(rig.run_io(Op::write, 40, 20, memory.span()), StatusCode::ok);
    const auto not_yet = durable_blocks(*rig.device, 40, 20);
    EXPECT_FALSE(std::equal(not_yet.begin(), not_yet.end(), memory.data()));
    ASSERT_EQ(rig.run_io(Op::flush, 0, 0, {}), StatusCode::ok);
    const auto flushed = durable_blocks(*rig.device, 40, 20);
    EXPECT_TRUE(std::equal(flushed.begin(), flushed.end(), memory.data()));
  }
}

// Goal: without a volatile cache a flush has nothing to do and reaches nobody; FUA costs nothing.
TEST(Core, SparesFlushesWithoutCache) {
  Rig rig("ram:1M");
  const TestMemory memory(512);
  EXPECT_EQ(rig.run_io(Op::write, 0, 1, memory.span(), true), StatusCode::ok);
  EXPECT_EQ(rig.channel->stats().emulated, 0u);
}

// Goal: a channel's listeners hear of a resize, and its bounds follow at once, through a layer too.
TEST(Core, FollowsResizes) {
  struct Heard final : DeviceListener {
    void on_event(Device& device, DeviceEvent event) override {
      events.push_back(event);
      blocks = device.info().block_count.value;
    }
    std::vector<DeviceEvent> events;
    uint64_t blocks = 0;
  } heard;
  Rig rig("limited:1M");
  rig.device->add_listener(heard);
  const DeviceInfo& before = rig.device->info();
  const TestMemory memory(512);
  EXPECT_EQ(rig.run_io(Op::read, 2047, 1, memory.span()), StatusCode::ok);
  resize_limited(*rig.device, 1000);
  EXPECT_EQ(rig.run_io(Op::read, 2047, 1, memory.span()), StatusCode::out_of_range);
  EXPECT_EQ(rig.run_io(Op::read, 999, 1, memory.span()), StatusCode::ok);
  EXPECT_EQ(heard.events, std::vector{DeviceEvent::resized});
  EXPECT_EQ(heard.blocks, 1000u);
  EXPECT_EQ(before.block_count, BlockCount{2048}) << "an older description stays readable";
  rig.device->remove_listener(heard);
}

// Goal: a device that is gone answers device_removed, tells its listeners, and works when it
// returns.
TEST(Core, SurvivesRemoval) {
  struct Heard final : DeviceListener {
    void on_event(Device&, DeviceEvent event) override { events.push_back(event); }
    std::vector<DeviceEvent> events;
  } heard;
  Rig rig("limited:1M");
  rig.device->add_listener(heard);
  const TestMemory memory(512);
  remove_limited(*rig.device);
  EXPECT_EQ(rig.run_io(Op::read, 0, 1, memory.span()), StatusCode::device_removed);
  EXPECT_EQ(rig.run_io(Op::flush, 0, 0, {}), StatusCode::device_removed);
  const auto channel = rig.device->open_channel();
  ASSERT_FALSE(channel);
  EXPECT_EQ(channel.error().code(), StatusCode::device_removed);
  return_limited(*rig.device);
  EXPECT_EQ(rig.run_io(Op::read, 0, 1, memory.span()), StatusCode::ok);
  EXPECT_EQ(heard.events, (std::vector{DeviceEvent::removed, DeviceEvent::returned}));
  rig.device->remove_listener(heard);
}

// Goal: registered memory is used where it is, other memory is bounced; unregistering waits for
// I/O.
TEST(Core, UsesRegisteredMemory) {
  Rig rig("limited:1M?registered=1");
  auto arena = Arena::create({.bytes = 1 << 20, .map = &rig.context->memory()});
  ASSERT_TRUE(arena);
  {
    auto buffer = (*arena)->allocate(4096);
    ASSERT_TRUE(buffer);
    EXPECT_EQ(rig.run_io(Op::write, 0, 8, buffer->span()), StatusCode::ok);
    EXPECT_EQ(rig.channel->stats().bounced, 0u);
    const TestMemory other(4096);
    EXPECT_EQ(rig.run_io(Op::write, 0, 8, other.span()), StatusCode::ok);
    EXPECT_EQ(rig.channel->stats().bounced, 1u);
  }
  TestMemory mine(4096);
  const auto region = rig.context->memory().register_region(mine.span());
  ASSERT_TRUE(region);
  bool finished = false;
  const iovec vector{mine.data(), mine.size()};
  Io io;
  io.block_count = BlockCount{8};
  io.data = {&vector, 1};
  io.user = &finished;
  io.done = [](Io& ended) { *static_cast<bool*>(ended.user) = true; };
  rig.channel->submit(io);
  const Status busy =
      rig.context->memory().unregister_region(*region, std::chrono::milliseconds(5));
  EXPECT_EQ(busy.code(), StatusCode::timed_out) << "an Io uses it";
  std::thread waiter([&] {
    const Status status = rig.context->memory().unregister_region(*region);
    EXPECT_TRUE(status.ok()) << status.to_string();
  });
  while (!finished) rig.channel->wait(std::chrono::milliseconds(1));
  EXPECT_EQ(io.status, StatusCode::ok);
  rig.channel->poll();
  waiter.join();
  EXPECT_EQ(rig.run_io(Op::write, 0, 8, mine.span()), StatusCode::ok);
  EXPECT_EQ(rig.channel->stats().bounced, 2u) << "no longer registered";
}

// Goal: nothing is allocated per Io, on any path: direct, split, bounced, emulated, locked,
// refused.
TEST(Core, AllocatesNothingPerIo) {
  for (const char* uri : {"ram:4M", "part:(ram:4M)", "delay:(ram:4M)?read_us=5&write_us=5",
                          "error:(ram:4M)?read=7&write=7&flush=2",
                          "limited:4M?align=512&transfer=8&vectors=2&registered=1"}) {
    Rig rig(uri);
    const TestMemory memory(64 * 512, 1);
    const TestMemory aligned(64 * 512);
    const auto round = [&] {
      for (const Op op :
           {Op::read, Op::write, Op::write_zeroes, Op::compare, Op::copy, Op::flush, Op::discard}) {
        rig.run_io(op, 100, 64, memory.span());
        rig.run_io(op, 100, 64, aligned.span(), true);
        rig.run_io(op, ~uint64_t{0}, 64, aligned.span());
      }
      rig.run_io(Op::compare_and_write, 100, 32, memory.span());
      rig.run_io(Op::compare_and_write, 100, 32, aligned.span());
    };
    round();
    const uint64_t before = allocations_so_far();
    for (int i = 0; i < 10; ++i) round();
    EXPECT_EQ(allocations_so_far() - before, 0u) << uri;
  }
}

// Goal: a failed native command fails its Io, and the first failure is the one reported.
TEST(Core, ReportsFailures) {
  Rig rig("limited:1M?transfer=8");
  const TestMemory a = std::move(TestMemory(40 * 512).fill(1));
  ASSERT_EQ(rig.run_io(Op::write, 0, 40, a.span()), StatusCode::ok);
  a.data()[39 * 512] ^= std::byte{1};
  EXPECT_EQ(rig.run_io(Op::compare, 0, 40, a.span()), StatusCode::miscompare);
  EXPECT_EQ(rig.channel->stats().errors[size_t(Op::compare)], 1u);
}

// Goal: a device's own compare_and_write is never split: what is too large for one command says so.
TEST(Core, KeepsNativeCompareAndWriteWhole) {
  Rig rig("limited:1M?ops=all&transfer=8&align=512&slots=8");
  const TestMemory memory = std::move(TestMemory(32 * 512, 1).fill(1));
  ASSERT_EQ(rig.run_io(Op::write, 0, 8, memory.span().first(8 * 512)), StatusCode::ok);
  TestMemory both(16 * 512, 1);
  std::copy_n(memory.data(), 8 * 512, both.data());
  EXPECT_EQ(rig.run_io(Op::compare_and_write, 0, 8, both.span()), StatusCode::ok);
  EXPECT_EQ(rig.seen(Op::compare_and_write), 1u) << "bounced as one command";
  EXPECT_EQ(rig.run_io(Op::compare_and_write, 0, 16, memory.span()), StatusCode::too_large);
}

// Goal: cancelling jobs that wait for a range gives what they held to those that wait behind them.
// All of a channel's jobs wait for another channel's write and are cancelled; more Ios wait for a job.
TEST(Core, PassesOnWhatCancelledJobsHeld) {
  Rig rig("limited:1M");
  auto other = rig.device->open_channel();
  ASSERT_TRUE(other);
  const TestMemory memory(1024);
  const iovec vector{memory.data(), 512};
  const iovec both{memory.data(), 1024};
  int done = 0;
  const auto count = [](Io& io) { ++*static_cast<int*>(io.user); };
  Io plain;
  plain.op = Op::write;
  plain.block_count = BlockCount{1};
  plain.data = {&vector, 1};
  plain.done = count;
  plain.user = &done;
  (*other)->submit(plain);
  std::vector<Io> ios(200);
  for (Io& io : ios) {
    io.op = Op::compare_and_write;
    io.block_count = BlockCount{1};
    io.data = {&both, 1};
    io.done = count;
    io.user = &done;
    rig.channel->submit(io);
  }
  for (int i = 0; i < 10; ++i) rig.channel->poll();
  EXPECT_EQ(done, 0) << "the other channel's write is still in flight";
  for (size_t i = 0; i < 100; ++i) rig.channel->cancel(ios[i]);
  while ((*other)->stats().outstanding != 0) (*other)->poll();
  for (int i = 0; i < 100'000 && rig.channel->stats().outstanding != 0; ++i) rig.channel->poll();
  EXPECT_EQ(done, 201);
  for (size_t i = 0; i < ios.size(); ++i) {
    EXPECT_EQ(ios[i].status == StatusCode::canceled, i < 100) << i;
  }
  ASSERT_EQ(rig.channel->stats().outstanding, 0u);
}

// Goal: the slice's own keys are checked, and their errors say what would be right.
TEST(Part, ChecksItsSlice) {
  auto context = Context::create();
  register_part_scheme(**context);
  register_ram_scheme(**context);
  struct Row {
    const char* uri;
    const char* message;
  };
  const Row rows[] = {
      {"part:ram", "takes one device"},
      {"part:(ram:1M),(ram:1M)", "takes one device"},
      {"part:(ram:1M)?offset=1M", "below the device's 1048576 B"},
      {"part:(ram:1M)?offset=100", "whole blocks of 512 B"},
      {"part:(ram:1M)?offset=512K&size=513K", "at most the 524288 B"},
      {"part:(ram:1M)?size=0", "at most"},
      {"part:(ram:1M)?length=1K", "offset, size"},
      {"part:(ram:1M?length=1K)", "block"},
  };
  for (const Row& row : rows) {
    const auto device = open_device(**context, row.uri);
    ASSERT_FALSE(device) << row.uri;
    EXPECT_NE(device.error().message().find(row.message), std::string_view::npos)
        << device.error().message();
  }
}

TEST(LatencyHistogram, CountsInBuckets) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.percentile(0.5), 0u);
  for (uint64_t i = 1; i <= 1000; ++i) histogram.add(i * 1000);
  EXPECT_EQ(histogram.count(), 1000u);
  // A bucket is at most a quarter of its lower end wide.
  EXPECT_GE(histogram.percentile(0.5), 500'000u);
  EXPECT_LE(histogram.percentile(0.5), 625'000u);
  EXPECT_GE(histogram.percentile(1.0), 1'000'000u);
  histogram.add(0);
  histogram.add(~uint64_t{0}, 5);
  EXPECT_EQ(histogram.count(), 1006u);
  EXPECT_EQ(histogram.buckets[0], 1u);
  EXPECT_EQ(histogram.buckets[LatencyHistogram::kBuckets - 1], 5u);
  for (unsigned bucket = 0; bucket + 1 < LatencyHistogram::kBuckets; ++bucket) {
    EXPECT_EQ(latency_bucket(latency_bucket_end(bucket) - 1), bucket);
    EXPECT_EQ(latency_bucket(latency_bucket_end(bucket)), bucket + 1);
  }
}

RangeLock range(RangeLock::Kind kind, uint64_t first, uint64_t count, RangeUser& user) {
  RangeLock lock;
  lock.kind = kind;
  lock.first = Lba{first};
  lock.count = BlockCount{count};
  lock.user = &user;
  return lock;
}

bool readable(int fd) {
  uint64_t count = 0;
  return ::read(fd, &count, sizeof count) == sizeof count;
}

// Goal: exclusive locks wait for writes from before, overlapping locks go in order, others pass;
// whoever waits is woken.
TEST(RangeLocks, GrantInOrder) {
  constexpr auto kWrite = RangeLock::Kind::write;
  constexpr auto kExclusive = RangeLock::Kind::exclusive;
  RangeLocks locks;
  RangeUser a;
  RangeUser b;
  locks.add_user(a);
  locks.add_user(b);
  ASSERT_TRUE(locks.enter_write(b));
  RangeLock first = range(kExclusive, 10, 10, a);
  locks.enqueue(first);
  EXPECT_FALSE(locks.granted(first)) << "a write from before is in flight";
  EXPECT_FALSE(locks.enter_write(b)) << "writes now need locks";
  const int fd = a.wake_fd();
  ASSERT_GE(fd, 0);
  EXPECT_FALSE(readable(fd));
  locks.leave_write(b);
  EXPECT_TRUE(readable(fd));
  EXPECT_TRUE(locks.granted(first));

  RangeLock inside = range(kWrite, 19, 1, b);
  RangeLock beside = range(kWrite, 20, 5, b);
  RangeLock second = range(kExclusive, 0, 11, b);
  for (RangeLock* lock : {&inside, &beside, &second}) locks.enqueue(*lock);
  EXPECT_FALSE(locks.granted(inside));
  EXPECT_TRUE(locks.granted(beside));
  EXPECT_FALSE(locks.granted(second));
  const int b_fd = b.wake_fd();
  locks.release(first);
  EXPECT_TRUE(readable(b_fd));
  EXPECT_TRUE(locks.granted(inside));
  EXPECT_TRUE(locks.granted(second));
  for (RangeLock* lock : {&second, &inside, &beside}) locks.release(*lock);
  EXPECT_TRUE(locks.enter_write(a)) << "nobody wants exclusiveness any more";
  locks.leave_write(a);
  locks.remove_user(a);
  locks.remove_user(b);
}

}  // namespace
}  // namespace basalt
