// Making an io_uring, and saying what to change where the system does not allow it.
//
// A Ring owns one io_uring(7) instance with the I/O file registered as file 0 and, where the kernel
// has them, empty slots for registered buffers. It is made with neither SINGLE_ISSUER nor
// DEFER_TASKRUN: any thread may submit and any other may wait, one at a time.
#pragma once

#include <basalt/status.h>
#include <liburing.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace basalt {

class Ring {
 public:
  // `fd` becomes registered file 0. `entries`: how many submissions fit; completions get twice
  // that.
  static Result<std::unique_ptr<Ring>> create(int fd, unsigned entries, unsigned buffer_slots);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  io_uring* get() { return &ring_; }
  // False: this kernel has no sparse buffer tables (before Linux 5.19), or refused one.
  bool has_buffer_slots() const { return has_buffer_slots_; }

 private:
  Ring() = default;

  io_uring ring_{};
  bool has_buffer_slots_ = false;
};

// The sentence for a failed io_uring_setup(2): what is missing and which setting brings it.
// `disabled` is the value of the sysctl kernel.io_uring_disabled, where it exists.
Status explain_ring_error(int error_number, std::optional<int> disabled);

// How many bytes of buffers a device may register, all its channels together. Rings themselves are
// charged to the same limit (RLIMIT_MEMLOCK) by newer kernels, so most of it is left to them;
// unlimited with CAP_IPC_LOCK.
uint64_t locked_memory_budget();

// Whether the block device behind `fd` takes IORING_OP_URING_CMD discards (Linux 6.12 and later).
bool probe_ring_discard(io_uring& ring);

// Fills a discard of a block device (BLOCK_URING_CMD_DISCARD) for registered file 0.
void prepare_ring_discard(io_uring_sqe& sqe, uint64_t offset_bytes, uint64_t length_bytes);

}  // namespace basalt
