// What operations cost in device commands: a synced append to a warm log is one write and one flush (or one
// FUA write) and nothing else; a table's sync is its data, one flush and one journal record.
// Method: the device counts.
#include "fixture.h"

namespace basalt {
namespace {

class CommandsTest : public FsTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  void start(uint64_t bytes = uint64_t{64} << 20) {
    make({.bytes = bytes, .block_bytes = GetParam()});
    mount();
  }
};

void expect_one_durable_write(const MemoryDisk::Counters& cost) {
  EXPECT_EQ(cost.writes, 1u);
  EXPECT_EQ(cost.fua_writes + cost.flushes, 1u);
  EXPECT_EQ(cost.reads, 0u);
}

TEST_P(CommandsTest, ASyncedAppendToAWarmLogIsOneDurableWrite) {
  start();
  const auto wal = create("/wal", FileKind::log);
  ASSERT_OK(wal->append(pattern(100, 0)));
  ASSERT_OK(wal->sync());
  const auto commits = fs_->stats().journal_commits;
  for (int i = 1; i < 5000; ++i) {
    const auto before = disk_->counters();
    ASSERT_OK(wal->append(pattern(100, i)));
    ASSERT_OK(wal->flush());
    ASSERT_EQ(disk_->counters().writes, before.writes) << "append and flush stay in memory";
    ASSERT_OK(wal->sync());
    const auto cost = disk_->counters() - before;
    expect_one_durable_write(cost);
    ASSERT_LE(cost.written_bytes, 2u * GetParam());
    ASSERT_FALSE(HasFailure()) << "append " << i;
  }
  EXPECT_EQ(fs_->stats().journal_commits, commits) << "no metadata write";
  EXPECT_EQ(fs_->stats().log_syncs, 5000u);
}

TEST_P(CommandsTest, AMillionSyncedAppendsTakeLittleMoreThanTheirBytes) {
  start(uint64_t{256} << 20);
  const auto wal = create("/wal", FileKind::log);
  const auto piece = pattern(100, 1);
  const auto before = fs_->stats();
  const auto commands = disk_->counters();
  constexpr uint64_t kAppends = 1000000;
  for (uint64_t i = 0; i < kAppends; ++i) {
    ASSERT_TRUE(wal->append(piece).ok());
    ASSERT_TRUE(wal->sync().ok());
  }
  const auto cost = disk_->counters() - commands;
  const auto stats = fs_->stats();
  EXPECT_GE(cost.writes, kAppends);
  EXPECT_LE(cost.writes, kAppends + 100) << "growing is rare";
  EXPECT_LE(stats.journal_commits - before.journal_commits, 30u);
  ASSERT_OK(wal->close());
  const uint64_t bytes = kAppends * 100;
  const uint64_t headers = (bytes / (GetParam() - 32) + 1) * 32;
  EXPECT_EQ(fs_->stat("/wal")->size_bytes, bytes);
  EXPECT_LE(fs_->stat("/wal")->allocated_bytes, static_cast<uint64_t>(1.3 * bytes) + headers);
}

TEST_P(CommandsTest, ASyncWithNothingNewIsFree) {
  start();
  for (const FileKind kind : {FileKind::log, FileKind::table}) {
    const auto file = create("/f", kind);
    ASSERT_OK(file->append(pattern(1000, 1)));
    ASSERT_OK(file->sync());
    const auto before = disk_->counters();
    ASSERT_OK(file->sync());
    ASSERT_OK(file->flush());
    const auto cost = disk_->counters() - before;
    EXPECT_EQ(cost.writes + cost.flushes, 0u);
  }
}

TEST_P(CommandsTest, ALargeLogIsSyncedByWritesAndOneFlush) {
  start();
  const auto wal = create("/wal", FileKind::log, {.preallocate_bytes = 4 << 20});
  ASSERT_OK(wal->append(pattern(1, 1)));
  ASSERT_OK(wal->sync());
  const auto before = disk_->counters();
  ASSERT_OK(wal->append(pattern(1200000, 2)));
  ASSERT_OK(wal->sync());
  const auto cost = disk_->counters() - before;
  EXPECT_EQ(cost.fua_writes, 0u);
  EXPECT_EQ(cost.flushes, 1u);
  EXPECT_LE(cost.writes, 5u);
}

TEST_P(CommandsTest, ATableIsSyncedByItsDataOneFlushAndOneRecord) {
  start();
  const auto table = create("/sst", FileKind::table, {.preallocate_bytes = 4 << 20});
  ASSERT_OK(fs_->sync_all());
  const auto before = disk_->counters();
  const auto commits = fs_->stats().journal_commits;
  ASSERT_OK(table->append(pattern(300000, 1)));
  ASSERT_OK(table->sync());
  const auto cost = disk_->counters() - before;
  EXPECT_LE(cost.writes, 8u);
  EXPECT_LE(cost.flushes, 2u);
  EXPECT_EQ(fs_->stats().journal_commits - commits, 1u);
}

TEST_P(CommandsTest, AReopenedLogIsWarmAfterItsFirstSync) {
  start();
  create("/wal", FileKind::log)->close().ok();
  remount();
  const auto wal = open("/wal", OpenMode::read_write);
  ASSERT_OK(wal->append(pattern(100, 0)));
  ASSERT_OK(wal->sync());
  const auto before = disk_->counters();
  ASSERT_OK(wal->append(pattern(100, 1)));
  ASSERT_OK(wal->sync());
  expect_one_durable_write(disk_->counters() - before);
}

TEST_P(CommandsTest, CachedReadsDoNotTouchTheDevice) {
  start();
  write_file("/sst", FileKind::table, pattern(1 << 20, 1));
  const auto table = open("/sst");
  const auto before = disk_->counters();
  std::vector<std::byte> out(4000);
  for (uint64_t at = 0; at + out.size() < 1 << 20; at += 5000) {
    ASSERT_TRUE(table->read(at, out).has_value());
  }
  EXPECT_EQ((disk_->counters() - before).reads, 0u) << "fresh tables are written through";
}

TEST_P(CommandsTest, AScanIsReadInLongPieces) {
  start();
  write_file("/sst", FileKind::table, pattern(8 << 20, 1));
  remount();
  const auto table = open("/sst");
  const auto before = disk_->counters();
  std::vector<std::byte> out(3800);
  for (uint64_t at = 0; at < 8 << 20; at += out.size())
    ASSERT_TRUE(table->read(at, out).has_value());
  EXPECT_LE((disk_->counters() - before).reads, 40u);
}

INSTANTIATE_TEST_SUITE_P(BlockBytes, CommandsTest, ::testing::Values(512u, 4096u));

}  // namespace
}  // namespace basalt
