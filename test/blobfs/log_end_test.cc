// The end of a log after a crash, on the device: torn tails are ends, holes are corruption and cut nothing
// short, a sealed block larger than the device's atomic unit survives a torn rewrite.
// Method: a child writes and is killed without its shared memory being replayed (another boot), then blocks
// are damaged behind everyone's back.
#include "fixture.h"

#include <algorithm>
#include <thread>

namespace basalt {
namespace {

class LogEndTest : public FsTest {
 protected:
  // A log of 20 synced appends of `each` bytes, left by a killed process; the power went with it.
  void leave_log(uint32_t block_bytes, size_t each, const MountOptions& options = {}) {
    block_ = block_bytes;
    make({.block_bytes = block_bytes});
    ASSERT_TRUE(in_child(
        [&] {
          const auto wal = create("/wal", FileKind::log);
          for (uint64_t i = 0; i < 20; ++i) {
            ASSERT_OK(wal->append(pattern(each, i)));
            ASSERT_OK(wal->sync());
          }
          die();
        },
        options));
    for (uint64_t i = 0; i < 20; ++i) {
      const auto piece = pattern(each, i);
      synced_.insert(synced_.end(), piece.begin(), piece.end());
    }
    change_boot();
    disk_->power_cut();
  }
  uint64_t payload() const { return block_ - 32; }
  void damage_block(uint64_t index) {
    const uint64_t id = kFirstFile;
    const uint64_t at = find_block(id, index * payload(), block_);
    ASSERT_NE(at, ~uint64_t{0}) << "block " << index;
    disk_->damage(at + 40, 1);
  }
  static constexpr uint64_t kFirstFile = 16;
  uint32_t block_ = 0;
  std::vector<std::byte> synced_;
};

TEST_F(LogEndTest, SyncedBytesAreThereWithoutAnyMetadataWrite) {
  for (const uint32_t block : {512u, 4096u}) {
    synced_.clear();
    leave_log(block, 1000);
    mount();
    EXPECT_EQ(fs_->stat("/wal")->size_bytes, synced_.size());
    EXPECT_EQ(read_file("/wal"), synced_);
    remount();
    EXPECT_EQ(read_file("/wal"), synced_);
    unmount();
    expect_clean();
  }
}

TEST_F(LogEndTest, CheckLooksForTheEndWithoutWriting) {
  leave_log(512, 1000);
  const auto before = disk_->counters();
  expect_clean();
  mount({.mode = OpenMode::read_only});
  EXPECT_EQ(read_file("/wal"), synced_);
  unmount();
  EXPECT_EQ(disk_->counters().writes, before.writes);
}

TEST_F(LogEndTest, AHoleIsCorruptionAndCutsNothingShort) {
  for (const uint64_t hole : {0ul, 5ul, 38ul}) {
    synced_.clear();
    leave_log(512, 1000);
    damage_block(hole);
    mount();
    const auto info = fs_->stat("/wal");
    ASSERT_TRUE(info.has_value()) << info.error().to_string();
    EXPECT_EQ(info->size_bytes, synced_.size());
    auto file = open("/wal");
    std::vector<std::byte> out(synced_.size());
    const auto all = file->read(0, out);
    ASSERT_FALSE(all.has_value());
    EXPECT_EQ(all.error().code(), StatusCode::corruption);
    EXPECT_NE(all.error().to_string().find("durable"), std::string::npos)
        << all.error().to_string();
    // What is there can be read.
    const uint64_t behind = (hole + 1) * payload();
    const auto rest = file->read(behind, std::span(out).first(synced_.size() - behind));
    ASSERT_TRUE(rest.has_value()) << rest.error().to_string();
    EXPECT_TRUE(std::equal(out.begin(), out.begin() + static_cast<ptrdiff_t>(*rest),
                           synced_.begin() + static_cast<ptrdiff_t>(behind)));
    file.reset();
    EXPECT_EQ(fs_->open("/wal", OpenMode::read_write).error().code(), StatusCode::corruption);
    fs_->create("/other", FileKind::log, {}).value()->close().ok();  // the rest goes on
    unmount();
    const auto device = disk_->open();
    const auto report = FileSystem::check(*context_, *device);
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->problems.size(), 1u);
    // Removing the damaged file makes the store whole again.
    mount();
    ASSERT_OK(fs_->remove("/wal"));
    unmount();
    expect_clean();
  }
}

TEST_F(LogEndTest, TheLastBlockLostIsReportedByTheJournaledLengthOrByLaterBlocksAlone) {
  // Without a later block nothing proves that the last write was ever finished: it is an end.
  leave_log(512, 480);
  damage_block(19);
  mount();
  EXPECT_EQ(fs_->stat("/wal")->size_bytes, 19 * 480u);
  unmount();
  // A clean close journaled the length: now the same loss is no end.
  damage_block(18);
  mount();
  const auto file = open("/wal");
  std::vector<std::byte> out(19 * 480);
  EXPECT_EQ(file->read(0, out).error().code(), StatusCode::corruption);
}

TEST_F(LogEndTest, NothingBeyondAFoundEndComesBack) {
  leave_log(512, 480);
  damage_block(10);
  damage_block(11);
  // Make the blocks behind useless as proof, as if they had been written before their sync.
  for (uint64_t i = 12; i < 20; ++i) damage_block(i);
  mount();
  EXPECT_EQ(fs_->stat("/wal")->size_bytes, 10 * 480u);
  // Repair block 11 and later: they are of the old epoch now.
  for (uint64_t i = 11; i < 20; ++i) disk_->damage(find_block(kFirstFile, i * 480, 512) + 40, 1);
  const auto more = pattern(480, 99);
  {
    const auto wal = open("/wal", OpenMode::read_write);
    ASSERT_OK(wal->append(more));
    ASSERT_OK(wal->sync());
    fs_->sync_all().ok();
  }
  unmount();
  ASSERT_TRUE(in_child([&] {
    const auto wal = open("/wal", OpenMode::read_write);
    ASSERT_OK(wal->append(pattern(480, 100)));
    ASSERT_OK(wal->sync());
    die();
  }));
  change_boot();
  disk_->power_cut();
  mount();
  EXPECT_EQ(fs_->stat("/wal")->size_bytes, 12 * 480u);
}

// A creation lost with the power leaves blocks behind; its id and its space are given again.
TEST_F(LogEndTest, BlocksOfALostCreationAreNotThoseOfTheNext) {
  make({.block_bytes = 512});
  ASSERT_TRUE(in_child([&] {
    const auto wal = create("/wal", FileKind::log);
    ASSERT_OK(wal->append(pattern(20 * 480, 1)));
    ASSERT_OK(wal->start_writeback(0, 20 * 480));  // nobody waits for the name
    while (find_block(kFirstFile, 480, 512) == ~uint64_t{0}) std::this_thread::yield();
  }));
  change_boot();
  ASSERT_TRUE(in_child([&] {
    ASSERT_FALSE(exists("/wal"));
    const auto wal = create("/wal", FileKind::log);
    ASSERT_OK(wal->append(pattern(480, 2)));
    ASSERT_OK(wal->sync());
    die();
  }));
  ASSERT_EQ(find_block(kFirstFile, 480, 512), find_block(kFirstFile, 0, 512) + 512)
      << "the old second block lies behind the new first one";
  change_boot();
  mount();
  EXPECT_EQ(read_file("/wal"), pattern(480, 2));
}

// ---- A sealed block larger than what the device writes in one piece

class AlternatingTest : public LogEndTest {
 protected:
  // Made where 4096 bytes are atomic, then used on a device of 512-byte blocks.
  void make_wide() {
    make({.block_bytes = 512, .atomic_blocks = 8});
    mount();
    write_file("/wal", FileKind::log, pattern(10, 0));
    unmount();
    // The same contents on a device that promises less.
    auto narrow = std::make_unique<MemoryDisk>(MemoryDiskOptions{.block_bytes = 512});
    std::copy_n(disk_->contents(), disk_->options().bytes, narrow->contents());
    const auto contents =
        std::vector<std::byte>(narrow->contents(), narrow->contents() + disk_->options().bytes);
    disk_ = std::move(narrow);
    settle();
    block_ = 4096;
    synced_ = pattern(10, 0);
  }
  // Each write reaches the disk only in its first 512 bytes.
  void tear_writes() {
    auto* disk = disk_.get();
    disk_->fail_if([disk](const Io& io) {
      if (io.op != Op::write) return false;
      const auto* bytes = static_cast<const std::byte*>(io.data[0].iov_base);
      std::copy_n(bytes, 512, disk->contents() + io.lba.value * 512);
      return true;
    });
  }
  // Everything in the device's cache becomes stable.
  void settle() {
    const auto device = disk_->open();
    auto channel = device->open_channel();
    std::vector<std::byte> buffer(512);
    for (uint64_t at = 0; at < disk_->options().bytes; at += 512) {
      iovec vector{disk_->contents() + at, 512};
      std::copy_n(disk_->contents() + at, 512, buffer.begin());
      vector.iov_base = buffer.data();
      Io io;
      io.op = Op::write;
      io.flags.fua = true;
      io.lba = Lba{at / 512};
      io.block_count = BlockCount{1};
      io.data = {&vector, 1};
      ASSERT_EQ(run(**channel, io), StatusCode::ok);
    }
  }
};

TEST_F(AlternatingTest, SyncedBytesSurviveEveryTearOfTheNextWrite) {
  std::mt19937 random(8);
  make_wide();
  for (int round = 0; round < 12; ++round) {
    SCOPED_TRACE(round);
    std::vector<std::byte> written = synced_;
    const size_t pieces = 1 + random() % 9;
    ASSERT_TRUE(in_child([&] {
      const auto wal = open("/wal", OpenMode::read_write);
      for (size_t i = 0; i < pieces; ++i) {
        ASSERT_OK(wal->append(pattern(700, round * 100 + i)));
        if (i + 1 < pieces) {
          ASSERT_OK(wal->sync());
          continue;
        }
        tear_writes();  // the last sync is torn, then power goes
        EXPECT_FALSE(wal->sync().ok());
      }
      die();
    }));
    for (size_t i = 0; i < pieces; ++i) {
      const auto piece = pattern(700, round * 100 + i);
      written.insert(written.end(), piece.begin(), piece.end());
      if (i + 1 < pieces) synced_.insert(synced_.end(), piece.begin(), piece.end());
    }
    // The torn sectors are on the disk; nothing else unflushed is.
    disk_->fail_if(nullptr);
    change_boot();
    mount();
    const auto found = read_file("/wal");
    ASSERT_GE(found.size(), synced_.size());
    ASSERT_LE(found.size(), written.size());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), written.begin()));
    synced_ = found;
    unmount();
    expect_clean();
  }
}

