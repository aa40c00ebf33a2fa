// The cases of the conformance suite that use one channel on one thread, one Io or few at a time.
#include "test/bdev/conformance.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <random>

namespace basalt {

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(DeviceConformance);

// Goal: the description is complete and consistent, and the URI in it opens the same device.
TEST_P(DeviceConformance, DescribesItself) {
  const DeviceInfo& info = device_->info();
  EXPECT_TRUE(std::has_single_bit(info.block_size));
  EXPECT_GE(info.block_size, 512u);
  EXPECT_GE(info.block_count.value * info.block_size, uint64_t{63} << 20);
  EXPECT_GE(info.atomic_write_blocks, 1u);
  EXPECT_TRUE(std::has_single_bit(info.memory_alignment));
  EXPECT_FALSE(info.read_only);
  EXPECT_TRUE(info.supported.has(Op::read) && info.supported.has(Op::write));
  EXPECT_TRUE(info.supported.has(Op::flush));
  for (unsigned op = 0; op < kOpCount; ++op) {
    EXPECT_LE(info.native.has(static_cast<Op>(op)), info.supported.has(static_cast<Op>(op)));
  }
  const std::string canonical = info.uri;
  uri_ = canonical;
  reopen();
  EXPECT_EQ(device_->info().uri, canonical);
}

// Goal: a key nobody owns is refused with its name and with those that would be right.
TEST_P(DeviceConformance, RefusesUnknownUriKeys) {
  channel_.reset();
  device_.reset();
  const std::string separator = uri_.find('?') == std::string::npos ? "?" : "&";
  auto device = open_device(*context_, uri_ + separator + "nonsense=1");
  ASSERT_FALSE(device);
  EXPECT_EQ(device.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(device.error().message().find("nonsense"), std::string_view::npos);
}

// Goal: what was written is read back, for sizes around every usual unit, at both ends of the
// device.
TEST_P(DeviceConformance, ReadsWhatWasWritten) {
  uint64_t seed = 1;
  for (const uint64_t count : {1, 2, 7, 8, 9, 127, 128, 511, 512, 513, 4095, 4096, 4097}) {
    for (const uint64_t lba : {uint64_t{0}, uint64_t{1}, capacity() - count}) {
      const TestMemory data = std::move(TestMemory(count * block_size()).fill(++seed));
      ASSERT_EQ(write(lba, data), StatusCode::ok) << count << " blocks at " << lba;
      expect_stored(lba, data, "after write");
    }
  }
}

// Goal: a write changes its own blocks and no neighbour.
TEST_P(DeviceConformance, LeavesNeighboursAlone) {
  TestMemory around(9 * block_size());
  around.fill(3);
  ASSERT_EQ(write(10, around), StatusCode::ok);
  const TestMemory middle = std::move(TestMemory(3 * block_size()).fill(4));
  ASSERT_EQ(write(13, middle), StatusCode::ok);
  std::copy_n(middle.data(), middle.size(), around.data() + 3 * block_size());
  expect_stored(10, around, "after a write in the middle");
}

// Goal: positions and counts at and beyond the end are answered as stated, also where sums wrap.
TEST_P(DeviceConformance, ChecksBounds) {
  const uint64_t end = capacity();
  const uint64_t top = ~uint64_t{0};
  struct Row {
    uint64_t lba, count;
    StatusCode expected;
  };
  const Row rows[] = {
      {0, 0, StatusCode::invalid_argument}, {end, 0, StatusCode::invalid_argument},
      {end - 1, 1, StatusCode::ok},         {end - 1, 2, StatusCode::out_of_range},
      {end, 1, StatusCode::out_of_range},   {end + 1, 1, StatusCode::out_of_range},
      {top, 1, StatusCode::out_of_range},   {1, top, StatusCode::out_of_range},
      {top, top, StatusCode::out_of_range}, {0, end + 1, StatusCode::out_of_range},
      {end - 2, 2, StatusCode::ok},
  };
  const TestMemory memory(2 * block_size());
  for (const Op op : {Op::read, Op::write, Op::write_zeroes, Op::compare}) {
    if (!supports(op)) continue;
    for (const Row& row : rows) {
      const iovec vector{memory.data(), std::min<uint64_t>(row.count, 2) * block_size()};
      StatusCode got = run_io(op, row.lba, row.count, {&vector, 1});
      if (op == Op::compare && got == StatusCode::miscompare) got = StatusCode::ok;
      EXPECT_EQ(got, row.expected) << to_string(op) << " " << row.count << " at " << row.lba;
    }
  }
}

// Goal: vectors that do not hold exactly the Io's bytes are refused.
TEST_P(DeviceConformance, ChecksVectorLength) {
  const TestMemory memory(4 * block_size());
  const size_t bytes = 2 * block_size();
  for (const size_t length : {size_t{0}, size_t{1}, bytes - 1, bytes + 1, bytes + block_size()}) {
    const iovec vector{memory.data(), length};
    EXPECT_EQ(run_io(Op::write, 0, 2, {&vector, 1}), StatusCode::invalid_argument) << length;
    EXPECT_EQ(run_io(Op::read, 0, 2, {&vector, 1}), StatusCode::invalid_argument) << length;
  }
  EXPECT_EQ(run_io(Op::read, 0, 2, {}), StatusCode::invalid_argument);
  const iovec wraps[] = {{memory.data(), ~size_t{0}}, {memory.data(), bytes + 1}};
  EXPECT_EQ(run_io(Op::read, 0, 2, wraps), StatusCode::invalid_argument);
}

// Goal: metadata is refused by a device without a format for it.
TEST_P(DeviceConformance, RefusesMetadataWithoutFormat) {
  if (device_->info().metadata_bytes != 0) GTEST_SKIP() << "has metadata";
  const TestMemory memory(block_size());
  const iovec vector{memory.data(), memory.size()};
  Io io;
  io.block_count = BlockCount{1};
  io.data = {&vector, 1};
  io.metadata = {&vector, 1};
  EXPECT_EQ(run(*channel_, io), StatusCode::invalid_argument);
}

// Goal: memory of any alignment works, in each direction.
TEST_P(DeviceConformance, TakesMisalignedMemory) {
  uint64_t seed = 100;
  for (const size_t misalignment : {0, 1, 2, 4, 511, 512, 513, 4095}) {
    for (const uint64_t count : {1, 3, 17, 300}) {
      const TestMemory data =
          std::move(TestMemory(count * block_size(), misalignment).fill(++seed));
      ASSERT_EQ(write(5, data), StatusCode::ok);
      TestMemory got(data.size(), misalignment);
      ASSERT_EQ(read(5, got), StatusCode::ok);
      if (stores_data()) {
        EXPECT_TRUE(got == data) << "misaligned by " << misalignment << ", " << count << " blocks";
      }
    }
  }
  const bool must_bounce = device_->info().memory_alignment > 1 && !GetParam().layer;
  if (must_bounce) {
    EXPECT_GT(channel_->stats().bounced, 0u);
  }
}

// Goal: data in many pieces of all sizes, also of none, is gathered and scattered in order.
TEST_P(DeviceConformance, TakesManyVectors) {
  std::mt19937_64 random(7);
  for (const size_t largest : {size_t{1}, size_t{100}, size_t{600}, size_t{9000}}) {
    const size_t blocks = largest == 1 ? 4 : 64;
    TestMemory data(blocks * block_size(), 3);
    data.fill(largest);
    TestMemory got(data.size(), 5);
    std::vector<iovec> from;
    std::vector<iovec> to;
    for (size_t at = 0; at < data.size();) {
      const size_t length = std::min<size_t>(random() % (largest + 1), data.size() - at);
      from.push_back({data.data() + at, length});
      to.push_back({got.data() + at, length});
      at += length;
    }
    ASSERT_EQ(run_io(Op::write, 20, blocks, from), StatusCode::ok);
    ASSERT_EQ(run_io(Op::read, 20, blocks, to), StatusCode::ok);
    if (stores_data()) {
      EXPECT_TRUE(got == data) << from.size() << " vectors";
    }
  }
}

// Goal: vectors of one block each, one fewer, as many and one more than the device takes at once.
TEST_P(DeviceConformance, TakesVectorsAroundTheLimit) {
  const uint64_t limit = device_->info().max_iovecs == 0 ? 64 : device_->info().max_iovecs;
  for (const uint64_t count : {limit - 1, limit, limit + 1, 3 * limit + 1}) {
    if (count == 0 || count >= capacity()) continue;
    const TestMemory data = std::move(TestMemory(count * block_size()).fill(count));
    std::vector<iovec> vectors;
    for (uint64_t i = 0; i < count; ++i) {
      vectors.push_back({data.data() + i * block_size(), block_size()});
    }
    ASSERT_EQ(run_io(Op::write, 0, count, vectors), StatusCode::ok) << count;
    expect_stored(0, data, "after a write of many vectors");
  }
}

// Goal: sizes around the largest native command are carried out, larger ones in several commands.
TEST_P(DeviceConformance, SplitsLargeIo) {
  const DeviceInfo& info = device_->info();
  const uint64_t limit = info.max_transfer_blocks == 0 ? 2048 : info.max_transfer_blocks;
  for (const uint64_t count : {limit - 1, limit, limit + 1, 2 * limit, 4 * limit + 1}) {
    if (count == 0 || count > capacity()) continue;
    const uint64_t split_before = channel_->stats().split;
    const TestMemory data = std::move(TestMemory(count * block_size()).fill(count));
    ASSERT_EQ(write(0, data), StatusCode::ok) << count;
    if (info.max_transfer_blocks != 0 && !GetParam().layer) {
      EXPECT_EQ(channel_->stats().split - split_before, count > limit) << count;
    }
    expect_stored(0, data, "after a large write");
  }
}

// Goal: a whole device's worth in one Io works.
TEST_P(DeviceConformance, TakesTheWholeDevice) {
  const TestMemory data = std::move(TestMemory(capacity() * block_size(), 1).fill(77));
  ASSERT_EQ(write(0, data), StatusCode::ok);
  expect_stored(0, data, "the whole device");
}

// Goal: write_zeroes leaves zeroes, in its own blocks only, with and without keeping them
// allocated.
TEST_P(DeviceConformance, WritesZeroes) {
  if (!supports(Op::write_zeroes)) GTEST_SKIP() << "not supported";
  for (const bool keep : {false, true}) {
    for (const uint64_t count : {uint64_t{1}, uint64_t{9}, uint64_t{513}, uint64_t{4097}}) {
      TestMemory data((count + 2) * block_size());
      data.fill(count);
      ASSERT_EQ(write(40, data), StatusCode::ok);
      IoFlags flags;
      flags.no_deallocate = keep;
      ASSERT_EQ(run_io(Op::write_zeroes, 41, count, {}, flags), StatusCode::ok) << count;
      std::fill_n(data.data() + block_size(), count * block_size(), std::byte{0});
      expect_stored(40, data, "after write_zeroes");
    }
  }
}

// Goal: a discarded range can be used again, and its neighbours keep their contents.
TEST_P(DeviceConformance, Discards) {
  const TestMemory data = std::move(TestMemory(600 * block_size()).fill(5));
  ASSERT_EQ(write(100, data), StatusCode::ok);
  const StatusCode status = run_io(Op::discard, 200, 400);
  if (!supports(Op::discard)) {
    EXPECT_EQ(status, StatusCode::unsupported);
    return;
  }
  ASSERT_EQ(status, StatusCode::ok);
  TestMemory before(100 * block_size());
  std::copy_n(data.data(), before.size(), before.data());
  expect_stored(100, before, "before the discarded range");
  const TestMemory again = std::move(TestMemory(400 * block_size()).fill(6));
  ASSERT_EQ(write(200, again), StatusCode::ok);
  expect_stored(200, again, "written after discard");
}

// Goal: compare tells equal from different, wherever the one different byte is.
TEST_P(DeviceConformance, Compares) {
  if (!supports(Op::compare)) GTEST_SKIP() << "not supported";
  for (const size_t misalignment : {0, 3}) {
    for (const uint64_t count : {1, 8, 600}) {
      const TestMemory data = std::move(TestMemory(count * block_size(), misalignment).fill(count));
      ASSERT_EQ(write(7, data), StatusCode::ok);
      const iovec halves[] = {{data.data(), 100}, {data.data() + 100, data.size() - 100}};
      EXPECT_EQ(run_io(Op::compare, 7, count, halves), StatusCode::ok);
      for (const size_t at : {size_t{0}, data.size() / 2, data.size() - 1}) {
        data.data()[at] ^= std::byte{1};
        EXPECT_EQ(run_io(Op::compare, 7, count, halves), StatusCode::miscompare) << at;
        data.data()[at] ^= std::byte{1};
      }
    }
  }
}

// Goal: compare_and_write writes when the bytes match, and nothing at all when they do not.
TEST_P(DeviceConformance, ComparesAndWrites) {
  if (!supports(Op::compare_and_write)) GTEST_SKIP() << "not supported";
  const uint32_t most = device_->info().max_compare_and_write_blocks;
  for (const uint64_t count : {1, 2, 16}) {
    if (most != 0 && count > most) {
      const TestMemory both = std::move(TestMemory(2 * count * block_size()).fill(3));
      const iovec vector{both.data(), both.size()};
      EXPECT_EQ(run_io(Op::compare_and_write, 3, count, {&vector, 1}), StatusCode::too_large);
      continue;
    }
    const TestMemory first = std::move(TestMemory(count * block_size()).fill(1));
    const TestMemory second = std::move(TestMemory(count * block_size(), 1).fill(2));
    ASSERT_EQ(write(3, first), StatusCode::ok);
    EXPECT_EQ(compare_and_write(3, first, second), StatusCode::ok);
    expect_stored(3, second, "after a compare_and_write that matched");
    EXPECT_EQ(compare_and_write(3, first, first), StatusCode::miscompare);
    expect_stored(3, second, "after one that did not");
    // All in one piece; and in pieces that have something of both.
    const TestMemory third = std::move(TestMemory(count * block_size()).fill(4));
    TestMemory both(2 * count * block_size());
    std::memcpy(both.data(), second.data(), second.size());
    std::memcpy(both.data() + second.size(), third.data(), third.size());
    const iovec whole{both.data(), both.size()};
    EXPECT_EQ(run_io(Op::compare_and_write, 3, count, {&whole, 1}), StatusCode::ok);
    expect_stored(3, third, "after one whose data was one piece");
    EXPECT_EQ(run_io(Op::compare_and_write, 3, count, {&whole, 1}), StatusCode::miscompare);
    std::memcpy(both.data(), third.data(), third.size());
    std::memcpy(both.data() + third.size(), second.data(), second.size());
    const size_t odd = both.size() / 4;
    const iovec pieces[] = {
        {both.data(), odd}, {both.data() + odd, 2 * odd}, {both.data() + 3 * odd, odd}};
    EXPECT_EQ(run_io(Op::compare_and_write, 3, count, pieces), StatusCode::ok);
    expect_stored(3, second, "after one whose data was in three pieces");
    const iovec half{first.data(), first.size()};
    EXPECT_EQ(run_io(Op::compare_and_write, 3, count, {&half, 1}), StatusCode::invalid_argument);
  }
}

// Goal: copy copies, refuses overlap and ranges beyond the end on either side.
TEST_P(DeviceConformance, Copies) {
  if (!supports(Op::copy)) GTEST_SKIP() << "not supported";
  for (const uint64_t count : {1, 8, 513, 3000}) {
    const TestMemory data = std::move(TestMemory(count * block_size()).fill(count));
    ASSERT_EQ(write(11, data), StatusCode::ok);
    ASSERT_EQ(copy(11, 11 + count, count), StatusCode::ok);
    expect_stored(11 + count, data, "the copy");
    expect_stored(11, data, "the original");
  }
  EXPECT_EQ(copy(10, 11, 2), StatusCode::invalid_argument);
  EXPECT_EQ(copy(11, 10, 2), StatusCode::invalid_argument);
  EXPECT_EQ(copy(10, 10, 1), StatusCode::invalid_argument);
  EXPECT_EQ(copy(0, capacity() - 1, 2), StatusCode::out_of_range);
  EXPECT_EQ(copy(capacity() - 1, 0, 2), StatusCode::out_of_range);
}

// Goal: flush and FUA writes succeed, in any order, and the bytes are there.
TEST_P(DeviceConformance, FlushesAndForcesUnitAccess) {
  IoFlags fua;
  fua.fua = true;
  EXPECT_EQ(run_io(Op::flush, 0, 0), StatusCode::ok);
  // A flush has no range: what stands there is ignored.
  EXPECT_EQ(run_io(Op::flush, ~uint64_t{0}, ~uint64_t{0}), StatusCode::ok);
  for (const uint64_t count : {1, 5, 600}) {
    const TestMemory data = std::move(TestMemory(count * block_size(), count % 2).fill(count));
    ASSERT_EQ(write(30, data, fua), StatusCode::ok);
    expect_stored(30, data, "after a FUA write");
  }
  if (supports(Op::write_zeroes)) {
    EXPECT_EQ(run_io(Op::write_zeroes, 30, 5, {}, fua), StatusCode::ok);
    expect_stored(
        30,
        [&] {
          TestMemory zeroes(5 * block_size());
          std::fill_n(zeroes.data(), zeroes.size(), std::byte{0});
          return zeroes;
        }(),
        "after FUA write_zeroes");
  }
}

// Goal: what was flushed is there after closing and opening, where the device claims to persist.
TEST_P(DeviceConformance, PersistsAcrossReopen) {
  if (!device_->info().persistent) GTEST_SKIP() << "does not persist";
  const TestMemory data = std::move(TestMemory(100 * block_size()).fill(9));
  ASSERT_EQ(write(1, data), StatusCode::ok);
  ASSERT_EQ(run_io(Op::flush, 0, 0), StatusCode::ok);
  reopen();
  expect_stored(1, data, "after opening again");
  const uint64_t blocks = capacity();
  reopen(OpenMode::read_only);
  EXPECT_EQ(capacity(), blocks);
  expect_stored(1, data, "opened for reading");
}

// Goal: a device opened for reading refuses every op that changes it, reads, and grants no writer.
TEST_P(DeviceConformance, RefusesWritesWhenReadOnly) {
  reopen(OpenMode::read_only);
  EXPECT_TRUE(device_->info().read_only);
  const TestMemory memory(2 * block_size());
  const iovec vector{memory.data(), memory.size()};
  EXPECT_EQ(run_io(Op::read, 0, 2, {&vector, 1}), StatusCode::ok);
  EXPECT_EQ(run_io(Op::flush, 0, 0), StatusCode::ok);
  for (const Op op : {Op::write, Op::write_zeroes, Op::discard, Op::compare_and_write, Op::copy}) {
    const uint64_t count = op == Op::compare_and_write ? 1 : 2;
    EXPECT_EQ(run_io(op, 4, count, {&vector, 1}),
              supports(op) ? StatusCode::read_only : StatusCode::unsupported)
        << to_string(op);
  }
  auto claim = device_->claim(ClaimMode::exclusive_writer, "test");
  ASSERT_FALSE(claim);
  EXPECT_EQ(claim.error().code(), StatusCode::read_only);
  EXPECT_TRUE(device_->claim(ClaimMode::read_only, "test"));
}

// Goal: what the device does not do, and what nobody knows, is answered with `unsupported`.
TEST_P(DeviceConformance, AnswersUnsupported) {
  for (unsigned op = 0; op < kOpCount; ++op) {
    if (supports(static_cast<Op>(op))) continue;
    const TestMemory memory(block_size());
    const iovec vector{memory.data(), memory.size()};
    EXPECT_EQ(run_io(static_cast<Op>(op), 0, 1, {&vector, 1}), StatusCode::unsupported) << op;
  }
  for (const unsigned op : {12u, 15u, 16u, 17u, 31u, 32u, 255u}) {
    const TestMemory memory(block_size());
    const iovec vector{memory.data(), memory.size()};
    EXPECT_EQ(run_io(static_cast<Op>(op), 0, 1), StatusCode::unsupported) << op;
    EXPECT_EQ(run_io(static_cast<Op>(op), 0, 1, {&vector, 1}), StatusCode::unsupported) << op;
  }
}

// Goal: claims go together as stated, and the refusal names the holder.
TEST_P(DeviceConformance, GrantsClaims) {
  constexpr auto kWriter = ClaimMode::exclusive_writer;
  constexpr auto kShared = ClaimMode::shared_writer;
  constexpr auto kReader = ClaimMode::read_only;
  for (const ClaimMode held : {kWriter, kShared, kReader}) {
    for (const ClaimMode wanted : {kWriter, kShared, kReader}) {
      auto first = device_->claim(held, "the first");
      ASSERT_TRUE(first) << first.error().to_string();
      const auto second = device_->claim(wanted, "the second");
      EXPECT_EQ(second.has_value(), held == wanted && held != kWriter);
      if (second) continue;
      EXPECT_EQ(second.error().code(), StatusCode::busy);
      EXPECT_NE(second.error().message().find("the first"), std::string_view::npos);
    }
  }
  auto claim = device_->claim(kWriter, "moved");
  ASSERT_TRUE(claim);
  Claim moved = std::move(*claim);
  EXPECT_FALSE(device_->claim(kReader, "other"));
  moved = Claim();
  EXPECT_TRUE(device_->claim(kReader, "other"));
}

// Goal: a listener is told nothing by ordinary I/O, and can be taken away.
TEST_P(DeviceConformance, KeepsListeners) {
  struct Counter final : DeviceListener {
    void on_event(Device&, DeviceEvent) override { ++events; }
    int events = 0;
  } counter;
  device_->add_listener(counter);
  const TestMemory memory(block_size());
  EXPECT_EQ(write(0, memory), StatusCode::ok);
  device_->remove_listener(counter);
  device_->remove_listener(counter);
  EXPECT_EQ(counter.events, 0);
}

// Goal: counters count what was asked for, by op, with errors and bytes, and latencies.
TEST_P(DeviceConformance, Counts) {
  const ChannelStats before = channel_->stats();
  const TestMemory memory(3 * block_size(), 1);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(write(i, memory), StatusCode::ok);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(read(i, memory), StatusCode::ok);
  EXPECT_EQ(run_io(Op::flush, 0, 0), StatusCode::ok);
  EXPECT_EQ(read(capacity(), memory), StatusCode::out_of_range);
  const ChannelStats& after = channel_->stats();
  const auto ops = [&](Op op) { return after.ops[size_t(op)] - before.ops[size_t(op)]; };
  EXPECT_EQ(ops(Op::write), 5u);
  EXPECT_EQ(ops(Op::read), 5u);
  EXPECT_EQ(ops(Op::flush), 1u);
  EXPECT_EQ(after.errors[size_t(Op::read)], 1u);
  EXPECT_EQ(after.errors[size_t(Op::write)], 0u);
  EXPECT_EQ(after.written_bytes - before.written_bytes, 15u * block_size());
  EXPECT_EQ(after.read_bytes - before.read_bytes, 12u * block_size());
  EXPECT_EQ(after.read_latency.count() - before.read_latency.count(), 4u);
  EXPECT_EQ(after.write_latency.count() - before.write_latency.count(), 5u);
  EXPECT_EQ(after.flush_latency.count() - before.flush_latency.count(), 1u);
  EXPECT_GT(after.write_latency.percentile(0.5), 0u);
  EXPECT_EQ(after.outstanding, 0u);
}

// Goal: random ops of every kind, sizes and alignments leave exactly what a model in memory says.
TEST_P(DeviceConformance, FollowsAModel) {
  if (!stores_data()) GTEST_SKIP() << "stores nothing";
  std::mt19937_64 random(GetParam().name.size());
  constexpr uint64_t kBlocks = 1000;
  TestMemory model(kBlocks * block_size());
  model.fill(1);
  ASSERT_EQ(write(0, model), StatusCode::ok);
  const auto at = [&](uint64_t lba) { return model.data() + lba * block_size(); };
  for (int round = 0; round < 1500; ++round) {
    const unsigned kind = random() % 6;
    // A compare_and_write is not split where the device does it itself: small ones only.
    const uint64_t count = 1 + random() % (random() % 8 == 0 && kind != 4 ? 300 : 9);
    const uint64_t lba = random() % (kBlocks - count + 1);
    const size_t bytes = count * block_size();
    TestMemory data(bytes, random() % 4 == 0 ? random() % 600 : 0);
    switch (kind) {
      case 0:
      case 1: {
        data.fill(random());
        IoFlags flags;
        flags.fua = random() % 8 == 0;
        ASSERT_EQ(write(lba, data, flags), StatusCode::ok);
        std::copy_n(data.data(), bytes, at(lba));
        break;
      }
      case 2:
        ASSERT_EQ(run_io(Op::write_zeroes, lba, count), StatusCode::ok);
        std::fill_n(at(lba), bytes, std::byte{0});
        break;
      case 3: {
        const uint64_t to = random() % (kBlocks - count + 1);
        const bool overlaps = to < lba + count && lba < to + count;
        ASSERT_EQ(copy(lba, to, count), overlaps ? StatusCode::invalid_argument : StatusCode::ok);
        if (!overlaps) std::copy_n(at(lba), bytes, at(to));
        break;
      }
      case 4: {
        TestMemory expected(bytes);
        std::copy_n(at(lba), bytes, expected.data());
        const bool equal = random() % 2 == 0;
        if (!equal) expected.data()[random() % bytes] ^= std::byte{0x40};
        data.fill(random());
        ASSERT_EQ(compare_and_write(lba, expected, data),
                  equal ? StatusCode::ok : StatusCode::miscompare);
        if (equal) std::copy_n(data.data(), bytes, at(lba));
        break;
      }
      case 5: {
        ASSERT_EQ(read(lba, data), StatusCode::ok);
        ASSERT_TRUE(std::equal(data.data(), data.data() + bytes, at(lba))) << "round " << round;
        break;
      }
    }
  }
  expect_stored(0, model, "at the end");
}

}  // namespace basalt
