// Fixture for tests of the file system: a disk in memory, a world to open it in, and helpers.
//
// in_child() runs a function in a child process that is killed at its end, as by kill -9: what it left is
// what the test then mounts. change_boot() makes the next Context live on another boot.
#pragma once

#include <basalt/file_system.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "memory_disk.h"

namespace basalt {

// Deterministic bytes.
std::vector<std::byte> pattern(size_t length, uint64_t seed);

#define ASSERT_OK(expression)                                                    \
  do {                                                                           \
    const ::basalt::Status ok_status = (expression);                             \
    ASSERT_TRUE(ok_status.ok()) << #expression << ": " << ok_status.to_string(); \
  } while (false)
#define EXPECT_OK(expression)                                                    \
  do {                                                                           \
    const ::basalt::Status ok_status = (expression);                             \
    EXPECT_TRUE(ok_status.ok()) << #expression << ": " << ok_status.to_string(); \
  } while (false)

class FsTest : public ::testing::Test {
 protected:
  FsTest();
  ~FsTest() override;

  // A fresh disk with an empty file system.
  void make(const MemoryDiskOptions& disk = {}, const FormatOptions& format = {});
  void mount(const MountOptions& options = {});
  Status try_mount(const MountOptions& options = {});
  void unmount();
  void remount(const MountOptions& options = {}) {
    unmount();
    mount(options);
  }
  // In the next children, the device's n-th write kills the process instead (0: no more).
  void kill_at_write(uint64_t n) { kill_at_write_ = n; }
  // Runs `body` in a child with the file system mounted; the child dies by SIGKILL when it returns, or
  // calls die() with its files still open. False (with the test failed) when it ended otherwise.
  bool in_child(const std::function<void()>& body, const MountOptions& options = {});
  [[noreturn]] void die();
  void change_boot() {
    boot_ += "x";
    new_context();
  }
  // check() finds nothing wrong.
  void expect_clean();

  std::unique_ptr<File> create(const std::string& path, FileKind kind = FileKind::table,
                               const CreateOptions& options = {});
  std::unique_ptr<File> open(const std::string& path, OpenMode mode = OpenMode::read_only);
  void write_file(const std::string& path, FileKind kind, std::span<const std::byte> bytes);
  std::vector<std::byte> read_all(File& file);
  std::vector<std::byte> read_file(const std::string& path);
  bool exists(const std::string& path) { return fs_->stat(path).has_value(); }
  bool has_note(const std::string& part);
  // Byte offset on the device of a log's sealed block that claims `position`; all ones: none. The last
  // one found counts.
  uint64_t find_block(uint64_t file_id, uint64_t position, uint32_t block_bytes);
  std::vector<std::string> tail_files();

  std::unique_ptr<MemoryDisk> disk_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<FileSystem> fs_;
  std::string boot_ = "test-boot";
  std::string shared_dir_;
  uint64_t kill_at_write_ = 0;

 private:
  void new_context();
};

}  // namespace basalt
