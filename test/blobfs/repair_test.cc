// Goal: FileSystem::repair() mends a store whose files are then all there, names what is lost where nothing
// can be mended, leaves to the next mount what a killed process kept in shared memory and nothing staler, and
// keeps off a store that is in use. Method: metadata found by its magic and damaged; children that are killed.
#include "bdev/ram/ram_device.h"
#include "blob/format.h"
#include "fixture.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace basalt {
namespace {

using blob::kBlockBytes;
using blob::kSuperblockOffset;
using Sentences = std::vector<std::string>;

class RepairTest : public FsTest {
 protected:
  static constexpr int kFiles = 120;
  static std::string name(int i) { return "/d/a-file-with-a-longer-name-" + std::to_string(i); }
  static FileKind kind(int i) { return i % 2 == 0 ? FileKind::log : FileKind::table; }
  static std::vector<std::byte> bytes(int i) {
    return pattern(static_cast<size_t>(100 + 977 * i), static_cast<uint64_t>(i));
  }
  // Closed, with files of both kinds and a catalog of more than one level.
  void make_files() {
    make();
    mount();
    ASSERT_OK(fs_->make_directory("/d"));
    for (int i = 0; i < kFiles; ++i) write_file(name(i), kind(i), bytes(i));
    unmount();
  }
  void expect_files() {
    mount();
    for (int i = 0; i < kFiles; ++i) ASSERT_EQ(read_file(name(i)), bytes(i)) << name(i);
    unmount();
  }
  blob::Superblock superblock(unsigned slot) {
    blob::Superblock found;
    std::memcpy(&found, disk_->contents() + kSuperblockOffset[slot], sizeof found);
    return found;
  }
  // Byte offsets of metadata pages of all ages, both copies, that contain `text`.
  std::vector<uint64_t> pages_with(std::string_view text) {
    std::vector<uint64_t> found;
    for (uint64_t at = 0; at < disk_->options().bytes; at += kBlockBytes) {
      const auto* page = reinterpret_cast<const char*>(disk_->contents() + at);
      const std::string_view content(page, kBlockBytes);
      uint32_t magic = 0;
      std::memcpy(&magic, page, sizeof magic);
      if (magic == blob::kPageMagic && content.find(text) != content.npos) found.push_back(at);
    }
    return found;
  }
  Result<CheckReport> repair() {
    const auto device = disk_->open();
    return FileSystem::repair(*context_, *device);
  }
  CheckReport check() {
    const auto device = disk_->open();
    const auto report = FileSystem::check(*context_, *device);
    EXPECT_TRUE(report.has_value()) << report.error().to_string();
    return report.value_or(CheckReport{});
  }
};

TEST_F(RepairTest, AllFilesAreThereAfterwards) {
  make_files();
  for (unsigned copy = 0; copy < 2; ++copy) {
    const blob::MetadataRun run = superblock(0).metadata_runs[0];
    disk_->damage(run.first_block[copy] * kBlockBytes, run.page_count * kBlockBytes);
    disk_->damage(kSuperblockOffset[copy], kBlockBytes);
    EXPECT_GT(check().notes.size(), 10u);
    const auto report = repair();
    ASSERT_TRUE(report.has_value()) << report.error().to_string();
    EXPECT_EQ(report->problems, Sentences{});
    EXPECT_EQ(report->notes, Sentences{});
    EXPECT_EQ(report->repairs.size(), report->metadata_pages + 1);
    EXPECT_EQ(report->files, uint64_t{kFiles});
    disk_->power_cut();
    const CheckReport checked = check();
    EXPECT_EQ(checked.problems, Sentences{});
    EXPECT_EQ(checked.notes, Sentences{});
    EXPECT_EQ(checked.repairs, Sentences{});
    expect_files();
  }
}

TEST_F(RepairTest, NamesThatAreLostAreTold) {
  make_files();
  for (const uint64_t page : pages_with("a-file-with-a-longer-name-57")) {
    disk_->damage(page + 2000, 1);
  }
  const std::vector<std::byte> before(disk_->contents(),
                                      disk_->contents() + disk_->options().bytes);
  const auto report = repair();
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->repairs, Sentences{});
  // The leaf, and perhaps one that was split off it and has the name in its garbage.
  ASSERT_FALSE(report->problems.empty());
  for (const std::string& problem : report->problems) {
    EXPECT_NE(problem.find("both copies damaged: metadata page "), problem.npos) << problem;
    EXPECT_NE(problem.find("; catalog entries"), problem.npos) << problem;
    EXPECT_NE(problem.find("entry \"a-file-with-a-longer-name-"), problem.npos) << problem;
    EXPECT_TRUE(problem.ends_with(" cannot be read")) << problem;
  }
  EXPECT_TRUE(std::equal(before.begin(), before.end(), disk_->contents()));
}

