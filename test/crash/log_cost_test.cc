// What a synced append to a log costs, counted in commands of the disk: one write and one flush, or
// one FUA write, and no metadata write; and in space: at most 1.3 times what was appended and its
// headers. BASALT_LOG_APPENDS sets the number of appends of the second test (a million takes
// some seconds).
#include <gtest/gtest.h>

#include "crash/machine.h"
#include "crash/pattern.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

constexpr size_t kAppend = 100;

class LogCost : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    MachineOptions options;
    options.disk.size_bytes = (uint64_t{64} << 20) + appends() * kAppend / 4096 * 4096 * 2;
    options.disk.native_fua = GetParam();
    options.disk.log_commands = true;
    options.disk.max_delay_polls = 0;
    machine_ = std::make_unique<Machine>(options);
    ASSERT_TRUE(machine_->format().ok());
    ASSERT_TRUE(machine_->mount().ok());
    auto file = machine_->fs().create("/wal", FileKind::log, {});
    ASSERT_TRUE(file) << file.error().to_string();
    file_ = std::move(*file);
  }
  void TearDown() override {
    file_.reset();
    machine_.reset();
  }
  static uint64_t appends() { return setting("BASALT_LOG_APPENDS", 20'000); }
  void append_and_sync(uint64_t number) {
    const std::string bytes = pattern(1, number, number * kAppend, kAppend);
    ASSERT_TRUE(file_->append(as_bytes(bytes)).ok());
    const Status status = file_->sync();
    ASSERT_TRUE(status.ok()) << status.to_string();
  }

  std::unique_ptr<Machine> machine_;
  std::unique_ptr<File> file_;
};

TEST_P(LogCost, OneWriteAndOneFlush) {
  for (uint64_t i = 0; i < 20; ++i) append_and_sync(i);
  for (uint64_t i = 20; i < 520; ++i) {
    machine_->disk().clear_commands();
    append_and_sync(i);
    const auto commands = machine_->disk().commands();
    ASSERT_GE(commands.size(), 1u);
    EXPECT_EQ(commands[0].op, Op::write);
    // 480 bytes fit into a sealed block of 512: an append touches one block, or the border of two.
    EXPECT_LE(commands[0].block_count.value, 2u);
    EXPECT_EQ(commands[0].fua, GetParam());
    ASSERT_EQ(commands.size(), GetParam() ? 1u : 2u) << "append " << i;
    if (!GetParam()) {
      EXPECT_EQ(commands[1].op, Op::flush);
    }
  }
}

TEST_P(LogCost, ItsSpaceIsTheBytesAppended) {
  for (uint64_t i = 0; i < appends(); ++i) {
    append_and_sync(i);
    if (i % 1000 == 0) machine_->disk().clear_commands();
  }
  const Result<FileInfo> info = machine_->fs().stat("/wal");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->size_bytes, appends() * kAppend);
  // Space: the bytes and the headers of their blocks (32 of 512 B), and what is reserved ahead.
  ASSERT_TRUE(file_->close().ok());
  const Result<FileInfo> closed = machine_->fs().stat("/wal");
  ASSERT_TRUE(closed);
  const uint64_t with_headers = appends() * kAppend * 512 / 480;
  EXPECT_LE(closed->allocated_bytes, with_headers * 13 / 10 + 65536);
}

INSTANTIATE_TEST_SUITE_P(Disks, LogCost, testing::Bool(),
                         [](const auto& test) { return test.param ? "fua" : "flush"; });

}  // namespace
}  // namespace basalt::crash
