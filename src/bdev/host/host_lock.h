// The operating system's lock on a file or block device that a Device owns.
//
// The lock is a flock(2) on the very descriptor that does the I/O. It belongs to the open file, not
// to the process: a killed owner keeps it until the kernel has drained the last of its writes, so
// whoever gets the lock next sees a device that nobody writes any more. That draining is waited
// for; an owner that lives is named at once ("in use by pid 4711 (db_bench)"). Owners are found in
// /proc/locks. Any thread; control path only.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace basalt {

enum class HostLockMode : uint8_t { shared, exclusive };

// Takes the lock, waiting up to `timeout` only for an owner that is dead or dying. `name` is for
// messages. Errors: busy (naming the owner), unsupported (the file system has no locks).
Status lock_host_file(Clock& clock, int fd, HostLockMode mode, Duration timeout,
                      const std::string& name);

// Gives the lock back at once. Closing the descriptor is not enough: a ring being torn down by the
// kernel refers to the open file for a while longer.
void unlock_host_file(int fd) noexcept;

// Opens a block device with O_EXCL, under the same rule of waiting. Answers the descriptor.
Result<int> open_block_device_exclusive(Clock& clock, const std::string& path, int flags,
                                        Duration timeout, const std::string& name);

// A process that took a flock on the file; it may be gone, and others may share its descriptor.
struct HostLockHolder {
  pid_t pid = 0;
  std::string command;  // empty when the process is gone
  bool alive = false;   // false: gone, a zombie, or killed and on its way out
};

// Those listed for the file behind `fd`; processes that this one's /proc does not show are missing.
std::vector<HostLockHolder> find_lock_holders(int fd);

}  // namespace basalt
