// See host_file.h. The order is: look what the path is, open or create, lock, settle the size,
// sync.
#include "bdev/host/host_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/try.h"
#include "bdev/host/host_errno.h"
#include "bdev/host/host_lock.h"

namespace basalt {
namespace {

constexpr mode_t kFileMode = 0600;

std::string bytes_text(uint64_t bytes) { return std::to_string(bytes) + " B"; }

struct Opened {
  UniqueFd fd;
  bool created = false;
};

Status explain_open(int error_number, const HostFileRequest& request) {
  if (error_number == EINVAL && (request.open_flags & O_DIRECT) != 0) {
    return Status(StatusCode::unsupported,
                  request.name +
                      ": this file system refuses O_DIRECT; direct=0 goes through the "
                      "kernel's page cache instead");
  }
  if (error_number == ENOENT) {
    return Status(StatusCode::not_found,
                  request.name + (request.open.may_create
                                      ? ": no such file; size= creates it (size=64G)"
                                      : ": the file that was here is not; it is not made anew"));
  }
  return errno_status(error_number, request.name + ": open");
}

// Opens the file, or creates it. Whoever loses a race to create it opens the winner's.
Result<Opened> open_or_create(const HostFileRequest& request, int flags) {
  const bool may_create =
      request.size_bytes && request.open.may_create && request.open.mode == OpenMode::read_write;
  for (int attempt = 0;; ++attempt) {
    int fd = open(request.path.c_str(), flags);
    if (fd >= 0) return Opened{UniqueFd(fd), false};
    if (errno != ENOENT || !may_create) return error(explain_open(errno, request));
    fd = open(request.path.c_str(), flags | O_CREAT | O_EXCL, kFileMode);
    if (fd >= 0) return Opened{UniqueFd(fd), true};
    if (errno == ENOENT) {
      return error(StatusCode::not_found, request.name + ": the folder does not exist");
    }
    if (errno == EINVAL) unlink(request.path.c_str());  // created, then O_DIRECT was refused
    if (errno != EEXIST || attempt == 8) return error(explain_open(errno, request));
  }
}

Status sync_parent_folder(const HostFileRequest& request) {
  std::filesystem::path folder = std::filesystem::path(request.path).parent_path();
  if (folder.empty()) folder = ".";
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || fsync(fd.get()) != 0) {
    return errno_status(errno, request.name + ": make the new name durable");
  }
  return {};
}

// Gives a new or smaller file its size; `present` is what it has. Durable on return.
Status extend(int fd, uint64_t present, const HostFileRequest& request) {
  const uint64_t wanted = *request.size_bytes;
  const std::string what =
      request.name + ": extend from " + bytes_text(present) + " to " + bytes_text(wanted);
  if (ftruncate(fd, static_cast<off_t>(wanted)) != 0) return errno_status(errno, what);
  if (fsync(fd) != 0) return errno_status(errno, what);
  return {};
}

// Gives the file the size asked for, or says why not. `is_new`: it was missing or empty.
Status settle_size(int fd, bool is_new, const HostFileRequest& request, uint64_t& size_bytes) {
  const bool writable = request.open.mode == OpenMode::read_write;
  if (request.size_bytes && *request.size_bytes != size_bytes) {
    if (size_bytes > *request.size_bytes || !(is_new || request.grow)) {
      std::string text = request.name + ": the file holds " + bytes_text(size_bytes) +
                         ", size= says " + bytes_text(*request.size_bytes);
      text += size_bytes < *request.size_bytes ? "; grow=1 extends it" : "; leave size= out";
      return Status(StatusCode::invalid_argument, std::move(text));
    }
    if (!request.open.may_create) {
      return Status(StatusCode::not_found, request.name + ": the file holds " +
                                               bytes_text(size_bytes) + " where there were " +
                                               bytes_text(*request.size_bytes) +
                                               "; it is not made anew");
    }
    if (!writable) {
      return Status(StatusCode::read_only, request.name +
                                               ": a read-only open cannot extend the file from " +
                                               bytes_text(size_bytes));
    }
    BASALT_TRY(extend(fd, size_bytes, request));
    size_bytes = *request.size_bytes;
  }
  if (request.reserve && writable && size_bytes != 0) {
    if (fallocate(fd, 0, 0, static_cast<off_t>(size_bytes)) != 0 || fsync(fd) != 0) {
      return errno_status(errno, request.name + ": reserve " + bytes_text(size_bytes));
    }
  }
  return {};
}

Result<UniqueFd> open_device_node(Clock& clock, const HostFileRequest& request, int flags) {
  if (request.open.mode == OpenMode::read_write && !request.shared_unsafe) {
    BASALT_TRY_ASSIGN(const int fd,
                      open_block_device_exclusive(clock, request.path, flags,
                                                  request.open.lock_timeout, request.name));
    return UniqueFd(fd);
  }
  const int fd = open(request.path.c_str(), flags);
  if (fd < 0) return error(explain_open(errno, request));
  return UniqueFd(fd);
}

Status read_device_size(int fd, const HostFileRequest& request, uint64_t& size_bytes) {
  if (ioctl(fd, BLKGETSIZE64, &size_bytes) != 0) {
    return errno_status(errno, request.name + ": BLKGETSIZE64");
  }
  if (request.size_bytes && *request.size_bytes != size_bytes) {
    return Status(StatusCode::invalid_argument,
                  request.name + ": the block device holds " + bytes_text(size_bytes) +
                      ", size= says " + bytes_text(*request.size_bytes) + "; leave size= out");
  }
  return {};
}

// What the path names, before it is opened: opening a pipe could block, a tape could rewind.
Result<HostFile::Kind> look_at(const HostFileRequest& request) {
  if (request.path.empty()) {
    return error(StatusCode::invalid_argument, request.name + ": no path; right is file:/path");
  }
  struct stat status {};
  if (stat(request.path.c_str(), &status) != 0) {
    if (errno == ENOENT) return HostFile::Kind::regular_file;
    return error(errno_status(errno, request.name));
  }
  if (S_ISREG(status.st_mode)) return HostFile::Kind::regular_file;
  if (S_ISBLK(status.st_mode) && request.block_devices) return HostFile::Kind::block_device;
  if (S_ISDIR(status.st_mode)) {
    return error(StatusCode::is_a_directory, request.name + ": a folder; right is a file in it");
  }
  return error(StatusCode::invalid_argument,
               request.name + (request.block_devices ? ": neither a regular file nor a block device"
                                                     : ": not a regular file"));
}

Status lock(Clock& clock, int fd, const HostFileRequest& request) {
  const HostLockMode mode =
      request.open.mode == OpenMode::read_write ? HostLockMode::exclusive : HostLockMode::shared;
  return lock_host_file(clock, fd, mode, request.open.lock_timeout, request.name);
}

}  // namespace

