// HostFile: an open file or block device of the operating system, with its size settled and locked.
//
// open_host_file() creates a missing file when a size is given, refuses one whose size is another
// than asked for, and takes the lock of host_lock.h before it looks at the size, so that no two
// processes create or grow one file at once. What it has created or grown is durable on return.
// HostFile owns the descriptor and the lock, and gives both back when destroyed. Control path only.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>
#include <basalt/status.h>
#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>

#include "base/unique_fd.h"

namespace basalt {

struct HostFileRequest {
  std::string path;
  std::string name;  // for messages: the URI as it was given
  DeviceOpenOptions open;
  int open_flags = 0;                  // O_DIRECT
  bool block_devices = true;           // false: regular files only
  bool shared_unsafe = false;          // no lock at all
  bool grow = false;                   // a smaller file is extended to `size_bytes`
  bool reserve = false;                // the file's space is allocated now
  std::optional<uint64_t> size_bytes;  // creates a missing file
};

class HostFile {
 public:
  enum class Kind : uint8_t { regular_file, block_device };

  HostFile(UniqueFd fd, Kind kind, dev_t device, bool locked)
      : fd_(std::move(fd)), kind_(kind), device_(device), locked_(locked) {}
  HostFile(HostFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        kind_(other.kind_),
        device_(other.device_),
        locked_(std::exchange(other.locked_, false)),
        size_bytes_(other.size_bytes_),
        is_new_(other.is_new_) {}
  HostFile& operator=(HostFile&&) = delete;
  ~HostFile();

  int fd() const { return fd_.get(); }
  Kind kind() const { return kind_; }
  bool is_block_device() const { return kind_ == Kind::block_device; }
  uint64_t size_bytes() const { return size_bytes_; }
  // Made by this open: missing or empty before.
  bool is_new() const { return is_new_; }
  // Contents survive a restart of the machine: false on tmpfs and ramfs.
  bool persistent() const;
  // The block device itself, or the one below the file's file system; its facts are in sysfs.
  dev_t underlying_device() const { return device_; }

 private:
  friend Result<HostFile> open_host_file(Clock& clock, const HostFileRequest& request);

  UniqueFd fd_;
  Kind kind_;
  dev_t device_;
  bool locked_;
  uint64_t size_bytes_ = 0;
  bool is_new_ = false;
};

Result<HostFile> open_host_file(Clock& clock, const HostFileRequest& request);

// A fact of a block device from /sys/dev/block/<device>/queue/<fact>, also for partitions; nothing
// when there is none (network and stacked file systems, tmpfs).
std::optional<std::string> read_queue_fact(dev_t device, const std::string& fact);

}  // namespace basalt
