// Stores of every released version of the on-disk format load, whatever this program writes itself: images
// checked in are mounted, for reading and for writing, compared with what was put there, checked, and
// worked on. A new version of the format adds images; none is ever made again (golden_writer.cc).
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>

#include "crash/machine.h"
#include "crash/pattern.h"
#include "crash/round.h"
#include "crash/tree_model.h"
#include "golden/golden_store.h"

namespace basalt::golden {
namespace {

using crash::FoundTree;
using crash::Machine;
using crash::MachineOptions;

class Golden : public testing::TestWithParam<GoldenImage> {
 protected:
  void SetUp() override {
    auto image = load_sparse(std::string(BASALT_GOLDEN_IMAGES) + "/" + GetParam().name);
    ASSERT_TRUE(image) << image.error().to_string();
    MachineOptions options;
    options.disk.size_bytes = image->size_bytes();
    options.disk.block_bytes = GetParam().block_bytes;
    machine_ = std::make_unique<Machine>(options);
    machine_->replace_disk(std::make_shared<sim::SimDisk>(options.disk, *image));
    if (GetParam().end == End::killed) put_tail_back();
  }

  // Where a mount looks for it: under the name it had, in the shared memory of this boot.
  void put_tail_back() {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(BASALT_GOLDEN_IMAGES) +
                                                                 "/" + GetParam().name + ".tail")) {
      const auto tail = load_sparse(entry.path());
      ASSERT_TRUE(tail) << tail.error().to_string();
      const std::string path =
          machine_->shared_memory_dir() + "/" + entry.path().filename().string();
      ASSERT_TRUE(tail->save(path).ok());
      std::filesystem::permissions(
          path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    }
  }

  void expect_clean() {
    const auto report = machine_->check();
    ASSERT_TRUE(report) << report.error().to_string();
    EXPECT_EQ(report->problems, std::vector<std::string>{});
    EXPECT_EQ(report->notes, std::vector<std::string>{});
  }

  void expect_content() {
    FoundTree found;
    unsigned tops = 0;
    const auto entries = machine_->fs().list("/");
    ASSERT_TRUE(entries) << entries.error().to_string();
    for (const DirectoryEntry& entry : *entries) {
      auto below = crash::find_all(machine_->fs(), "/" + entry.name, 1);
      ASSERT_TRUE(below) << below.error().to_string();
      found.merge(*below);
      ++tops;
    }
    EXPECT_EQ(tops + found.size(), files().size() + directories().size());
    for (const char* directory : directories()) {
      const auto info = machine_->fs().stat(directory);
      ASSERT_TRUE(info) << info.error().to_string();
      EXPECT_TRUE(info->is_directory) << directory;
    }
    for (const GoldenFile& file : files()) {
      const auto at = found.find(file.path);
      ASSERT_NE(at, found.end()) << file.path;
      EXPECT_EQ(at->second.info.kind, file.kind) << file.path;
      EXPECT_EQ(at->second.info.link_count, file.number == 3 ? 2u : 1u) << file.path;
      EXPECT_EQ(at->second.content, crash::pattern(file.number, 1, 0, file.length)) << file.path;
    }
  }

  std::unique_ptr<Machine> machine_;
};

TEST_P(Golden, IsInOrder) { expect_clean(); }

TEST_P(Golden, IsReadable) {
  if (GetParam().end == End::killed) GTEST_SKIP() << "a read-only mount does not replay a tail";
  MountOptions options;
  options.mode = OpenMode::read_only;
  const Status status = machine_->mount(options);
  ASSERT_TRUE(status.ok()) << status.to_string();
  expect_content();
}

TEST_P(Golden, CanBeWorkedOn) {
  for (int round = 0; round < 2; ++round) {
    const Status status = machine_->mount();
    ASSERT_TRUE(status.ok()) << status.to_string();
    expect_content();
    auto file = machine_->fs().create("/new", FileKind::table, {});
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_TRUE((*file)->append(crash::as_bytes(crash::pattern(9, 1, 0, 70'000))).ok());
    EXPECT_TRUE((*file)->close().ok());
    ASSERT_TRUE(machine_->fs().remove("/new").ok());
    ASSERT_TRUE(machine_->unmount().ok());
    expect_clean();
  }
  ASSERT_TRUE(machine_->mount().ok());
  EXPECT_TRUE(crash::remove_all(machine_->fs(), "").ok());
  ASSERT_TRUE(machine_->unmount().ok());
  expect_clean();
}

std::string name_of(const testing::TestParamInfo<GoldenImage>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (c == '-') c = '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Images, Golden, testing::ValuesIn(images().begin(), images().end()),
                         name_of);

}  // namespace
}  // namespace basalt::golden
