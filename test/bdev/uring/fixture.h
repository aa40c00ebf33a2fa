// What the tests of file: and uring: share: a folder of their own, a Context that keeps its log
// lines, and short ways to open a device and run one I/O.
#pragma once

#include <basalt/device.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bdev/uring/uring_device.h"

namespace basalt {

class KeepingLog : public LogSink {
 public:
  void log(LogLevel level, std::string_view, std::string_view line) override {
    const std::lock_guard lock(mutex_);
    lines_.push_back({level, std::string(line)});
  }
  unsigned count(LogLevel level, const std::string& part) const {
    const std::lock_guard lock(mutex_);
    unsigned found = 0;
    for (const auto& [at, line] : lines_) found += at == level && line.find(part) != line.npos;
    return found;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

// Page-aligned memory, filled with one byte value.
class Pages {
 public:
  Pages(size_t bytes, int value) : bytes_(bytes) {
    data_ = static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 4095) & ~size_t{4095}));
    fill(value);
  }
  ~Pages() { std::free(data_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  void fill(int value) { std::fill_n(data_, bytes_, static_cast<std::byte>(value)); }
  bool all(int value) const {
    return std::all_of(data_, data_ + bytes_,
                       [=](std::byte b) { return b == static_cast<std::byte>(value); });
  }
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  std::byte* data_;
  size_t bytes_;
};

class UringTest : public testing::Test {
 protected:
  UringTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    make_context();
  }
  ~UringTest() override { std::filesystem::remove_all(directory_); }

  // Anew, in a child process, whose log is its own.
  void make_context() {
    ContextOptions options;
    options.log = &log_;
    auto context = Context::create(options);
    EXPECT_TRUE(context);
    context_ = std::move(*context);
    register_uring_scheme(*context_);
  }
  std::string file_uri(const std::string& keys, const std::string& name = "disk") const {
    return "file:" + directory_ + "/" + name + (keys.empty() ? "" : "?" + keys);
  }
  Result<std::unique_ptr<Device>> open(const std::string& uri,
                                       const DeviceOpenOptions& options = {}) {
    return open_device(*context_, uri, options);
  }
  // The message of a failed open, with its code in front; "opened" if it did not fail.
  std::string why_not(const std::string& uri, const DeviceOpenOptions& options = {}) {
    auto device = open(uri, options);
    return device ? "opened" : device.error().to_string();
  }

  // One I/O on whole blocks, to its end.
  static StatusCode io(Channel& channel, Op op, uint64_t lba, std::span<std::byte> data,
                       uint32_t block_size, IoFlags flags = {}) {
    const iovec vector{data.data(), data.size()};
    Io io;
    io.op = op;
    io.lba = Lba{lba};
    io.block_count = BlockCount{data.size() / block_size};
    io.flags = flags;
    if (op == Op::read || op == Op::write) io.data = {&vector, 1};
    return run(channel, io);
  }

  std::string directory_;
  KeepingLog log_;
  std::unique_ptr<Context> context_;
};

}  // namespace basalt
