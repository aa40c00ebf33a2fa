// ChannelCore: the part of a channel that does not depend on the backend.
//
// An Io that the backend can take as it is (one inlined check) goes straight to it: it *is* the
// native command. Everything else goes through the door: it is refused with an error that completes
// on the next poll, handed on after longer checks, or becomes a job (jobs.h) that splits, bounces
// or emulates it with native commands of its own. What the backend has no room for waits on an
// intrusive list. Backends derive from NativeChannel (native.h), never from this class directly.
//
// io.channel_data, while an Io is in the channel:
//   0                     a user's Io, given to the backend as it is
//   odd                   the same, holding something until it completes (the kHolds… bits)
//   a Job's address       a user's Io that a job carries out, or a job's own native command
// Thread rules: one thread at a time.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>

#include "bdev/io_list.h"
#include "bdev/latency.h"
#include "bdev/range_lock.h"
#include "mem/memory_map.h"

namespace basalt {

class DeviceBase;
class JobEngine;

class ChannelCore : public Channel {
 public:
  ~ChannelCore() override;

  void cancel(Io& io) noexcept final;
  const ChannelStats& stats() noexcept final { return stats_; }

  // Allocates what the channel will need; called once, before first use, by DeviceBase.
  Status prepare();

 protected:
  explicit ChannelCore(DeviceBase& device);

  // For the backend: a started command has finished. `result` overrides the number of blocks.
  void complete(Io& command, StatusCode status) noexcept {
    complete(command, status, status == StatusCode::ok ? command.block_count.value : 0);
  }
  void complete(Io& command, StatusCode status, uint64_t result) noexcept {
    if (command.channel_data == nullptr) [[likely]] {
      finish(command, status, result);
    } else {
      complete_held(command, status, result);
    }
    if (!pending_.empty()) [[unlikely]]
      start_pending();
  }
  uint32_t block_size() const noexcept { return uint32_t{1} << block_shift_; }
  unsigned block_shift() const noexcept { return block_shift_; }
  DeviceBase& device() const noexcept { return device_; }

  // The rest of this section is for NativeChannel.
  // True when the backend can take `io` as it is: the fast path's only check.
  bool direct(const Io& io) const noexcept {
    const unsigned kind = kind_of(io);
    if (kind >= kKinds || (direct_kinds_ >> kind & 1) == 0 || io.data.size() != 1) return false;
    const iovec& vector = io.data[0];
    const uint64_t count = io.block_count.value;
    const uint64_t capacity = capacity_->load(std::memory_order_relaxed);
    // count - 1 wraps for 0, so one comparison checks both ends; likewise the end of the device.
    return count - 1 < max_direct_blocks_ && vector.iov_len == count << block_shift_ &&
           (reinterpret_cast<uintptr_t>(vector.iov_base) & alignment_mask_) == 0 &&
           count <= capacity && io.lba.value <= capacity - count && io.metadata.empty() &&
           pending_.empty();
  }
  // An Io's kind: its op, and whether FUA is asked for. May be any number: ops come from outside.
  static unsigned kind_of(const Io& io) noexcept { return kind_of(io.op, io.flags.fua); }
  static constexpr unsigned kind_of(Op op, bool fua) noexcept {
    return static_cast<unsigned>(op) << 1 | (fua ? 1u : 0u);
  }
  void accept(Io& io) noexcept {
    io.submit_tick = tick();
    ++stats_.outstanding;
  }
  void queue_pending(Io& command) noexcept { pending_.push_back(command); }
  void submit_at_door(Io& io) noexcept;

  void begin_batch() noexcept {
    completed_ = 0;
    tick_ = 0;
  }
  unsigned end_batch() noexcept {
    tick_ = 0;
    return completed_;
  }
  unsigned completed() const noexcept { return completed_; }
  bool has_core_work() const noexcept { return core_work_; }
  void do_core_work() noexcept;
  Duration deadline_after(Duration timeout) noexcept;
  Duration sleep_time_left(Duration deadline) noexcept;
  // For a backend that never sleeps: sleeps if only another channel's progress can help.
  bool sleep_parked(Duration left) noexcept;
  int core_wait_fd(int native_fd) noexcept;
  void core_arm() noexcept {
    if (epoll_fd_ >= 0) range_user_.clear_wake();
  }

