// UringChannel: a queue pair that is one io_uring.
//
// start() fills a submission entry, kick() sends all of them with one io_uring_enter(2), sleep()
// sends and waits with one. Completions are read from shared memory without a system call. Short
// transfers are continued and interrupted ones repeated here, so the core sees whole commands only.
// Memory regions of the Context are registered as ring buffers where the kernel allows it; buffers
// inside one go as READ_FIXED/WRITE_FIXED, all others as plain reads and writes. A single read whose
// caller sleeps until it is done is a plain pread(2).
// Invariants: in_flight_ commands have been started and not completed; each has exactly one entry
// in the submission queue, with the kernel, in the completion queue, in failed_ or alone_. Thread
// rules: one thread at a time; region_added/removed from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "bdev/io_list.h"
#include "bdev/native.h"
#include "bdev/uring/ring_setup.h"
#include "mem/memory_map.h"

namespace basalt {

class UringDevice;

class UringChannel final : public NativeChannel<UringChannel>, private MemoryListener {
 public:
  UringChannel(UringDevice& device, std::unique_ptr<Ring> ring);
  ~UringChannel() override;

  static unsigned ring_entries(unsigned depth) { return 2 * depth; }

  bool start(Io& command) noexcept;
  void reap() noexcept;
  void kick() noexcept;
  bool sleep(Duration timeout, unsigned wanted) noexcept;
  int native_fd() noexcept { return ring_->get()->ring_fd; }
  void native_cancel(Io& command) noexcept;

 private:
  void prepare(Io& command) noexcept;
  void prepare_transfer(Io& command, io_uring_sqe& sqe) noexcept;
  void prepare_piece(io_uring_sqe& sqe, bool is_read, std::byte* base, size_t bytes,
                     uint64_t offset) noexcept;
  void prepare_write_zeroes(Io& command, io_uring_sqe& sqe) noexcept;
  void prepare_discard(const Io& command, io_uring_sqe& sqe) noexcept;
  void handle(Io& command, int32_t result) noexcept;
  void handle_progress(Io& command, uint32_t bytes) noexcept;
  void handle_failure(Io& command, int error_number) noexcept;
  // Carries out the one command there is, when it is a read or a flush the kernel has not been given yet.
  bool run_alone() noexcept;
  ssize_t read_rest(const Io& command) noexcept;
  int wait_with_timer(Duration timeout, unsigned wanted) noexcept;
  void after_submit(int result) noexcept;
  void fail_unsubmitted(int error_number) noexcept;

  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

  uint64_t offset_of(const Io& command) const noexcept {
    return command.lba.value << block_shift();
  }
  uint64_t bytes_of(const Io& command) const noexcept {
    return command.block_count.value << block_shift();
  }

  UringDevice& device_;
  MemoryMap& memory_;
  std::unique_ptr<Ring> ring_;
  const unsigned depth_;
  unsigned in_flight_ = 0;
  Io* alone_ = nullptr;  // carried out by run_alone(), not completed yet
  int32_t alone_result_ = 0;
  IoList failed_;  // could not be handed to the kernel; channel_word holds the errno
  // By region index: this ring has the region as a registered buffer. Set before the region can be
  // found, cleared after its last command: the pairing with find() is MemoryMap's.
  std::array<std::atomic<bool>, MemoryMap::kMaxRegions> registered_{};
};

}  // namespace basalt
