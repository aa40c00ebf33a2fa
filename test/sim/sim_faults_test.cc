// Faults and absences of a SimDisk, by its command interface: what the struck command answers, what a reader sees
// afterwards, and what survives a power cut.
#include "sim/sim_faults.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "sim/sim_command.h"

namespace basalt::sim {
namespace {

SimFault everywhere(OpSet ops, FaultKind kind) {
  return {.ops = ops, .first = Lba{0}, .block_count = BlockCount{2048}, .kind = kind};
}

TEST(SimFaults, PassesTheFirstCommandsAndStrikesTheNext) {
  SimDisk disk(small());
  SimFault fault = everywhere({Op::write}, FaultKind::error);
  fault.skip = 2;
  fault.times = 2;
  disk.inject(fault);
  std::string answers;
  for (unsigned i = 0; i < 6; ++i) {
    Command command(Op::write, i, 1, 'a');
    answers += finish(disk, command) == StatusCode::ok ? '.' : 'x';
  }
  EXPECT_EQ(answers, "..xx..");
  EXPECT_EQ(disk.counters().injected_faults, 2u);
}

// ---- Timeouts

TEST(SimTimeout, AWriteHasHappenedInPartOrNotAtAll) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimOptions options = small();
    options.seed = seed;
    SimDisk disk(options);
    disk.inject(everywhere({Op::write}, FaultKind::timeout));
    Command command(Op::write, 0, 2, 'a');
    EXPECT_EQ(finish(disk, command), StatusCode::timed_out);
    seen.insert(content(disk, 0, 2));
    flush(disk);  // what has happened is an ordinary write
    EXPECT_EQ(disk.unflushed_writes(), 0u);
  }
  EXPECT_EQ(seen, (Set{"..", "a.", ".a", "aa"}));
}

TEST(SimTimeout, AFuaWriteOrAFlushMayHaveReachedTheMedia) {
  unsigned written = 0, durable = 0, flushed = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    SimOptions options = small();
    options.seed = seed;
    SimDisk disk(options);
    disk.inject(everywhere({Op::write}, FaultKind::timeout));
    Command command(Op::write, 0, 1, 'a', true);
    EXPECT_EQ(finish(disk, command), StatusCode::timed_out);
    if (content(disk, 0, 1) == "a") ++written;
    if (disk.durable_image() == disk.image() && disk.unflushed_writes() == 0 &&
        content(disk, 0, 1) == "a") {
      ++durable;
    }
    disk.clear_faults();
    write(disk, 1, 1, 'b');
    disk.inject(everywhere({Op::flush}, FaultKind::timeout));
    Command flushing(Op::flush, 0, 0);
    EXPECT_EQ(finish(disk, flushing), StatusCode::timed_out);
    if (disk.unflushed_writes() == 0) ++flushed;
  }
  EXPECT_GT(written, 20u);
  EXPECT_GT(durable, 10u);
  EXPECT_LT(durable, written) << "written in part is not forced";
  EXPECT_GT(flushed, 10u);
  EXPECT_LT(flushed, 60u);
}

TEST(SimTimeout, AReadLeavesRubbish) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  disk.inject(everywhere({Op::read}, FaultKind::timeout));
  Command read(Op::read, 0, 1);
  EXPECT_EQ(finish(disk, read), StatusCode::timed_out);
  std::map<std::byte, unsigned> bytes;
  for (const std::byte byte : read.buffer) ++bytes[byte];
  EXPECT_GT(bytes.size(), 100u);
}

TEST(SimTimeout, IsToldLate) {
  SimDisk disk(small());
  SimFault fault = everywhere({Op::write}, FaultKind::timeout);
  fault.late_polls = 7;
  disk.inject(fault);
  Command command(Op::write, 0, 1, 'a');
  EXPECT_EQ(disk.execute(command.io, 0).late_polls, 7u);
}

// ---- Writes that go nowhere or elsewhere

TEST(SimDropped, AWriteIsAcknowledgedAndNeverHappens) {
  SimDisk disk(small());
  write(disk, 0, 2, 'o');
  flush(disk);
  SimFault fault = everywhere({Op::write}, FaultKind::dropped);
  fault.times = 2;
  disk.inject(fault);
  write(disk, 0, 1, 'n');
  write(disk, 1, 1, 'n', true);
  EXPECT_EQ(disk.counters().buffers_changed, 0u);
  EXPECT_EQ(content(disk, 0, 2), "oo");
  flush(disk);
  write(disk, 2, 1, 'n');
  flush(disk);
  EXPECT_EQ(outcomes(disk, 0, 3), Set{"oon"});
}

TEST(SimDropped, AFlushIsAcknowledgedAndCoversNothing) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  SimFault fault = everywhere({Op::flush}, FaultKind::dropped);
  fault.times = 1;
  disk.inject(fault);
  flush(disk);
  EXPECT_EQ(disk.unflushed_writes(), 1u);
  flush(disk);
  EXPECT_EQ(disk.unflushed_writes(), 0u);
}