TEST_F(RepairTest, ADamagedLogHasNoSecondCopy) {
  make_files();
  mount();
  const uint64_t id = fs_->stat(name(20))->file_id;
  unmount();
  const uint64_t block = find_block(id, 0, disk_->options().block_bytes);
  ASSERT_NE(block, ~uint64_t{0});
  disk_->damage(block + 100, 1);
  disk_->damage(kSuperblockOffset[0], 1);
  const auto report = repair();
  ASSERT_TRUE(report.has_value()) << report.error().to_string();
  EXPECT_EQ(report->repairs.size(), 1u);
  ASSERT_EQ(report->problems.size(), 1u);
  EXPECT_NE(report->problems[0].find(std::to_string(id)), std::string::npos) << report->problems[0];
}

// ---- Shared memory

TEST_F(RepairTest, WhatAKilledProcessKeptIsReplayedAfterwards) {
  for (unsigned slot = 0; slot < 2; ++slot) {
    make();
    ASSERT_TRUE(in_child([&] {
      const auto file = create("/f", FileKind::log);
      ASSERT_OK(file->append(pattern(5000, 1)));
      ASSERT_OK(file->flush());
      die();
    }));
    ASSERT_EQ(tail_files().size(), 1u);
    disk_->damage(kSuperblockOffset[slot], kBlockBytes);
    const auto report = repair();
    ASSERT_TRUE(report.has_value()) << report.error().to_string();
    EXPECT_EQ(report->problems, Sentences{});
    EXPECT_EQ(report->repairs.size(), 1u);
    mount();
    EXPECT_EQ(read_file("/f"), pattern(5000, 1));
    EXPECT_TRUE(fs_->recovery_notes().empty());
    unmount();
    EXPECT_TRUE(tail_files().empty());
    expect_clean();
  }
}

TEST_F(RepairTest, AStaleTailStaysStale) {
  for (unsigned slot = 0; slot < 2; ++slot) {
    make();
    ASSERT_TRUE(in_child([&] {
      const auto file = create("/f", FileKind::log);
      ASSERT_OK(file->append(pattern(5000, 1)));
      ASSERT_OK(file->flush());
      die();
    }));
    ASSERT_EQ(tail_files().size(), 1u);
    const std::string tail = tail_files()[0], kept = shared_dir_ + "-kept";
    std::filesystem::copy_file(tail, kept);
    mount();
    ASSERT_OK(fs_->truncate("/f", 1000));
    unmount();
    std::filesystem::rename(kept, tail);
    disk_->damage(kSuperblockOffset[slot], kBlockBytes);
    ASSERT_TRUE(repair().has_value());
    mount();
    auto expected = pattern(5000, 1);
    expected.resize(1000);
    EXPECT_EQ(read_file("/f"), expected);
    unmount();
    std::filesystem::remove(tail);
  }
}

// ---- Who may

TEST_F(RepairTest, AMountedStoreIsBusy) {
  register_ram_scheme(*context_);
  auto device = open_device(*context_, "ram:32M");
  ASSERT_TRUE(device.has_value());
  ASSERT_OK(FileSystem::format(*context_, **device, {}));
  Device& same = **device;
  const auto fs = FileSystem::mount(*context_, std::move(*device), {});
  ASSERT_TRUE(fs.has_value()) << fs.error().to_string();
  const auto report = FileSystem::repair(*context_, same);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code(), StatusCode::busy);
  EXPECT_NE(report.error().message().find("\"Basalt file system\" holds it"),
            std::string_view::npos)
      << report.error().to_string();
  EXPECT_OK((*fs)->unmount());
}

TEST_F(RepairTest, AReaderKeepsARepairAway) {
  register_ram_scheme(*context_);
  const auto device = open_device(*context_, "ram:32M");
  ASSERT_TRUE(device.has_value());
  ASSERT_OK(FileSystem::format(*context_, **device, {}));
  const auto reader = (*device)->claim(ClaimMode::read_only, "a reader");
  ASSERT_TRUE(reader.has_value());
  const auto report = FileSystem::repair(*context_, **device);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code(), StatusCode::busy);
  EXPECT_TRUE(FileSystem::check(*context_, **device).has_value());
}

TEST_F(RepairTest, ADeviceOpenedForReadingIsToldSo) {
  register_ram_scheme(*context_);
  const auto device = open_device(*context_, "ram:32M", {.mode = OpenMode::read_only});
  ASSERT_TRUE(device.has_value()) << device.error().to_string();
  const auto report = FileSystem::repair(*context_, **device);
  ASSERT_FALSE(report.has_value());
  EXPECT_EQ(report.error().code(), StatusCode::read_only);
  EXPECT_NE(report.error().message().find("opened for reading"), std::string_view::npos)
      << report.error().to_string();
}

}  // namespace
}  // namespace basalt
