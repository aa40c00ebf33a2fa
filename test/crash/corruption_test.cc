// Damage to a closed store, block by block: it opens with everything right (and says what was damaged), or
// says clearly what is broken; a log is never cut short in silence; nothing crashes; `check` reports every
// damaged block that holds something.
//
// What holds something is taken from the undamaged store: what check() reads, outside the journal (a closed
// store's journal is empty) and apart from the zeros behind the end of a log. Damaged data of tables is not detected here, that is for the
// database's own checksums, but the damage stays where it is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/try.h"
#include "blob/format.h"
#include "blobfs/log_format.h"
#include "crash/machine.h"
#include "crash/pattern.h"
#include "crash/settings.h"
#include "crash/tree_model.h"
#include "sim/sim_device.h"

namespace basalt::crash {
namespace {

constexpr uint64_t kBlock = 4096;

MachineOptions small_machine() {
  MachineOptions options;
  options.disk.size_bytes = uint64_t{16} << 20;
  options.disk.block_bytes = 512;
  options.disk.max_delay_polls = 0;
  options.disk.log_commands = true;
  options.mount.cache_bytes = 0;
  return options;
}

void must(const Status& status) { BASALT_CHECK(status.ok(), status.to_string().c_str()); }

void put(FileSystem& fs, const std::string& path, FileKind kind, uint64_t number, size_t length) {
  auto file = fs.create(path, kind, {});
  must(file ? Status() : file.error());
  must((*file)->append(as_bytes(pattern(number, 1, 0, length))));
  must((*file)->sync());
  must((*file)->close());
}

// A store with files of both kinds, made in several mounts, so that both superblocks and pages of several
// checkpoints are there. Built once, shared by the tests.
struct Store {
  sim::SimImage image{0};
  FoundTree files;
  std::set<uint64_t> checked;  // blocks that check() reads, outside the journal
  // Whether any byte of the range counts.
  bool holds_something(uint64_t offset, uint64_t length) const;
};

std::set<uint64_t> blocks_read(const sim::SimDisk& disk) {
  std::set<uint64_t> blocks;
  for (const sim::SimCommand& command : disk.commands()) {
    if (command.op != Op::read) continue;
    const uint64_t first = command.lba.value * disk.options().block_bytes / kBlock;
    const uint64_t bytes = command.block_count.value * disk.options().block_bytes;
    for (uint64_t i = 0; i < (bytes + kBlock - 1) / kBlock; ++i) blocks.insert(first + i);
  }
  return blocks;
}

std::pair<uint64_t, uint64_t> journal_range(const sim::SimImage& image) {
  blob::Superblock superblock;
  image.read(0, std::as_writable_bytes(std::span(&superblock, 1)));
  const uint64_t first = superblock.journal_first_block;
  return {first, first + superblock.journal_blocks};
}

Store make_store() {
  Machine machine(small_machine());
  must(machine.format());
  must(machine.mount());
  FileSystem& first = machine.fs();
  must(first.make_directory("/db"));
  // Enough names for trees of more than one level.
  must(first.make_directory("/many"));
  for (unsigned i = 0; i < 250; ++i) {
    must(first.make_directory("/many/directory-with-a-longer-name-" + std::to_string(i)));
  }
  for (unsigned i = 0; i < 10; ++i) {
    put(first, "/db/small" + std::to_string(i), FileKind::table, i, 100 + 370 * i);
  }
  put(first, "/db/1.sst", FileKind::table, 100, 200'000);
  put(first, "/db/1.log", FileKind::log, 101, 90'000);
  must(machine.unmount());
  must(machine.mount());
  put(machine.fs(), "/db/2.log", FileKind::log, 102, 12'345);
  put(machine.fs(), "/db/2.sst", FileKind::table, 103, 70'000);
  must(machine.fs().remove("/db/small7"));
  must(machine.fs().link("/db/1.sst", "/db/linked"));
  must(machine.unmount());
  must(machine.mount());
  must(machine.fs().rename("/db/small8", "/db/renamed"));
  Store store;
  auto files = find_all(machine.fs(), "/db", 1);
  must(files ? Status() : files.error());
  store.files = std::move(*files);
  files = find_all(machine.fs(), "/many", 1);
  must(files ? Status() : files.error());
  store.files.merge(*files);
  must(machine.unmount());
  store.image = machine.disk().image();

  auto disk = std::make_shared<sim::SimDisk>(small_machine().disk, store.image);
  const auto device = sim::open_sim_device(machine.context(), disk);
  const auto report = FileSystem::check(machine.context(), *device);
  BASALT_CHECK(report && report->clean() && report->notes.empty(), "the store is in order");
  const auto [journal, journal_end] = journal_range(store.image);
  for (uint64_t block : blocks_read(*disk)) {
    if (block < journal || block >= journal_end) store.checked.insert(block);
  }
  return store;
}

bool Store::holds_something(uint64_t offset, uint64_t length) const {
  const uint64_t block = offset / kBlock;
  if (!checked.contains(block)) return false;
  std::vector<std::byte> bytes(kBlock);
  image.read(block * kBlock, bytes);
  blob::PageHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const bool is_superblock =
      std::memcmp(bytes.data(), blob::kSuperblockMagic.data(), blob::kSuperblockMagic.size()) == 0;
  if (header.magic == blob::kPageMagic || is_superblock) return true;
  const auto from = bytes.begin() + static_cast<ptrdiff_t>(offset % kBlock);
  return std::any_of(from, from + static_cast<ptrdiff_t>(length),
                     [](std::byte byte) { return byte != std::byte{0}; });
}

const Store& store() {
  static const Store made = make_store();
  return made;
}

// Where the two contents differ: empty, or [first, last].
std::optional<std::pair<size_t, size_t>> difference(const std::string& a, const std::string& b) {
  const auto front = std::mismatch(a.begin(), a.end(), b.begin());
  if (front.first == a.end()) return {};
  const auto back = std::mismatch(a.rbegin(), a.rend(), b.rbegin());
  return std::pair(static_cast<size_t>(front.first - a.begin()),
                   static_cast<size_t>(a.rend() - back.first - 1));
}

std::string bytes_at(const sim::SimImage& image, uint64_t offset, uint64_t length) {
  std::string bytes(length, '\0');
  image.read(offset, as_writable_bytes(bytes));
  return bytes;
}

class Corruption : public testing::Test {
 protected:
  struct Looks {
    unsigned damaged = 0, mounted = 0, refused = 0, unreadable = 0, reported = 0;
  };

  // Damages [offset, offset + length) and looks at the store from outside and inside.
  void damage(uint64_t offset, uint64_t length, sim::Damage kind) {
    SCOPED_TRACE("damaged byte " + std::to_string(offset) + ", " + std::to_string(length) +
                 " B (block " + std::to_string(offset / kBlock) + "), kind " +
                 std::to_string(static_cast<int>(kind)));
    ++looks_.damaged;
    auto damaged = std::make_shared<sim::SimDisk>(small_machine().disk, store().image);
    damaged->corrupt(offset, length, kind, offset + 1);
    const auto changed = difference(bytes_at(store().image, offset, length),
                                    bytes_at(damaged->image(), offset, length));
    if (!changed) return;  // the same bytes again are no damage
    const bool counts =
        store().holds_something(offset + changed->first, changed->second - changed->first + 1);
    check(damaged->image(), counts);
    mount(damaged, offset / kBlock, counts);
  }

  void check(const sim::SimImage& image, bool counts) {
    const auto device = sim::open_sim_device(
        machine_.context(), std::make_shared<sim::SimDisk>(small_machine().disk, image));
    const auto report = FileSystem::check(machine_.context(), *device);
    const bool reported = !report || !report->clean() || !report->notes.empty();
    if (reported) ++looks_.reported;
    if (!report) {
      EXPECT_EQ(report.error().code(), StatusCode::corruption) << report.error().to_string();
    }
    EXPECT_TRUE(reported || !counts) << "check says nothing";
  }

  void mount(const std::shared_ptr<sim::SimDisk>& damaged, uint64_t block, bool counts) {
    machine_.replace_disk(damaged);
    const Status status = machine_.mount();
    if (!status.ok()) {
      ++looks_.refused;
      EXPECT_EQ(status.code(), StatusCode::corruption) << status.to_string();
      EXPECT_GT(status.message().size(), 10u);
      return;
    }
    ++looks_.mounted;
    bool said = !machine_.fs().recovery_notes().empty();
    for (const auto& [path, entry] : store().files) {
      if (!look_at_file(path, entry)) said = true;
    }
    if (machine_.fs().stats().damaged_copies_used > 0) said = true;
    const bool met = counts && blocks_read(*damaged).contains(block);
    EXPECT_TRUE(said || !met) << "the damage was met and not mentioned";
    machine_.take_fs().reset();
  }

  // False when the file could not be read, which is told by a corruption error.
  bool look_at_file(const std::string& path, const FoundEntry& expected) {
    SCOPED_TRACE(path);
    const auto info = machine_.fs().stat(path);
    if (!info) return expect_corruption(info.error());
    EXPECT_EQ(info->is_directory, expected.info.is_directory);
    EXPECT_EQ(info->file_id, expected.info.file_id);
    if (expected.info.is_directory) return true;
    EXPECT_EQ(info->size_bytes, expected.content.size());
    const auto file = machine_.fs().open(path, OpenMode::read_only);
    if (!file) return expect_corruption(file.error());
    std::string content(expected.content.size() + 100, '\xee');
    const auto length = (*file)->read(0, as_writable_bytes(content));
    if (!length) return expect_corruption(length.error());
    content.resize(*length);
    EXPECT_EQ(content.size(), expected.content.size()) << "cut short or grown";
    if (content.size() != expected.content.size()) return true;
    const auto differs = difference(content, expected.content);
    if (!differs) return true;
    EXPECT_EQ(expected.info.kind, FileKind::table) << "wrong bytes at " << differs->first;
    EXPECT_EQ(differs->first / kBlock, differs->second / kBlock)
        << "damage to one block changed bytes " << differs->first << " to " << differs->second;
    return true;
  }

  bool expect_corruption(const Status& status) {
    EXPECT_EQ(status.code(), StatusCode::corruption) << status.to_string();
    ++looks_.unreadable;
    return false;
  }

  Machine machine_{small_machine()};
  Looks looks_;
};

TEST_F(Corruption, EveryBlockInTurn) {
  for (uint64_t block = 0; block < store().image.size_bytes() / kBlock; ++block) {
    ASSERT_NO_FATAL_FAILURE(damage(block * kBlock, kBlock, sim::Damage::garbage));
    ASSERT_FALSE(HasFailure());
  }
  RecordProperty("checked", static_cast<int>(store().checked.size()));
  RecordProperty("reported", static_cast<int>(looks_.reported));
  RecordProperty("refused", static_cast<int>(looks_.refused));
  RecordProperty("unreadable", static_cast<int>(looks_.unreadable));
  // The store's own structures were among them: some damage was met, some was survived.
  EXPECT_GT(looks_.reported, 20u);
  EXPECT_GT(looks_.mounted, looks_.damaged / 2);
  EXPECT_GT(looks_.unreadable, 10u);
}

TEST_F(Corruption, EverySectorAndABitOfEveryBlockThatHoldsSomething) {
  for (uint64_t block : store().checked) {
    for (uint64_t sector = 0; sector < kBlock / 512; ++sector) {
      damage(block * kBlock + sector * 512, 512, sim::Damage::zeros);
      damage(block * kBlock + sector * 512, 512, sim::Damage::flip_bit);
    }
    damage(block * kBlock, kBlock, sim::Damage::zeros);
    ASSERT_FALSE(HasFailure());
  }
}

// Both copies of everything: no crash and no wrong answer, whatever is left.
TEST_F(Corruption, ManyBlocksAtOnce) {
  for (uint64_t i = 0; i < rounds(200); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    sim::Random random(seed);
    auto damaged = std::make_shared<sim::SimDisk>(small_machine().disk, store().image);
    const std::vector<uint64_t> blocks(store().checked.begin(), store().checked.end());
    const uint64_t hits = 1 + random.below(blocks.size() / 2);
    for (uint64_t hit = 0; hit < hits; ++hit) {
      const uint64_t block = blocks[random.below(blocks.size())];
      const auto kind = static_cast<sim::Damage>(random.below(3));
      damaged->corrupt(block * kBlock, kBlock, kind, random.next());
    }
    const auto device = sim::open_sim_device(
        machine_.context(), std::make_shared<sim::SimDisk>(small_machine().disk, damaged->image()));
    // Whatever it says: a flipped bit behind the end of a log counts for nothing.
    static_cast<void>(FileSystem::check(machine_.context(), *device));
    machine_.replace_disk(damaged);
    const Status status = machine_.mount();
    if (!status.ok()) {
      // Without either superblock nothing tells that there ever was a store.
      EXPECT_TRUE(status.code() == StatusCode::corruption || status.code() == StatusCode::not_found)
          << status.to_string();
      continue;
    }
    for (const auto& [path, entry] : store().files) look_at_file(path, entry);
    machine_.take_fs().reset();
    ASSERT_FALSE(HasFailure());
  }
}

// ---- A store that crashed: live journal records and logs that were not closed, one copy of each.

class Crashed : public testing::Test {
 protected:
  // Leaves image_: kSyncs directories, each synced by itself, and a log of kSyncs synced appends.
  void make_store() {
    MachineOptions options = small_machine();
    options.format.journal_bytes = uint64_t{2} << 20;
    Machine machine(options);
    must(machine.format());
    must(machine.mount());
    auto log = machine.fs().create("/log", FileKind::log, {});
    must(log ? Status() : log.error());
    for (unsigned i = 0; i < kSyncs; ++i) {
      must(machine.fs().make_directory("/d" + std::to_string(i)));
      must(machine.fs().sync_directory("/"));
      const std::string bytes = pattern(1, i, content_.size(), 700);
      must((*log)->append(as_bytes(bytes)));
      must((*log)->sync());
      content_ += bytes;
    }
    machine.stop();
    log->reset();
    machine.restart(0);
    image_ = machine.disk().image();
  }

  // Byte offsets of the journal's records of this opening, in the order they were written.
  std::vector<uint64_t> journal_records() const {
    blob::Superblock newest{}, other{};
    image_.read(blob::kSuperblockOffset[0], std::as_writable_bytes(std::span(&newest, 1)));
    image_.read(blob::kSuperblockOffset[1], std::as_writable_bytes(std::span(&other, 1)));
    if (other.generation > newest.generation) newest = other;
    std::vector<uint64_t> found;
    for (uint64_t i = 0; i < newest.journal_blocks; ++i) {
      const uint64_t offset = (newest.journal_first_block + i) * kBlock;
      blob::JournalHeader header;
      image_.read(offset, std::as_writable_bytes(std::span(&header, 1)));
      if (header.magic == blob::kJournalMagic && header.epoch == newest.epoch &&
          header.sequence >= newest.journal_sequence) {
        found.push_back(offset);
      }
    }
    return found;
  }
  // Byte offsets of the log's sealed blocks.
  std::vector<uint64_t> log_blocks() const {
    constexpr uint64_t kSector = 512;
    std::vector<uint64_t> found;
    for (uint64_t offset = 0; offset < image_.size_bytes(); offset += kSector) {
      blobfs::SealedHeader header;
      image_.read(offset, std::as_writable_bytes(std::span(&header, 1)));
      const uint64_t position = header.position;
      const std::string first = bytes_at(image_, offset + sizeof header, 16);
      if (header.version == blobfs::kSealedVersion && position < content_.size() &&
          content_.compare(position, 16, first) == 0) {
        found.push_back(offset);
      }
    }
    return found;
  }

  // Mounts the store with the sector at `offset` damaged.
  Status mount_damaged(uint64_t offset, sim::Damage damage) {
    auto disk = std::make_shared<sim::SimDisk>(small_machine().disk, image_);
    disk->corrupt(offset, 512, damage, offset + 1);
    machine_.take_fs().reset();
    machine_.replace_disk(std::move(disk));
    return machine_.mount();
  }
  Result<std::string> read_log() {
    BASALT_TRY_ASSIGN(const auto file, machine_.fs().open("/log", OpenMode::read_only));
    std::string bytes(content_.size() + 100, '\xee');
    BASALT_TRY_ASSIGN(const size_t length, file->read(0, as_writable_bytes(bytes)));
    return bytes.substr(0, length);
  }

  static constexpr unsigned kSyncs = 30;
  std::string content_;
  sim::SimImage image_{0};
  Machine machine_{small_machine()};
};

TEST_F(Crashed, ADamagedJournalRecordIsReportedUnlessItIsTheLast) {
  make_store();
  const std::vector<uint64_t> records = journal_records();
  ASSERT_GE(records.size(), kSyncs);
  for (const uint64_t record : records) {
    SCOPED_TRACE("record at byte " + std::to_string(record));
    const Status status = mount_damaged(record, sim::Damage::garbage);
    if (record != records.back()) {
      EXPECT_EQ(status.code(), StatusCode::corruption) << status.to_string();
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_TRUE(machine_.fs().stat("/d" + std::to_string(kSyncs - 2)));
  }
}

TEST_F(Crashed, ADamagedLogBlockIsReportedUnlessItIsTheLast) {
  make_store();
  const std::vector<uint64_t> blocks = log_blocks();
  ASSERT_GE(blocks.size(), content_.size() / 480);
  for (const uint64_t block : blocks) {
    for (const sim::Damage damage : {sim::Damage::garbage, sim::Damage::zeros}) {
      SCOPED_TRACE("log block at byte " + std::to_string(block));
      const Status status = mount_damaged(block, damage);
      ASSERT_TRUE(status.ok()) << status.to_string();
      const Result<std::string> bytes = read_log();
      if (block != blocks.back()) {
        ASSERT_FALSE(bytes) << "read " << bytes->size() << " of " << content_.size() << " B";
        EXPECT_EQ(bytes.error().code(), StatusCode::corruption) << bytes.error().to_string();
        continue;
      }
      ASSERT_TRUE(bytes) << bytes.error().to_string();
      EXPECT_EQ(content_.substr(0, bytes->size()), *bytes);
      EXPECT_GE(bytes->size() + 480, content_.size());
    }
  }
}

}  // namespace
}  // namespace basalt::crash
