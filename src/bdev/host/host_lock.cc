// See host_lock.h. /proc/locks names a file by its file system's device number and inode number as
// the kernel knows them, which stat(2) does not tell on btrfs or overlayfs; /proc/self/fdinfo and
// /proc/self/mountinfo do, so the file's identity is read there (proc(5)).
#include "bdev/host/host_lock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/sync.h"
#include "bdev/host/host_errno.h"

namespace basalt {
namespace {

constexpr Duration kFirstPause = std::chrono::milliseconds(1);
constexpr Duration kLongestPause = std::chrono::milliseconds(50);

// The kernel's flags of a task in /proc/<pid>/stat (include/linux/sched.h).
constexpr unsigned long kTaskExiting = 0x4;     // PF_EXITING
constexpr unsigned long kTaskSignaled = 0x400;  // PF_SIGNALED: killed by a signal

struct FileIdentity {
  unsigned major = 0;
  unsigned minor = 0;
  unsigned long long inode = 0;
};

// The device number of the mounted file system with this id.
std::optional<std::pair<unsigned, unsigned>> find_mount_device(int mount_id) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    int id = 0, parent = 0;
    unsigned major = 0, minor = 0;
    if (std::sscanf(line.c_str(), "%d %d %u:%u", &id, &parent, &major, &minor) == 4 &&
        id == mount_id) {
      return std::pair(major, minor);
    }
  }
  return std::nullopt;
}

FileIdentity identify(int fd) {
  FileIdentity file;
  struct stat status {};
  if (fstat(fd, &status) == 0) {
    file = {major(status.st_dev), minor(status.st_dev), status.st_ino};
  }
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(fd));
  for (std::string key; info >> key;) {
    int mount_id = 0;
    if (key == "ino:") {
      info >> file.inode;
    } else if (key == "mnt_id:" && info >> mount_id) {
      if (auto device = find_mount_device(mount_id)) {
        file.major = device->first;
        file.minor = device->second;
      }
    }
  }
  return file;
}

// True when the task (a thread's folder in /proc) will run no more of its program.
bool task_is_dying(const std::string& folder) {
  std::ifstream stat_file(folder + "/stat");
  std::string stat_line;
  if (!std::getline(stat_file, stat_line)) return true;
  const size_t command_end = stat_line.rfind(')');
  if (command_end == std::string::npos) return true;
  char state = '?';
  unsigned long flags = 0;
  if (std::sscanf(stat_line.c_str() + command_end + 1, " %c %*d %*d %*d %*d %*d %lu", &state,
                  &flags) == 2 &&
      (state == 'Z' || state == 'X' || (flags & (kTaskExiting | kTaskSignaled)) != 0)) {
    return true;
  }
  std::ifstream status_file(folder + "/status");
  for (std::string line; std::getline(status_file, line);) {
    unsigned long long pending = 0;
    if ((std::sscanf(line.c_str(), "SigPnd: %llx", &pending) == 1 ||
         std::sscanf(line.c_str(), "ShdPnd: %llx", &pending) == 1) &&
        (pending & (1ull << (SIGKILL - 1))) != 0) {
      return true;
    }
  }
  return false;
}

bool process_is_alive(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR* folder = opendir(tasks.c_str());
  if (folder == nullptr) return false;
  bool alive = false;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    if (!task_is_dying(tasks + "/" + entry->d_name)) alive = true;
  }
  closedir(folder);
  return alive;
}

std::string command_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string command;
  std::getline(file, command);
  return command;
}

std::vector<HostLockHolder> find_holders(const FileIdentity& file) {
  std::vector<HostLockHolder> holders;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    int pid = 0;
    unsigned major = 0, minor = 0;
    unsigned long long inode = 0;
    // "1: FLOCK  ADVISORY  WRITE 4854 fe:00:10952873 0 EOF"; waiters carry "->" before the kind.
    if (std::sscanf(line.c_str(), "%*d: FLOCK %*s %*s %d %x:%x:%llu", &pid, &major, &minor,
                    &inode) != 4) {
      continue;
    }
    if (major != file.major || minor != file.minor || inode != file.inode) continue;
    holders.push_back({pid, command_of(pid), process_is_alive(pid)});
  }
  return holders;
}