 private:
  friend class DeviceBase;
  friend class JobEngine;
  friend class RangeLocks;

  static constexpr unsigned kKinds = 32;
  static_assert(2 * kOpCount <= kKinds);
  // Bits of channel_data for a user's Io with the backend (see the head).
  static constexpr uintptr_t kHolds = 1;
  static constexpr uintptr_t kHoldsMemory = 2;   // a MemoryUser's phase 0
  static constexpr uintptr_t kHoldsMemory1 = 4;  // … phase 1
  static constexpr uintptr_t kHoldsWrite = 8;    // counted in range_user_

  virtual bool start_command(Io& command) noexcept = 0;
  virtual void cancel_command(Io& command) noexcept = 0;

  // The time of this batch, read once, when first needed: in nanoseconds of the Context's clock.
  uint64_t tick() noexcept {
    if (tick_ == 0) tick_ = static_cast<uint64_t>(clock_.now().count());
    return tick_;
  }
  // Ends a user's Io: counts it and runs done().
  void finish(Io& io, StatusCode status, uint64_t result) noexcept {
    count(io, status);
    io.status = status;
    io.result = result;
    ++completed_;
    --stats_.outstanding;
    io.done(io);
  }
  void count(const Io& io, StatusCode status) noexcept;
  void complete_held(Io& command, StatusCode status, uint64_t result) noexcept;
  // Starts a command, or lets it wait for room.
  void start_or_queue(Io& command) noexcept;
  void start_pending() noexcept;
  // Completes `io` with `status` on the next poll.
  void complete_later(Io& io, StatusCode status) noexcept;
  // What is wrong with `io`, or ok.
  StatusCode check(const Io& io) const noexcept;
  StatusCode check_range(Lba lba, BlockCount count) const noexcept;
  // Whether the backend can carry out `io` itself, and take this much, and this memory.
  bool is_native(const Io& io) const noexcept { return (native_kinds_ >> kind_of(io) & 1) != 0; }
  bool fits_natively(const Io& io) const noexcept;
  bool usable(const iovec& vector) const noexcept;
  uint64_t max_blocks(Op op) const noexcept;
  // Takes what the backend's command must hold meanwhile; false: a job must carry `io` out.
  bool hold(Io& io) noexcept;
  void drop_holds(Io& io) noexcept;

  // Read on every Io.
  const std::atomic<uint64_t>* capacity_;
  uint64_t max_direct_blocks_ = 0;
  uintptr_t alignment_mask_ = 0;
  uint32_t direct_kinds_ = 0;  // bit per kind that needs nothing but the checks in direct()
  unsigned block_shift_ = 0;
  bool core_work_ = false;  // late_, or jobs that wait for a range
  unsigned completed_ = 0;  // Ios completed in this batch
  uint64_t tick_ = 0;       // 0: not read yet in this batch
  IoList pending_;          // commands the backend had no room for

  DeviceBase& device_;
  Clock& clock_;
  IoList late_;                 // complete with their status on the next poll
  uint32_t native_kinds_ = 0;   // bit per kind that the backend can carry out itself
  bool tracks_writes_ = false;  // compare_and_write is emulated: writes respect range locks
  bool holds_memory_ = false;   // the backend uses registered memory
  int epoll_fd_ = -1;           // the backend's descriptor and range_user_'s, when both are needed
  RangeUser range_user_;
  std::optional<MemoryUser> memory_user_;
  std::unique_ptr<JobEngine> jobs_;
  ChannelStats stats_;
};

inline void ChannelCore::count(const Io& io, StatusCode status) noexcept {
  const auto op = static_cast<unsigned>(io.op);
  if (op >= kOpCount) return;
  ++stats_.ops[op];
  if (status != StatusCode::ok) [[unlikely]] {
    ++stats_.errors[op];
    return;
  }
  const uint64_t latency = tick() - io.submit_tick;
  const uint64_t bytes = io.block_count.value << block_shift_;
  if (io.op == Op::read) {
    stats_.read_bytes += bytes;
    ++stats_.read_latency.buckets[latency_bucket(latency)];
  } else if (io.op == Op::write) {
    stats_.written_bytes += bytes;
    ++stats_.write_latency.buckets[latency_bucket(latency)];
  } else if (io.op == Op::flush) {
    ++stats_.flush_latency.buckets[latency_bucket(latency)];
  }
}

}  // namespace basalt
