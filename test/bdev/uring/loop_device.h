// A loop block device on a file, for tests that need a real block device. Needs root.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <string>

namespace basalt {

class LoopDevice {
 public:
  // Makes `path` a sparse file of this size and puts a loop device on it.
  static Result<LoopDevice> create(const std::string& path, uint64_t size_bytes,
                                   uint32_t block_size);
  LoopDevice(LoopDevice&& other) noexcept;
  LoopDevice& operator=(LoopDevice&& other) noexcept;
  ~LoopDevice();

  const std::string& path() const { return path_; }

 private:
  LoopDevice(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;  // keeps the device attached; the kernel detaches it with the last descriptor
};

// Empty when loop devices can be made here, else why not.
std::string why_no_loop_devices();

}  // namespace basalt