std::string describe(const HostLockHolder& holder) {
  if (holder.pid == getpid()) return "this process (pid " + std::to_string(holder.pid) + ")";
  std::string text = "pid " + std::to_string(holder.pid);
  if (!holder.command.empty()) text += " (" + holder.command + ")";
  return text;
}

const HostLockHolder* find_alive(const std::vector<HostLockHolder>& holders) {
  auto found = std::find_if(holders.begin(), holders.end(), [](auto& h) { return h.alive; });
  return found == holders.end() ? nullptr : &*found;
}

// What to say when waiting did not help.
Status still_in_use(const std::string& name, const std::vector<HostLockHolder>& holders,
                    Duration timeout) {
  std::ostringstream text;
  text << name << ": in use ";
  if (holders.empty()) {
    text << "by a process that cannot be seen from here (of another container or host)";
  } else {
    text << "by " << describe(holders.front())
         << ", which is gone while its file is still open: its last writes have not drained, or a "
            "child has inherited it";
  }
  text << "; waited " << std::chrono::duration<double>(timeout).count() << " s";
  return Status(StatusCode::busy, text.str());
}

// Calls attempt() until it answers something else than EWOULDBLOCK or EBUSY, or an owner is found
// alive, or the time is over. `find` lists owners. Answers ok when attempt() answered 0.
template <typename Attempt, typename Find>
Status wait_for_owner(Clock& clock, Duration timeout, const std::string& name, Attempt attempt,
                      Find find) {
  const Duration deadline = clock.now() + timeout;
  for (Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    const int error_number = attempt();
    if (error_number == 0) return {};
    if (error_number != EWOULDBLOCK && error_number != EBUSY) {
      return errno_status(error_number, name);
    }
    const auto holders = find();
    if (const HostLockHolder* owner = find_alive(holders)) {
      return Status(StatusCode::busy, name + ": in use by " + describe(*owner));
    }
    if (clock.now() >= deadline) return still_in_use(name, holders, timeout);
    sleep_for(pause);
  }
}

// True when the block device is mounted, as far as this mount namespace shows.
std::string find_mount_point(dev_t device) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id, parent, numbers, root, mount_point;
    fields >> id >> parent >> numbers >> root >> mount_point;
    if (numbers == std::to_string(major(device)) + ":" + std::to_string(minor(device))) {
      return mount_point;
    }
  }
  return "";
}

}  // namespace

std::vector<HostLockHolder> find_lock_holders(int fd) { return find_holders(identify(fd)); }

Status lock_host_file(Clock& clock, int fd, HostLockMode mode, Duration timeout,
                      const std::string& name) {
  const int operation = (mode == HostLockMode::exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
  Status status = wait_for_owner(
      clock, timeout, name, [&] { return flock(fd, operation) == 0 ? 0 : errno; },
      [&] { return find_lock_holders(fd); });
  if (status.code() == StatusCode::unsupported) {
    return Status(StatusCode::unsupported,
                  name + ": this file system has no locks; shared_unsafe=1 opens it without");
  }
  return status;
}

void unlock_host_file(int fd) noexcept { flock(fd, LOCK_UN); }

Result<int> open_block_device_exclusive(Clock& clock, const std::string& path, int flags,
                                        Duration timeout, const std::string& name) {
  struct stat device {};
  if (stat(path.c_str(), &device) != 0) return error(errno_status(errno, name));
  const std::string mount_point = find_mount_point(device.st_rdev);
  if (!mount_point.empty()) {
    return error(StatusCode::busy, name + ": in use: mounted on " + mount_point);
  }
  // Opened only to learn who holds the lock; an open without O_EXCL disturbs nobody.
  const int witness = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const FileIdentity identity = witness >= 0 ? identify(witness) : FileIdentity{};
  if (witness >= 0) close(witness);
  int fd = -1;
  Status status = wait_for_owner(
      clock, timeout, name,
      [&] {
        fd = open(path.c_str(), flags | O_EXCL, 0);
        return fd >= 0 ? 0 : errno;
      },
      [&] { return find_holders(identity); });
  if (!status.ok()) return error(std::move(status));
  return fd;
}

}  // namespace basalt
