// SimDisk: what survives a power cut. Each test drives the disk by its command interface, without a
// device, so that the moments of execution and completion are the test's.
#include "sim/sim_disk.h"

#include <gtest/gtest.h>

#include <array>
#include <set>

#include "sim/sim_command.h"

namespace basalt::sim {
namespace {

TEST(SimDisk, AWriteIsReadableAtOnceAndDurableAfterAFlush) {
  SimDisk disk(small());
  write(disk, 3, 2, 'a');
  EXPECT_EQ(content(disk, 2, 4), ".aa.");
  EXPECT_EQ(disk.unflushed_writes(), 1u);
  flush(disk);
  EXPECT_EQ(disk.unflushed_writes(), 0u);
  EXPECT_EQ(outcomes(disk, 2, 4), Set{".aa."});
}

TEST(SimDisk, UnflushedWritesSurviveInEverySubset) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  write(disk, 1, 1, 'b');
  write(disk, 2, 1, 'c');
  EXPECT_EQ(outcomes(disk, 0, 3), (Set{"...", "a..", ".b.", "..c", "ab.", "a.c", ".bc", "abc"}));
}

TEST(SimDisk, SeedZeroLosesAllAndSeedOneKeepsAll) {
  SimDisk disk(small());
  for (unsigned i = 0; i < 20; ++i) write(disk, i, 1, 'x');
  disk.power_cut();
  EXPECT_EQ(content(*disk.surviving_image(0), 0, 20), std::string(20, '.'));
  EXPECT_EQ(content(*disk.surviving_image(1), 0, 20), std::string(20, 'x'));
}

TEST(SimDisk, TheSameSeedGivesTheSameSurvivor) {
  SimDisk disk(small());
  for (unsigned i = 0; i < 50; ++i) write(disk, i, 3, 'a' + i % 20);
  disk.power_cut();
  EXPECT_EQ(disk.surviving_image(77)->image(), disk.surviving_image(77)->image());
}

TEST(SimDisk, AWriteTearsAtItsAtomicUnit) {
  SimDisk disk(small());
  write(disk, 0, 2, 'a');
  EXPECT_EQ(outcomes(disk, 0, 2), (Set{"..", "a.", ".a", "aa"}));

  SimOptions options = small();
  options.atomic_blocks = 2;
  SimDisk wide(options);
  write(wide, 0, 2, 'a');
  EXPECT_EQ(outcomes(wide, 0, 2), (Set{"..", "aa"}));
  SimDisk crossing(options);
  write(crossing, 1, 2, 'a');  // not aligned to the unit: tears at its border
  EXPECT_EQ(outcomes(crossing, 0, 4), (Set{"....", ".a..", "..a.", ".aa."}));
}

TEST(SimDisk, AFlushCoversOnlyWhatHadCompletedWhenItWasSubmitted) {
  SimDisk disk(small());
  Command early(Op::write, 0, 1, 'a');
  Command late(Op::write, 1, 1, 'b');
  const auto early_execution = disk.execute(early.io, 0);
  const auto late_execution = disk.execute(late.io, 0);
  ASSERT_EQ(disk.complete(early.io, early_execution), StatusCode::ok);
  const uint64_t point = disk.flush_point();
  ASSERT_EQ(disk.complete(late.io, late_execution), StatusCode::ok);
  Command flush_command(Op::flush, 0, 0);
  ASSERT_EQ(disk.complete(flush_command.io, disk.execute(flush_command.io, point)), StatusCode::ok);
  EXPECT_EQ(outcomes(disk, 0, 2), (Set{"a.", "ab"}));
}

TEST(SimDisk, AFlushThatDidNotCompletePromisesNothing) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  Command flush_command(Op::flush, 0, 0);
  const auto execution = disk.execute(flush_command.io, disk.flush_point());
  disk.power_cut();
  EXPECT_EQ(disk.complete(flush_command.io, execution), StatusCode::device_removed);
  EXPECT_EQ(outcomes(disk, 0, 1), (Set{".", "a"}));
}

