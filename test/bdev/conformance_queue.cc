// The cases of the conformance suite about queues: depth, order of events, cancelling, waiting,
// several channels and threads.
#include <poll.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "test/bdev/conformance.h"

namespace basalt {
namespace {

// An Io with one vector, that notes how often and when it was done.
struct Tracked {
  Io io;
  iovec vector{};
  int done = 0;
  bool inside_submit = false;
  bool done_inside_submit = false;

  void prepare(Op op, uint64_t lba, uint64_t count, std::span<std::byte> data) {
    vector = {data.data(), data.size()};
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{count};
    io.data = {&vector, 1};
    io.user = this;
    io.done = [](Io& ended) {
      auto& tracked = *static_cast<Tracked*>(ended.user);
      ++tracked.done;
      tracked.done_inside_submit |= tracked.inside_submit;
    };
  }
  void submit(Channel& channel) {
    inside_submit = true;
    channel.submit(io);
    inside_submit = false;
  }
};

void drain(Channel& channel) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (channel.stats().outstanding != 0) {
    channel.wait(std::chrono::milliseconds(100));
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "an Io never completes";
  }
}

}  // namespace

// Goal: done() never runs inside submit(), neither for success nor for errors, and runs in poll().
TEST_P(DeviceConformance, NeverCompletesInsideSubmit) {
  const TestMemory memory(block_size());
  Tracked good;
  Tracked bad;
  Tracked flush;
  good.prepare(Op::read, 0, 1, memory.span());
  bad.prepare(Op::read, capacity(), 1, memory.span());
  flush.prepare(Op::flush, 0, 0, {});
  for (Tracked* tracked : {&good, &bad, &flush}) tracked->submit(*channel_);
  EXPECT_EQ(good.done + bad.done + flush.done, 0);
  channel_->poll();
  EXPECT_EQ(bad.done, 1) << "errors complete on the next poll";
  drain(*channel_);
  for (Tracked* tracked : {&good, &bad, &flush}) {
    EXPECT_EQ(tracked->done, 1);
    EXPECT_FALSE(tracked->done_inside_submit);
  }
  EXPECT_EQ(bad.io.status, StatusCode::out_of_range);
}

// Goal: done() may submit its own Io again; each turn completes once and in its own poll.
TEST_P(DeviceConformance, DoneMaySubmitAgain) {
  struct Chain {
    Io io;
    iovec vector{};
    Channel* channel = nullptr;
    uint64_t blocks = 0;
    int left = 0;
    int depth = 0;
    int deepest = 0;
  };
  const TestMemory memory(block_size());
  std::vector<Chain> chains(3);
  for (Chain& chain : chains) {
    chain.vector = {memory.data(), memory.size()};
    chain.channel = channel_.get();
    chain.blocks = capacity();
    chain.left = 1000;
    chain.io.data = {&chain.vector, 1};
    chain.io.block_count = BlockCount{1};
    chain.io.user = &chain;
    chain.io.done = [](Io& io) {
      auto& self = *static_cast<Chain*>(io.user);
      self.deepest = std::max(self.deepest, ++self.depth);
      // Every third turn is an error, which must come back the same way.
      io.lba = Lba{self.left % 3 == 0 ? self.blocks : static_cast<uint64_t>(self.left)};
      if (--self.left > 0) self.channel->submit(io);
      --self.depth;
    };
    channel_->submit(chain.io);
  }
  drain(*channel_);
  for (const Chain& chain : chains) {
    EXPECT_EQ(chain.left, 0);
    EXPECT_EQ(chain.deepest, 1) << "done() ran inside submit()";
  }
  EXPECT_EQ(channel_->stats().ops[size_t(Op::read)], 3000u);
}

// Goal: far more Ios than any pool holds are all accepted and all completed, with the right data;
// aligned and misaligned, small and split.
TEST_P(DeviceConformance, TakesAnyQueueDepth) {
  constexpr size_t kIos = 3000;
  const size_t blocks = 4;
  const size_t bytes = blocks * block_size();
  for (const size_t misalignment : {0, 1}) {
    const TestMemory out = std::move(TestMemory(kIos * bytes, misalignment).fill(misalignment));
    const TestMemory in(kIos * bytes, misalignment);
    for (const Op op : {Op::write, Op::read}) {
      const TestMemory& memory = op == Op::write ? out : in;
      std::vector<Tracked> all(kIos);
      for (size_t i = 0; i < kIos; ++i) {
        all[i].prepare(op, i * blocks, blocks, memory.span().subspan(i * bytes, bytes));
        all[i].submit(*channel_);
      }
      EXPECT_EQ(channel_->stats().outstanding, kIos);
      drain(*channel_);
      for (const Tracked& tracked : all) {
        ASSERT_EQ(tracked.done, 1);
        ASSERT_EQ(tracked.io.status, StatusCode::ok);
        ASSERT_EQ(tracked.io.result, blocks);
      }
    }
    if (stores_data()) {
      EXPECT_TRUE(in == out);
    }
  }
}

