// A process dies with bytes kept in shared memory, and the next one dies while it mounts and replays
// them, after each device command in turn: the third one finds every byte, whether the second was to
// keep flushed bytes in shared memory or on the device. (A mount with flush_to = device had taken the
// store over without a tail that led to the kept ones, and what they held was lost.)
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "crash/machine.h"

namespace basalt::crash {
namespace {

using FlushTo = MountOptions::FlushTo;

class ReplayDeath : public testing::TestWithParam<FlushTo> {
 protected:
  static MachineOptions machine_options() {
    MachineOptions options;
    options.disk.size_bytes = uint64_t{16} << 20;
    options.format.journal_bytes = uint64_t{1} << 20;
    return options;
  }

  // A log and a table, flushed and never synced, and the death of their process.
  void live_and_die() {
    ASSERT_TRUE(machine_->format().ok());
    ASSERT_TRUE(machine_->mount().ok());
    for (const FileKind kind : {FileKind::log, FileKind::table}) {
      const auto file = machine_->fs().create(name_of(kind), kind, {});
      ASSERT_TRUE(file) << file.error().to_string();
      ASSERT_TRUE((*file)->append(bytes_).ok());
      ASSERT_TRUE((*file)->flush().ok());
      if (kind == FileKind::table) die();
    }
    machine_->restart(1);
  }
  void die() {
    machine_->plan(Crash::process_death);
    machine_->stop();
  }

  // False if the mount was over before `command`.
  bool mount_and_die(uint64_t command) {
    machine_->plan(Crash::process_death);
    machine_->disk().cut_after(command);
    MountOptions options = machine_options().mount;
    options.flush_to = GetParam();
    const Status mounted = machine_->mount(options);
    const bool cut = machine_->disk().is_cut();
    EXPECT_TRUE(mounted.ok() || cut) << mounted.to_string();
    machine_->stop();
    machine_->restart(1);
    return cut;
  }

  void expect_every_byte() {
    const Status mounted = machine_->mount();
    ASSERT_TRUE(mounted.ok()) << mounted.to_string();
    for (const FileKind kind : {FileKind::log, FileKind::table}) {
      const auto file = machine_->fs().open(name_of(kind), OpenMode::read_only);
      ASSERT_TRUE(file) << name_of(kind) << ": " << file.error().to_string();
      std::vector<std::byte> found(bytes_.size() + 1);
      const auto length = (*file)->read(0, found);
      ASSERT_TRUE(length) << length.error().to_string();
      found.resize(*length);
      EXPECT_EQ(found, bytes_) << name_of(kind);
    }
    EXPECT_TRUE(machine_->unmount().ok());
  }

  static const char* name_of(FileKind kind) { return kind == FileKind::log ? "/log" : "/table"; }

  std::unique_ptr<Machine> machine_;
  std::vector<std::byte> bytes_ = [] {
    std::vector<std::byte> bytes(9000);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251);
    return bytes;
  }();
};

TEST_P(ReplayDeath, LosesNothing) {
  bool died = true;
  for (uint64_t command = 1; died; ++command) {
    SCOPED_TRACE("the second mount dies after command " + std::to_string(command));
    machine_ = std::make_unique<Machine>(machine_options());
    ASSERT_NO_FATAL_FAILURE(live_and_die());
    died = mount_and_die(command);
    ASSERT_NO_FATAL_FAILURE(expect_every_byte());
    ASSERT_FALSE(HasFailure()) << machine_->log_text();
  }
}

INSTANTIATE_TEST_SUITE_P(Second, ReplayDeath,
                         testing::Values(FlushTo::shared_memory, FlushTo::device),
                         [](const auto& param) {
                           return param.param == FlushTo::device ? "device" : "shared_memory";
                         });

}  // namespace
}  // namespace basalt::crash
