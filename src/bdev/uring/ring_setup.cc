// See ring_setup.h; io_uring_setup(2), io_uring_register(2).
#include "bdev/uring/ring_setup.h"

#include <linux/capability.h>
#include <linux/ioctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/sync.h"
#include "bdev/host/host_errno.h"

namespace basalt {
namespace {

// BLOCK_URING_CMD_DISCARD of linux/blkdev.h, newer than the headers this is built with.
constexpr uint32_t kBlockDiscardCommand = _IO(0x12, 0);

// A ring closed a moment ago gives its memory back a little later.
constexpr int kSetupAttempts = 10;
constexpr Duration kSetupPause = std::chrono::milliseconds(10);

std::optional<int> read_disabled_setting() {
  std::ifstream file("/proc/sys/kernel/io_uring_disabled");
  int value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

}  // namespace

Status explain_ring_error(int error_number, std::optional<int> disabled) {
  std::string text = "io_uring is not available: ";
  switch (error_number) {
    case ENOSYS:
      return Status(StatusCode::unsupported,
                    text +
                        "the kernel has none (needs Linux 5.11 with CONFIG_IO_URING), or a seccomp "
                        "filter hides it: allow io_uring_setup, io_uring_enter and "
                        "io_uring_register in the container's seccomp profile");
    case EPERM:
    case EACCES:
      if (disabled && *disabled >= 2) {
        text +=
            "the sysctl kernel.io_uring_disabled is 2; set it to 0 "
            "(sysctl kernel.io_uring_disabled=0)";
      } else if (disabled && *disabled == 1) {
        text +=
            "the sysctl kernel.io_uring_disabled is 1; set it to 0, or put this user into the "
            "group named by kernel.io_uring_group";
      } else {
        text +=
            "a seccomp filter or security module forbids it: allow io_uring_setup, "
            "io_uring_enter and io_uring_register in the container's seccomp profile";
      }
      return Status(StatusCode::permission_denied, std::move(text));
    case ENOMEM:
      return Status(StatusCode::no_space,
                    text +
                        "no memory for the ring; raise the locked-memory limit (ulimit -l, "
                        "RLIMIT_MEMLOCK, LimitMEMLOCK= of a service) or lower depth=");
    case EMFILE:
    case ENFILE:
      return Status(StatusCode::no_space,
                    text + "no file descriptor left for the ring; raise ulimit -n");
    default: return errno_status(error_number, text + "io_uring_setup");
  }
}

Result<std::unique_ptr<Ring>> Ring::create(int fd, unsigned entries, unsigned buffer_slots) {
  std::unique_ptr<Ring> ring(new Ring);
  int made = io_uring_queue_init(entries, &ring->ring_, 0);
  for (int attempt = 1; made == -ENOMEM && attempt < kSetupAttempts; ++attempt) {
    sleep_for(kSetupPause);
    made = io_uring_queue_init(entries, &ring->ring_, 0);
  }
  if (made < 0) {
    ring->ring_.ring_fd = -1;
    return error(explain_ring_error(-made, read_disabled_setting()));
  }
  constexpr unsigned kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
  if ((ring->ring_.features & kNeeded) != kNeeded) {
    return error(StatusCode::unsupported,
                 "io_uring of this kernel is too old: Linux 5.11 is needed");
  }
  const int registered = io_uring_register_files(&ring->ring_, &fd, 1);
  if (registered < 0) {
    return error(errno_status(-registered, "io_uring: register the file"));
  }
  if (buffer_slots > 0) {
    ring->has_buffer_slots_ = io_uring_register_buffers_sparse(&ring->ring_, buffer_slots) == 0;
  }
  return ring;
}

Ring::~Ring() {
  if (ring_.ring_fd < 0) return;
  // The kernel takes a ring down behind our back, after the descriptor is closed. Giving the file
  // back first makes sure that closing it really closes it (O_EXCL of a block device).
  io_uring_unregister_files(&ring_);
  io_uring_queue_exit(&ring_);
}

uint64_t locked_memory_budget() {
  std::ifstream status("/proc/self/status");
  for (std::string key; status >> key;) {
    uint64_t capabilities = 0;
    if (key == "CapEff:" && status >> std::hex >> capabilities &&
        (capabilities >> CAP_IPC_LOCK & 1) != 0) {
      return ~uint64_t{0};
    }
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? ~uint64_t{0} : limit.rlim_cur / 4;
}

void prepare_ring_discard(io_uring_sqe& sqe, uint64_t offset_bytes, uint64_t length_bytes) {
  io_uring_prep_rw(IORING_OP_URING_CMD, &sqe, 0, nullptr, 0, 0);
  sqe.cmd_op = kBlockDiscardCommand;
  sqe.addr = offset_bytes;
  sqe.addr3 = length_bytes;
  sqe.flags = IOSQE_FIXED_FILE;
}

bool probe_ring_discard(io_uring& ring) {
  // An empty range is refused as such (EINVAL) by a kernel and a device that can discard.
  prepare_ring_discard(*io_uring_get_sqe(&ring), 0, 0);
  io_uring_cqe* completion = nullptr;
  if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &completion) != 0) return false;
  const bool supported = completion->res == -EINVAL;
  io_uring_cqe_seen(&ring, completion);
  return supported;
}

}  // namespace basalt
