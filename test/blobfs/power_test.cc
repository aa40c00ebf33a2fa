// Power loss: what sync() acknowledged is there, with name and size, whatever of the rest reached the disk.
// Method: a child works like a database and is stopped at every one of its device writes; then a random part
// of the unflushed blocks is lost, the boot id changes, and what the child had been promised is looked for.
#include "fixture.h"

#include <sys/mman.h>

#include <algorithm>

namespace basalt {
namespace {

struct Promised {
  uint64_t wal_synced = 0;  // pieces of the present log
  uint64_t wal_number = 0;
  uint64_t tables = 0;   // /t0 … are synced with their names
  uint64_t current = 0;  // version CURRENT had when its directory was synced
  uint64_t removed = 0;  // logs below this were removed and the removal synced
  uint64_t finished = 0;
};

class PowerTest : public FsTest, public ::testing::WithParamInterface<uint32_t> {
 protected:
  PowerTest() {
    promised_ = static_cast<Promised*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }
  ~PowerTest() override { ::munmap(promised_, 4096); }

  static std::vector<std::byte> wal_piece(uint64_t wal, uint64_t i) {
    return pattern(333, wal * 1000 + i);
  }
  static std::vector<std::byte> table_bytes(uint64_t i) {
    return pattern(100000 + i * 777, 5000 + i);
  }
  static std::string wal_name(uint64_t n) { return "/db/wal" + std::to_string(n); }

  void work() {
    ASSERT_OK(fs_->make_directory("/db"));
    for (uint64_t round = 0; round < 3; ++round) {
      const auto wal = create(wal_name(round), FileKind::log);
      promised_->wal_synced = 0;
      promised_->wal_number = round;
      for (uint64_t i = 0; i < 6; ++i) {
        ASSERT_OK(wal->append(wal_piece(round, i)));
        if (i % 2 == 0) continue;
        ASSERT_OK(wal->sync());
        promised_->wal_synced = i + 1;
      }
      const auto table = create("/db/t" + std::to_string(round));
      ASSERT_OK(table->append(table_bytes(round)));
      ASSERT_OK(table->sync());
      ASSERT_OK(table->close());
      promised_->tables = round + 1;
      {
        const auto next = create("/db/CURRENT.tmp");
        ASSERT_OK(next->append(pattern(20, round + 1)));
        ASSERT_OK(next->sync());
      }
      ASSERT_OK(fs_->rename("/db/CURRENT.tmp", "/db/CURRENT"));
      ASSERT_OK(fs_->sync_directory("/db"));
      promised_->current = round + 1;
      if (round > 0) {
        ASSERT_OK(fs_->remove(wal_name(round - 1)));
        ASSERT_OK(fs_->sync_directory("/db"));
        promised_->removed = round;
      }
    }
    promised_->finished = 1;
    die();
  }

  void verify() {
    if (promised_->wal_synced > 0) {
      std::vector<std::byte> expected;
      for (uint64_t i = 0; i < 6; ++i) {
        const auto piece = wal_piece(promised_->wal_number, i);
        expected.insert(expected.end(), piece.begin(), piece.end());
      }
      const auto found = read_file(wal_name(promised_->wal_number));
      ASSERT_GE(found.size(), promised_->wal_synced * 333);
      ASSERT_LE(found.size(), expected.size());
      EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin()));
    }
    for (uint64_t i = 0; i < promised_->tables; ++i) {
      EXPECT_TRUE(read_file("/db/t" + std::to_string(i)) == table_bytes(i)) << "table " << i;
    }
    if (promised_->current > 0) {
      const auto found = read_file("/db/CURRENT");
      EXPECT_TRUE(found == pattern(20, promised_->current) ||
                  found == pattern(20, promised_->current + 1));
    }
    for (uint64_t i = 0; i < promised_->removed; ++i) EXPECT_FALSE(exists(wal_name(i)));
    // Anything else that is there can be read.
    if (!exists("/db")) return;
    const auto entries = fs_->list("/db");
    ASSERT_TRUE(entries.has_value());
    for (const auto& entry : *entries) read_file("/db/" + entry.name);
  }
  Promised* promised_;
};

TEST_P(PowerTest, AtEveryWriteOfADatabase) {
  for (uint64_t n = 1; n < 400; ++n) {
    SCOPED_TRACE("write " + std::to_string(n));
    make({.bytes = uint64_t{32} << 20, .block_bytes = GetParam()});
    *promised_ = {};
    kill_at_write(n);
    ASSERT_TRUE(in_child([this] { work(); }));
    change_boot();
    // What was in flight is lost whole, or in part, or not at all.
    if (n % 3 == 0) disk_->power_cut();
    if (n % 3 == 1) disk_->power_cut(n);
    mount();
    verify();
    // What was found stays: another cut after the recovery loses nothing.
    unmount();
    disk_->power_cut();
    expect_clean();
    mount();
    verify();
    unmount();
    ASSERT_FALSE(HasFailure());
    if (promised_->finished != 0) return;
  }
  ADD_FAILURE() << "the workload never came to its end";
}

TEST_P(PowerTest, CutsDuringRecoveryLoseNothing) {
  for (uint64_t n = 1; n < 100; ++n) {
    SCOPED_TRACE("write " + std::to_string(n));
    make({.bytes = uint64_t{32} << 20, .block_bytes = GetParam()});
    *promised_ = {};
    kill_at_write(40 + n % 17);
    ASSERT_TRUE(in_child([this] { work(); }));
    const Promised before = *promised_;
    promised_->finished = 0;
    disk_->power_cut(n);
    change_boot();
    kill_at_write(n);
    ASSERT_TRUE(in_child([this] {
      const auto entries = fs_->list("/db");
      if (entries) {
        for (const auto& entry : *entries) read_file("/db/" + entry.name);  // settles logs
      }
      fs_->sync_all().ok();
      promised_->finished = 1;
    }));
    const bool survived = promised_->finished != 0;
    *promised_ = before;
    disk_->power_cut(n + 1000);
    change_boot();
    mount();
    verify();
    unmount();
    expect_clean();
    ASSERT_FALSE(HasFailure());
    if (survived) return;
  }
  ADD_FAILURE() << "recovery never came to its end";
}

INSTANTIATE_TEST_SUITE_P(BlockBytes, PowerTest, ::testing::Values(512u, 4096u));

}  // namespace
}  // namespace basalt