// Goal: deep queues of large, misaligned and emulated Ios finish too: nobody waits for ever.
TEST_P(DeviceConformance, TakesManyLargeJobs) {
  constexpr size_t kIos = 150;
  constexpr size_t kBlocks = 100;
  const TestMemory memory(kIos * kBlocks * block_size(), 7);
  std::vector<Tracked> all(kIos);
  const Op ops[] = {Op::write, Op::read, Op::write_zeroes, Op::copy, Op::flush};
  for (size_t i = 0; i < kIos; ++i) {
    const Op op = supports(ops[i % 5]) ? ops[i % 5] : Op::write;
    all[i].prepare(op, i * kBlocks, kBlocks,
                   memory.span().subspan(i * kBlocks * block_size(), kBlocks * block_size()));
    all[i].io.copy_source = Lba{(i + 1) * kBlocks};
    all[i].io.flags.fua = op == Op::write;
    all[i].submit(*channel_);
  }
  drain(*channel_);
  for (const Tracked& tracked : all) {
    EXPECT_EQ(tracked.done, 1);
    EXPECT_EQ(tracked.io.status, StatusCode::ok) << to_string(tracked.io.op);
  }
}

// Goal: cancelled Ios complete exactly once, as cancelled or as they would have; others are
// unharmed.
TEST_P(DeviceConformance, Cancels) {
  constexpr size_t kIos = 600;
  for (const size_t misalignment : {0, 1}) {
    const TestMemory memory(kIos * block_size(), misalignment);
    std::vector<Tracked> all(kIos);
    for (size_t i = 0; i < kIos; ++i) {
      all[i].prepare(Op::write, i, 1, memory.span().subspan(i * block_size(), block_size()));
      all[i].submit(*channel_);
    }
    for (size_t i = 0; i < kIos; i += 2) channel_->cancel(all[i].io);
    channel_->poll();
    for (size_t i = 0; i < kIos; i += 4) {
      if (all[i].done == 0) channel_->cancel(all[i].io);
    }
    drain(*channel_);
    for (size_t i = 0; i < kIos; ++i) {
      EXPECT_EQ(all[i].done, 1);
      if (i % 2 == 0 && all[i].io.status == StatusCode::canceled) continue;
      EXPECT_EQ(all[i].io.status, StatusCode::ok) << i;
    }
  }
  const TestMemory memory(block_size());
  EXPECT_EQ(write(0, memory), StatusCode::ok) << "the channel still works";
}

// Goal: a large Io that was split or bounced can be cancelled at any point.
TEST_P(DeviceConformance, CancelsLargeIo) {
  const TestMemory memory(8000 * block_size(), 1);
  for (int polls = 0; polls < 6; ++polls) {
    Tracked large;
    large.prepare(Op::read, 0, 8000, memory.span());
    large.submit(*channel_);
    for (int i = 0; i < polls; ++i) channel_->poll();
    if (large.done == 0) channel_->cancel(large.io);
    drain(*channel_);
    EXPECT_EQ(large.done, 1);
    EXPECT_TRUE(large.io.status == StatusCode::ok || large.io.status == StatusCode::canceled);
  }
}