TEST(SimDisk, FuaMakesItsOwnWriteDurableAndNoOther) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  write(disk, 1, 1, 'b', true);
  EXPECT_EQ(outcomes(disk, 0, 2), (Set{".b", "ab"}));
}

TEST(SimDisk, DurableBytesNeverGiveWayToOlderOnes) {
  SimDisk disk(small());
  Command old(Op::write, 0, 3, 'o');  // executed first, never completed
  disk.execute(old.io, 0);
  write(disk, 1, 1, 'n', true);
  for (const std::string& outcome : outcomes(disk, 0, 3)) EXPECT_EQ(outcome[1], 'n') << outcome;

  SimDisk second(small());
  write(second, 0, 1, 'x');
  write(second, 0, 1, 'y');
  flush(second);
  write(second, 0, 1, 'z');
  EXPECT_EQ(outcomes(second, 0, 1), (Set{"y", "z"}));
}

TEST(SimDisk, WithoutAVolatileCacheACompletedWriteIsDurable) {
  SimOptions options = small();
  options.volatile_cache = false;
  SimDisk disk(options);
  write(disk, 0, 1, 'a');
  Command open(Op::write, 1, 2, 'b');
  disk.execute(open.io, 0);
  EXPECT_EQ(outcomes(disk, 0, 3), (Set{"a..", "ab.", "a.b", "abb"}));
}

TEST(SimDisk, ADishonestDiskLosesWhatItFlushed) {
  SimOptions options = small();
  options.ignore_flush = true;
  SimDisk disk(options);
  write(disk, 0, 1, 'a');
  flush(disk);
  write(disk, 1, 1, 'b', true);
  disk.power_cut();
  EXPECT_EQ(content(*disk.surviving_image(0), 0, 2), "..");
}

TEST(SimDisk, EveryCommandAfterTheCutFails) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  Command open(Op::write, 1, 1, 'b');
  const auto execution = disk.execute(open.io, 0);
  disk.power_cut();
  EXPECT_EQ(disk.complete(open.io, execution), StatusCode::device_removed);
  for (Op op : {Op::read, Op::write, Op::write_zeroes, Op::discard, Op::flush}) {
    Command command(op, 0, 1);
    EXPECT_EQ(finish(disk, command), StatusCode::device_removed) << to_string(op);
  }
  EXPECT_EQ(disk.counters().media_commands, 2u);
}

TEST(SimDisk, TheCutComesAfterTheGivenCommandWhichNeverCompletes) {
  SimDisk disk(small());
  disk.cut_after(3);
  write(disk, 0, 1, 'a');
  content(disk, 0, 1);  // reads do not count
  flush(disk);
  Command last(Op::write, 1, 1, 'b');
  EXPECT_EQ(finish(disk, last), StatusCode::device_removed);
  EXPECT_TRUE(disk.is_cut());
  EXPECT_EQ(outcomes(disk, 0, 2), (Set{"a.", "ab"}));
}

TEST(SimDisk, ADiscardedBlockHoldsAnything) {
  SimOptions options = small();
  std::set<char> seen;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    options.seed = seed;
    SimDisk disk(options);
    write(disk, 0, 1, 'a');
    Command discard(Op::discard, 0, 1);
    ASSERT_EQ(finish(disk, discard), StatusCode::ok);
    Command read(Op::read, 0, 1);
    ASSERT_EQ(finish(disk, read), StatusCode::ok);
    const bool garbage = read.buffer[0] != read.buffer[1] || read.buffer[1] != read.buffer[2];
    seen.insert(garbage ? 'g' : static_cast<char>(read.buffer[0]));
  }
  EXPECT_EQ(seen, (std::set<char>{'a', '\0', 'g'}));
}

TEST(SimDisk, WriteZeroesIsAWriteOfZeros) {
  SimDisk disk(small());
  write(disk, 0, 3, 'a');
  flush(disk);
  Command zeroes(Op::write_zeroes, 1, 1);
  ASSERT_EQ(finish(disk, zeroes), StatusCode::ok);
  EXPECT_EQ(content(disk, 0, 3), "a.a");
  EXPECT_EQ(outcomes(disk, 0, 3), (Set{"aaa", "a.a"}));
}