HostFile::~HostFile() {
  if (locked_) unlock_host_file(fd_.get());
}

bool HostFile::persistent() const {
  struct statfs file_system {};
  if (is_block_device() || fstatfs(fd(), &file_system) != 0) return true;
  return file_system.f_type != TMPFS_MAGIC && file_system.f_type != RAMFS_MAGIC;
}

Result<HostFile> open_host_file(Clock& clock, const HostFileRequest& request) {
  BASALT_TRY_ASSIGN(const HostFile::Kind kind, look_at(request));
  const bool writable = request.open.mode == OpenMode::read_write;
  const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | request.open_flags;

  Opened opened;
  if (kind == HostFile::Kind::block_device) {
    BASALT_TRY_ASSIGN(opened.fd, open_device_node(clock, request, flags));
  } else {
    BASALT_TRY_ASSIGN(opened, open_or_create(request, flags));
  }
  const int fd = opened.fd.get();
  if (!request.shared_unsafe) BASALT_TRY(lock(clock, fd, request));

  struct stat status {};
  if (fstat(fd, &status) != 0) return error(errno_status(errno, request.name + ": fstat"));
  HostFile file(std::move(opened.fd), kind,
                kind == HostFile::Kind::block_device ? status.st_rdev : status.st_dev,
                !request.shared_unsafe);
  Status size;
  if (kind == HostFile::Kind::block_device) {
    size = read_device_size(fd, request, file.size_bytes_);
  } else {
    // An empty file holds nothing to protect, so it counts as missing.
    file.size_bytes_ = static_cast<uint64_t>(status.st_size);
    file.is_new_ = status.st_size == 0;
    size = settle_size(fd, file.is_new_, request, file.size_bytes_);
  }
  if (size.ok() && file.is_new_ && request.open.mode == OpenMode::read_write) {
    size = sync_parent_folder(request);
  }
  if (!size.ok()) {
    if (opened.created) unlink(request.path.c_str());
    return error(std::move(size));
  }
  return file;
}

std::optional<std::string> read_queue_fact(dev_t device, const std::string& fact) {
  const std::string folder =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  // A partition has no queue of its own; its whole device is one folder up.
  for (const char* queue : {"/queue/", "/../queue/"}) {
    std::ifstream file(folder + queue + fact);
    std::string text;
    if (std::getline(file, text)) return text;
  }
  return std::nullopt;
}

}  // namespace basalt