// The newest acknowledged version lies in the place after its block, or in its own, which the full block is
// about to take.
TEST_F(AlternatingTest, AFullBlockDoesNotReplaceTheOnlyGoodVersion) {
  for (const uint64_t syncs : {1ul, 2ul, 3ul}) {
    SCOPED_TRACE(syncs);
    make_wide();
    ASSERT_TRUE(in_child([&] {
      const auto wal = open("/wal", OpenMode::read_write);
      for (uint64_t i = 0; i < syncs; ++i) {
        ASSERT_OK(wal->append(pattern(100, i)));
        ASSERT_OK(wal->sync());
      }
      ASSERT_OK(wal->append(pattern(5000, syncs)));
      tear_writes();
      EXPECT_FALSE(wal->sync().ok());
      die();
    }));
    for (uint64_t i = 0; i < syncs; ++i) {
      const auto piece = pattern(100, i);
      synced_.insert(synced_.end(), piece.begin(), piece.end());
    }
    disk_->fail_if(nullptr);
    change_boot();
    mount();
    const auto found = read_file("/wal");
    ASSERT_GE(found.size(), synced_.size());
    EXPECT_TRUE(std::equal(synced_.begin(), synced_.end(), found.begin()));
    unmount();
    expect_clean();
  }
}

TEST_F(AlternatingTest, AppendsAndReopeningsGoOnAsUsual) {
  make_wide();
  std::mt19937 random(9);
  for (int round = 0; round < 30; ++round) {
    mount();
    const auto wal = open("/wal", OpenMode::read_write);
    for (int i = 0; i < 20; ++i) {
      const auto piece = pattern(random() % 3000, round * 100 + i);
      ASSERT_OK(wal->append(piece));
      synced_.insert(synced_.end(), piece.begin(), piece.end());
      if (random() % 2 == 0) ASSERT_OK(wal->sync());
    }
    ASSERT_EQ(read_all(*wal), synced_);
    if (round % 3 == 0) ASSERT_OK(wal->sync());
    ASSERT_OK(wal->close());
    ASSERT_EQ(read_file("/wal"), synced_);
    if (round % 5 == 4) {
      ASSERT_OK(fs_->truncate("/wal", synced_.size() - random() % 5000));
      synced_.resize(fs_->stat("/wal")->size_bytes);
      ASSERT_EQ(read_file("/wal"), synced_);
    }
    unmount();
    if (round % 4 == 0) expect_clean();
  }
}

}  // namespace
}  // namespace basalt
