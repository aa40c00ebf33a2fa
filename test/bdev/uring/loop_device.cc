#include "test/bdev/uring/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "bdev/host/host_errno.h"

namespace basalt {

Result<LoopDevice> LoopDevice::create(const std::string& path, uint64_t size_bytes,
                                      uint32_t block_size) {
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return error(errno_status(errno, "/dev/loop-control"));
  const int backing = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (backing < 0 || ftruncate(backing, static_cast<off_t>(size_bytes)) != 0) {
    close(control);
    return error(errno_status(errno, path));
  }
  Status problem(StatusCode::busy, "no free loop device");
  for (int attempt = 0; attempt < 20; ++attempt) {  // others take free ones too
    const int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) {
      problem = errno_status(errno, "LOOP_CTL_GET_FREE");
      break;
    }
    const std::string device = "/dev/loop" + std::to_string(number);
    const int fd = open(device.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config{};
    config.fd = static_cast<__u32>(backing);
    config.block_size = block_size;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
      close(control);
      close(backing);
      return LoopDevice(device, fd);
    }
    problem = errno_status(errno, device);
    if (fd >= 0) close(fd);
    if (problem.code() != StatusCode::busy) break;
  }
  close(control);
  close(backing);
  return error(std::move(problem));
}

LoopDevice::LoopDevice(LoopDevice&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

LoopDevice& LoopDevice::operator=(LoopDevice&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

LoopDevice::~LoopDevice() {
  if (fd_ >= 0) close(fd_);
}

std::string why_no_loop_devices() {
  const std::string path =
      std::filesystem::temp_directory_path() / ("basalt-loop-" + std::to_string(getpid()));
  auto device = LoopDevice::create(path, 1 << 20, 512);
  std::filesystem::remove(path);
  return device ? "" : device.error().to_string();
}

}  // namespace basalt