TEST(SimDisk, AProcessDeathKeepsTheCacheWithoutFlushingIt) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  Command open(Op::write, 1, 1, 'b');
  disk.execute(open.io, 0);
  disk.power_cut();
  const auto next = disk.image_after_process_death(5);
  EXPECT_EQ(content(*next, 0, 2), "ab");
  EXPECT_EQ(next->unflushed_writes(), 2u);
  EXPECT_EQ(outcomes(*next, 0, 2), (Set{"..", "a.", ".b", "ab"}));
  const auto again = disk.image_after_process_death(6);
  flush(*again);
  EXPECT_EQ(outcomes(*again, 0, 2), Set{"ab"});
}

TEST(SimDisk, InjectedErrorsHitTheirBlocksAndOpsAsOftenAsAsked) {
  SimDisk disk(small());
  disk.inject({.ops = {Op::write}, .first = Lba{10}, .block_count = BlockCount{5}, .times = 2});
  Command before(Op::write, 8, 2, 'a');
  Command into(Op::write, 8, 3, 'a');
  Command last(Op::write, 14, 1, 'a');
  Command after(Op::write, 15, 1, 'a');
  EXPECT_EQ(finish(disk, before), StatusCode::ok);
  EXPECT_EQ(finish(disk, into), StatusCode::io_error);
  EXPECT_EQ(content(disk, 8, 2), "aa");  // reads are not hit
  EXPECT_EQ(finish(disk, after), StatusCode::ok);
  EXPECT_EQ(finish(disk, last), StatusCode::io_error);
  EXPECT_EQ(finish(disk, last), StatusCode::ok);
  EXPECT_EQ(disk.counters().injected_faults, 2u);
}

TEST(SimDisk, AFailedWriteLeavesAnyPartOfItsBytes) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SimOptions options = small();
    options.seed = seed;
    SimDisk disk(options);
    disk.inject({.ops = {Op::write}, .first = Lba{0}, .block_count = BlockCount{1}});
    Command command(Op::write, 0, 2, 'a');
    EXPECT_EQ(finish(disk, command), StatusCode::io_error);
    seen.insert(content(disk, 0, 2));
  }
  EXPECT_EQ(seen, (Set{"..", "a.", ".a", "aa"}));
}

TEST(SimDisk, CorruptionIsSeenNowAndAfterACut) {
  SimDisk disk(small());
  write(disk, 0, 2, 'a');
  flush(disk);
  disk.corrupt(kBlock, kBlock, Damage::zeros);
  EXPECT_EQ(content(disk, 0, 2), "a.");
  EXPECT_EQ(outcomes(disk, 0, 2), Set{"a."});
}

TEST(SimDisk, AChangedBufferIsCounted) {
  SimDisk disk(small());
  Command command(Op::write, 0, 1, 'a');
  const auto execution = disk.execute(command.io, 0);
  command.buffer[100] = std::byte{0};
  EXPECT_EQ(disk.complete(command.io, execution), StatusCode::ok);
  EXPECT_EQ(disk.counters().buffers_changed, 1u);
}

TEST(SimDisk, CountsAndLogsCommands) {
  SimOptions options = small();
  options.log_commands = true;
  SimDisk disk(options);
  write(disk, 0, 2, 'a');
  write(disk, 7, 1, 'b', true);
  flush(disk);
  content(disk, 0, 1);
  const SimCounters counters = disk.counters();
  EXPECT_EQ(counters.writes, 1u);
  EXPECT_EQ(counters.fua_writes, 1u);
  EXPECT_EQ(counters.flushes, 1u);
  EXPECT_EQ(counters.reads, 1u);
  EXPECT_EQ(counters.written_bytes, 3u * kBlock);
  EXPECT_EQ(counters.media_commands, 3u);
  const auto commands = disk.commands();
  ASSERT_EQ(commands.size(), 4u);
  EXPECT_TRUE(commands[1].fua);
  EXPECT_EQ(commands[1].lba, Lba{7});
  EXPECT_EQ(commands[3].op, Op::read);
}

}  // namespace
}  // namespace basalt::sim