TEST(SimMisdirected, AWriteLandsElsewhereAndLeavesItsOwnBlocks) {
  SimDisk disk(small());
  write(disk, 0, 4, 'o');
  flush(disk);
  SimFault fault = everywhere({Op::write}, FaultKind::misdirected);
  fault.elsewhere = Lba{2};
  fault.times = 1;
  disk.inject(fault);
  write(disk, 0, 1, 'n');
  EXPECT_EQ(content(disk, 0, 4), "oono");
  EXPECT_EQ(outcomes(disk, 0, 4), (Set{"oooo", "oono"}));
}

TEST(SimMisdirected, AForcedWriteIsDurableWhereItLanded) {
  SimDisk disk(small());
  SimFault fault = everywhere({Op::write}, FaultKind::misdirected);
  fault.elsewhere = Lba{1 << 20};  // far behind the end
  disk.inject(fault);
  write(disk, 0, 3, 'n', true);
  const uint64_t end = disk.block_count();
  EXPECT_EQ(outcomes(disk, end - 4, 4), Set{".nnn"});
}

TEST(SimMisdirected, AReadBringsOtherBytes) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  write(disk, 9, 1, 'z');
  SimFault fault = everywhere({Op::read}, FaultKind::misdirected);
  fault.elsewhere = Lba{9};
  fault.times = 1;
  disk.inject(fault);
  EXPECT_EQ(content(disk, 0, 1), "z");
  EXPECT_EQ(content(disk, 0, 1), "a");
}

// ---- A disk that vanishes and returns

TEST(SimVanished, EveryCommandFailsUntilItReturnsThoseUnderWayToo) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  Command under_way(Op::write, 1, 1, 'b');
  const auto execution = disk.execute(under_way.io, 0);
  const uint64_t before = disk.absences();
  disk.vanish();
  EXPECT_TRUE(disk.is_away());
  EXPECT_FALSE(disk.is_cut());
  for (Op op : {Op::read, Op::write, Op::write_zeroes, Op::discard, Op::flush}) {
    Command command(op, 2, 1);
    EXPECT_EQ(finish(disk, command), StatusCode::device_removed) << to_string(op);
  }
  disk.come_back(SimDisk::Cache::kept);
  EXPECT_EQ(disk.absences(), before + 1);
  EXPECT_EQ(disk.complete(under_way.io, execution), StatusCode::device_removed);
  Command queued(Op::write, 3, 1, 'q');  // submitted before, executed after
  EXPECT_EQ(disk.execute(queued.io, 0, before).status, StatusCode::device_removed);
  EXPECT_EQ(content(disk, 0, 4), "ab..");
  write(disk, 3, 1, 'd');
  EXPECT_EQ(content(disk, 0, 4), "ab.d");
}

TEST(SimVanished, WithItsCacheNothingIsLostAndTheNextFlushCoversAll) {
  SimDisk disk(small());
  write(disk, 0, 1, 'a');
  Command under_way(Op::write, 1, 1, 'b');
  disk.execute(under_way.io, 0);
  disk.vanish();
  disk.come_back(SimDisk::Cache::kept);
  EXPECT_EQ(disk.unflushed_writes(), 2u);
  flush(disk);
  EXPECT_EQ(outcomes(disk, 0, 2), Set{"ab"});
}

TEST(SimVanished, WithoutItsCacheAnySubsetOfTheUnflushedIsThere) {
  Set seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    SimDisk disk(small());
    write(disk, 0, 1, 'f', true);
    write(disk, 1, 1, 'a');
    write(disk, 2, 1, 'b');
    disk.vanish();
    disk.come_back(SimDisk::Cache::lost, seed);
    EXPECT_EQ(disk.unflushed_writes(), 0u);
    seen.insert(content(disk, 0, 3));
    EXPECT_EQ(disk.image(), disk.durable_image());
  }
  EXPECT_EQ(seen, (Set{"f..", "fa.", "f.b", "fab"}));
}

TEST(SimVanished, GoesAfterTheGivenCommandWhichNeverCompletes) {
  SimDisk disk(small());
  disk.vanish_after(2);
  write(disk, 0, 1, 'a');
  content(disk, 0, 1);  // reads do not count
  Command last(Op::write, 1, 1, 'b');
  EXPECT_EQ(finish(disk, last), StatusCode::device_removed);
  EXPECT_TRUE(disk.is_away());
  disk.come_back(SimDisk::Cache::kept);
  EXPECT_EQ(content(disk, 0, 2), "ab");
  write(disk, 2, 1, 'c');
  EXPECT_FALSE(disk.is_away());
}

TEST(SimVanished, ACutDiskStaysAway) {
  SimDisk disk(small());
  disk.vanish();
  disk.power_cut();
  disk.come_back(SimDisk::Cache::kept);
  Command read(Op::read, 0, 1);
  EXPECT_EQ(finish(disk, read), StatusCode::device_removed);
}

}  // namespace
}  // namespace basalt::sim