// Goal: waiting with nothing to wait for ends by its timeout.
TEST_P(DeviceConformance, WaitEnds) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(channel_->wait(std::chrono::milliseconds(20)), 0u);
  EXPECT_EQ(channel_->wait(Duration::zero()), 0u);
  EXPECT_EQ(channel_->poll(), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

// Goal: an event loop that sleeps on wait_fd() after arm() and one more poll() sees every
// completion.
TEST_P(DeviceConformance, WorksWithAnEventLoop) {
  const int fd = channel_->wait_fd();
  const TestMemory memory(64 * block_size(), 1);
  for (int round = 0; round < 50; ++round) {
    Tracked tracked;
    tracked.prepare(round % 2 == 0 ? Op::write : Op::read, round, 64, memory.span());
    tracked.submit(*channel_);
    while (tracked.done == 0) {
      if (channel_->poll() != 0) continue;
      channel_->arm();
      if (channel_->poll() != 0 || fd < 0) continue;
      pollfd event{fd, POLLIN, 0};
      ASSERT_EQ(::poll(&event, 1, 10'000), 1) << "asleep while an Io is outstanding";
    }
    EXPECT_EQ(tracked.io.status, StatusCode::ok);
  }
}

// Goal: what one channel has written, another reads, flushes and overwrites.
TEST_P(DeviceConformance, SharesDataBetweenChannels) {
  auto other = device_->open_channel();
  ASSERT_TRUE(other);
  const TestMemory data = std::move(TestMemory(9 * block_size()).fill(1));
  ASSERT_EQ(write(50, data), StatusCode::ok);
  const TestMemory got(data.size());
  const iovec vector{got.data(), got.size()};
  EXPECT_EQ(run_io(Op::flush, 0, 0, {}, {}, other->get()), StatusCode::ok);
  EXPECT_EQ(run_io(Op::read, 50, 9, {&vector, 1}, {}, other->get()), StatusCode::ok);
  if (stores_data()) {
    EXPECT_TRUE(got == data);
  }
  const TestMemory newer = std::move(TestMemory(9 * block_size()).fill(2));
  const iovec newer_vector{newer.data(), newer.size()};
  EXPECT_EQ(run_io(Op::write, 50, 9, {&newer_vector, 1}, {}, other->get()), StatusCode::ok);
  expect_stored(50, newer, "written by the other channel");
}

// Goal: channels open and close at any time, used or not, in any number.
TEST_P(DeviceConformance, OpensAndClosesChannels) {
  for (int round = 0; round < 20; ++round) {
    auto first = device_->open_channel();
    auto second = device_->open_channel();
    ASSERT_TRUE(first && second);
    const TestMemory memory(block_size());
    const iovec vector{memory.data(), memory.size()};
    EXPECT_EQ(run_io(Op::write, 0, 1, {&vector, 1}, {}, second->get()), StatusCode::ok);
    first->reset();
    EXPECT_EQ(run_io(Op::read, 0, 1, {&vector, 1}, {}, second->get()), StatusCode::ok);
  }
}

// Goal: a channel may be used by one thread after another.
TEST_P(DeviceConformance, MovesBetweenThreads) {
  const TestMemory data = std::move(TestMemory(33 * block_size(), 1).fill(12));
  std::thread([&] { EXPECT_EQ(write(70, data), StatusCode::ok); }).join();
  expect_stored(70, data, "written by a thread that has ended");
}

// Goal: threads with channels of their own work side by side, each on its own blocks.
TEST_P(DeviceConformance, ServesThreads) {
  std::vector<std::thread> threads;
  for (uint64_t id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      auto channel = device_->open_channel();
      ASSERT_TRUE(channel);
      const uint64_t count = 24;
      const uint64_t base = id * 2000;
      for (uint64_t round = 0; round < 150; ++round) {
        TestMemory data(count * block_size(), round % 3);
        data.fill(id * 1000 + round);
        const iovec vector{data.data(), data.size()};
        const uint64_t lba = base + round * 7;
        ASSERT_EQ(run_io(Op::write, lba, count, {&vector, 1}, {}, channel->get()), StatusCode::ok);
        const TestMemory got(data.size(), round % 2);
        const iovec got_vector{got.data(), got.size()};
        ASSERT_EQ(run_io(Op::read, lba, count, {&got_vector, 1}, {}, channel->get()),
                  StatusCode::ok);
        if (stores_data()) {
          ASSERT_TRUE(got == data);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Goal: compare_and_write is atomic between channels: threads that count with it lose nothing,
// while another thread keeps the same blocks' neighbours and the blocks themselves busy with plain
// writes.
TEST_P(DeviceConformance, CountsAtomically) {
  if (!supports(Op::compare_and_write)) GTEST_SKIP() << "not supported";
  constexpr int kThreads = 3;
  constexpr uint64_t kTurns = 200;
  TestMemory zero(block_size());
  std::fill_n(zero.data(), zero.size(), std::byte{0});
  ASSERT_EQ(write(9, zero), StatusCode::ok);
  std::atomic<int> counting{kThreads};
  std::vector<std::thread> threads;
  for (int id = 0; id < kThreads; ++id) {
    threads.emplace_back([&] {
      auto channel = device_->open_channel();
      ASSERT_TRUE(channel);
      TestMemory seen(block_size());
      TestMemory next(block_size());
      for (uint64_t turns = 0; turns < kTurns;) {
        const iovec vector{seen.data(), seen.size()};
        ASSERT_EQ(run_io(Op::read, 9, 1, {&vector, 1}, {}, channel->get()), StatusCode::ok);
        std::copy_n(seen.data(), seen.size(), next.data());
        ++*reinterpret_cast<uint64_t*>(next.data());
        const StatusCode status = compare_and_write(9, seen, next, channel->get());
        ASSERT_TRUE(status == StatusCode::ok || status == StatusCode::miscompare);
        turns += status == StatusCode::ok;
      }
      --counting;
    });
  }
  threads.emplace_back([&] {
    auto channel = device_->open_channel();
    ASSERT_TRUE(channel);
    const TestMemory memory(block_size());
    const iovec vector{memory.data(), memory.size()};
    for (uint64_t i = 0; counting != 0; ++i) {
      ASSERT_EQ(run_io(Op::write, i % 2 == 0 ? 8 : 10, 1, {&vector, 1}, {}, channel->get()),
                StatusCode::ok);
    }
  });
  for (std::thread& thread : threads) thread.join();
  const TestMemory end(block_size());
  ASSERT_EQ(read(9, end), StatusCode::ok);
  EXPECT_EQ(*reinterpret_cast<uint64_t*>(end.data()), kThreads * kTurns);
}

// Goal: a plain write never falls between the halves of a compare_and_write of another channel:
// after each race the block holds what one of the two orders leaves, never the write lost.
TEST_P(DeviceConformance, OrdersWritesAroundCompareAndWrite) {
  if (!supports(Op::compare_and_write)) GTEST_SKIP() << "not supported";
  auto other = device_->open_channel();
  ASSERT_TRUE(other);
  const TestMemory a = std::move(TestMemory(block_size()).fill(1));
  const TestMemory b = std::move(TestMemory(block_size()).fill(2));
  const TestMemory c = std::move(TestMemory(block_size()).fill(3));
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    ASSERT_EQ(write(5, a), StatusCode::ok);
    Tracked plain;
    plain.prepare(Op::write, 5, 1, c.span());
    Tracked atomic;
    atomic.prepare(Op::compare_and_write, 5, 1, {});
    const iovec halves[] = {{a.data(), a.size()}, {b.data(), b.size()}};
    atomic.io.data = halves;
    if (random() % 2 == 0) {
      plain.submit(*channel_);
      atomic.submit(**other);
    } else {
      atomic.submit(**other);
      plain.submit(*channel_);
    }
    while (plain.done == 0 || atomic.done == 0) {
      (random() % 2 == 0 ? *channel_ : **other).poll();
    }
    ASSERT_EQ(plain.io.status, StatusCode::ok);
    // a→c, then a is not found: c. Or a→b, then c is written over it: c. b would be a lost write.
    expect_stored(5, c, "the later of the two");
    ASSERT_TRUE(atomic.io.status == StatusCode::ok || atomic.io.status == StatusCode::miscompare);
  }
}

// Goal: a compare_and_write that waits for another channel's write wakes its event loop when that
// write has completed, without any timer.
TEST_P(DeviceConformance, WakesAnEventLoopForItsRange) {
  if (!supports(Op::compare_and_write)) GTEST_SKIP() << "not supported";
  if (device_->info().max_compare_and_write_blocks != 0) {
    GTEST_SKIP() << "the device does it itself, and waits for nobody";
  }
  const int fd = channel_->wait_fd();
  if (fd < 0) GTEST_SKIP() << "completes only from poll()";
  auto other = device_->open_channel();
  ASSERT_TRUE(other);
  const TestMemory a = std::move(TestMemory(block_size()).fill(1));
  const TestMemory b = std::move(TestMemory(block_size()).fill(2));
  const iovec halves[] = {{a.data(), a.size()}, {b.data(), b.size()}};
  for (int round = 0; round < 5; ++round) {
    Tracked plain;
    plain.prepare(Op::write, 5, 1, a.span());
    plain.submit(**other);
    Tracked atomic;
    atomic.prepare(Op::compare_and_write, 5, 1, {});
    atomic.io.data = halves;
    atomic.submit(*channel_);
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      drain(**other);
    });
    while (atomic.done == 0) {
      channel_->arm();
      if (channel_->poll() != 0) continue;
      pollfd event{fd, POLLIN, 0};
      EXPECT_EQ(::poll(&event, 1, 10'000), 1) << "nobody wakes the loop";
    }
    later.join();
    EXPECT_EQ(plain.io.status, StatusCode::ok);
    EXPECT_EQ(atomic.io.status, StatusCode::ok) << "the write came first";
  }
}

}  // namespace basalt
