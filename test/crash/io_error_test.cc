// A disk that fails single commands: the error reaches whoever needs to know, sticks to the file it
// hit, leaves every other file alone, and what was synced before is there after the next mount.
#include <gtest/gtest.h>

#include "crash/machine.h"
#include "crash/pattern.h"

namespace basalt::crash {
namespace {

class IoError : public testing::TestWithParam<FileKind> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(machine_.format().ok());
    ASSERT_TRUE(machine_.mount().ok());
  }
  std::unique_ptr<File> create(const std::string& path) {
    auto file = machine_.fs().create(path, GetParam(), {});
    EXPECT_TRUE(file) << file.error().to_string();
    return std::move(*file);
  }
  void fail_all(OpSet ops, uint64_t times = ~uint64_t{0}) {
    machine_.disk().inject({.ops = ops,
                            .first = Lba{0},
                            .block_count = BlockCount{machine_.disk().block_count()},
                            .times = times});
  }
  std::string read(const std::string& path) {
    const auto file = machine_.fs().open(path, OpenMode::read_only);
    if (!file) return file.error().to_string();
    std::string bytes((*file)->size(), '\xee');
    const auto length = (*file)->read(0, as_writable_bytes(bytes));
    return length ? bytes : length.error().to_string();
  }
  void power_cycle() {
    machine_.stop();
    machine_.restart(0);
    const Status status = machine_.mount();
    ASSERT_TRUE(status.ok()) << status.to_string();
  }

  // Without FUA every sync needs a flush.
  static MachineOptions machine_options() {
    MachineOptions options;
    options.disk.native_fua = false;
    return options;
  }
  Machine machine_{machine_options()};
};

TEST_P(IoError, AFailedWriteMakesEveryLaterSyncOfTheFileFail) {
  const std::string first = pattern(1, 1, 0, 5000), second = pattern(1, 2, 5000, 5000);
  auto hit = create("/hit");
  auto other = create("/other");
  ASSERT_TRUE(hit->append(as_bytes(first)).ok());
  ASSERT_TRUE(other->append(as_bytes(first)).ok());
  ASSERT_TRUE(hit->sync().ok());
  ASSERT_TRUE(other->sync().ok());

  fail_all({Op::write}, 1);
  // The write happens at the append or at the sync; the sync at the latest must tell.
  static_cast<void>(hit->append(as_bytes(second)));
  EXPECT_EQ(hit->sync().code(), StatusCode::io_error);
  machine_.disk().clear_faults();
  EXPECT_FALSE(hit->sync().ok()) << "the disk works again, but bytes were lost";
  EXPECT_FALSE(hit->append(as_bytes(second)).ok() && hit->sync().ok());

  ASSERT_TRUE(other->append(as_bytes(second)).ok());
  const Status status = other->sync();
  EXPECT_TRUE(status.ok()) << status.to_string();
  hit.reset();
  other.reset();
  power_cycle();
  EXPECT_EQ(read("/other"), first + second);
  const std::string survived = read("/hit");
  EXPECT_EQ(survived.substr(0, first.size()), first);
  EXPECT_EQ(survived, (first + second).substr(0, survived.size()));
}

TEST_P(IoError, AFailedFlushIsNoSync) {
  const std::string bytes = pattern(1, 1, 0, 3000);
  auto file = create("/file");
  ASSERT_TRUE(machine_.fs().sync_all().ok());
  ASSERT_TRUE(file->append(as_bytes(bytes)).ok());
  fail_all({Op::flush});
  EXPECT_EQ(file->sync().code(), StatusCode::io_error);
  machine_.disk().clear_faults();
  EXPECT_FALSE(file->sync().ok()) << "what the failed flush was to cover may be lost";
  file.reset();
  power_cycle();
  const std::string survived = read("/file");
  EXPECT_EQ(survived, bytes.substr(0, survived.size()));
}

TEST_P(IoError, AReadErrorIsToldAndForgotten) {
  const std::string bytes = pattern(1, 1, 0, 300'000);
  {
    auto file = create("/file");
    ASSERT_TRUE(file->append(as_bytes(bytes)).ok());
    ASSERT_TRUE(file->close().ok());
  }
  ASSERT_TRUE(machine_.unmount().ok());
  ASSERT_TRUE(machine_.mount().ok());
  auto file = machine_.fs().open("/file", OpenMode::read_only);
  ASSERT_TRUE(file) << file.error().to_string();
  fail_all({Op::read});
  std::string back(bytes.size(), '\xee');
  const auto failed = (*file)->read(0, as_writable_bytes(back));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), StatusCode::io_error) << failed.error().to_string();
  machine_.disk().clear_faults();
  const auto length = (*file)->read(0, as_writable_bytes(back));
  ASSERT_TRUE(length) << length.error().to_string();
  EXPECT_EQ(*length, bytes.size());
  EXPECT_EQ(back, bytes);
}

// A journal that cannot be written makes the store read-only; it says so, still reads, and mounts
// again.
TEST_P(IoError, AFailedJournalWriteMakesTheStoreReadOnly) {
  const std::string bytes = pattern(1, 1, 0, 3000);
  {
    auto file = create("/before");
    ASSERT_TRUE(file->append(as_bytes(bytes)).ok());
    ASSERT_TRUE(file->close().ok());
  }
  ASSERT_TRUE(machine_.fs().sync_all().ok());
  fail_all({Op::write});
  ASSERT_TRUE(machine_.fs().make_directory("/lost").ok());
  EXPECT_FALSE(machine_.fs().sync_directory("/").ok());
  machine_.disk().clear_faults();
  EXPECT_FALSE(machine_.fs().sync_directory("/").ok()) << "the failure is final";
  EXPECT_FALSE(machine_.fs().make_directory("/more").ok());
  EXPECT_EQ(read("/before"), bytes);
  power_cycle();
  EXPECT_EQ(read("/before"), bytes);
  EXPECT_TRUE(machine_.fs().make_directory("/more").ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, IoError, testing::Values(FileKind::table, FileKind::log),
                         [](const auto& test) {
                           return test.param == FileKind::table ? "table" : "log";
                         });

}  // namespace
}  // namespace basalt::crash
