#include "bdev/channel_core.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "base/sync.h"
#include "base/try.h"
#include "bdev/device_base.h"
#include "bdev/jobs.h"

namespace basalt {
namespace {

// While a job waits for another channel's lock, wait() looks this often.
constexpr Duration kParkedSleep = std::chrono::microseconds(50);

bool modifies(Op op) {
  switch (op) {
    case Op::write:
    case Op::write_zeroes:
    case Op::discard:
    case Op::compare_and_write:
    case Op::copy:
    case Op::zone_management:
    case Op::zone_append:
    case Op::reset: return true;
    default: return false;
  }
}

// What the core forces to the medium for a device that has no FUA of its own.
bool makes_data(Op op) {
  return op == Op::write || op == Op::write_zeroes || op == Op::compare_and_write || op == Op::copy;
}

// Zone operations and reset are the backend's alone: only their range is checked here.
bool is_opaque(Op op) { return op >= Op::zone_report; }

bool carries_data(Op op) {
  return op == Op::read || op == Op::write || op == Op::compare || op == Op::compare_and_write;
}

// Whether the vectors hold exactly `bytes`. Stops early, so that lengths cannot add up past 2^64.
bool length_is(std::span<const iovec> vectors, uint64_t bytes) {
  for (const iovec& vector : vectors) {
    if (vector.iov_len > bytes) return false;
    bytes -= vector.iov_len;
  }
  return bytes == 0;
}

// Whether what is expected and what is new lie in pieces of their own, or all in one: what a device does as two commands.
bool halves_lie_apart(std::span<const iovec> vectors, uint64_t half) {
  if (vectors.size() == 1) return true;
  for (const iovec& vector : vectors) {
    if (vector.iov_len > half) return false;
    half -= vector.iov_len;
    if (half == 0) return true;
  }
  return false;
}

bool overlap(Lba a, Lba b, BlockCount count) { return a < b + count && b < a + count; }

}  // namespace

ChannelCore::ChannelCore(DeviceBase& device)
    : capacity_(&device.capacity_), device_(device), clock_(device.context().clock()) {
  const DeviceInfo& info = device.info();
  const NativeLimits& limits = device.limits();
  block_shift_ = static_cast<unsigned>(std::countr_zero(info.block_size));
  alignment_mask_ = limits.memory_alignment - 1;
  max_direct_blocks_ = limits.max_transfer_blocks == 0 ? ~uint64_t{0} : limits.max_transfer_blocks;
  holds_memory_ = limits.uses_registered_memory || limits.needs_registered_memory;
  tracks_writes_ = info.supported.has(Op::compare_and_write) &&
                   !info.native.has(Op::compare_and_write) && !info.read_only;
  for (unsigned i = 0; i < kOpCount; ++i) {
    const Op op = static_cast<Op>(i);
    if (!info.native.has(op)) continue;
    native_kinds_ |= uint32_t{1} << kind_of(op, false);
    // A write to a device without a volatile cache is durable anyway; other ops ignore the flag.
    if (limits.fua || !info.volatile_write_cache || !makes_data(op)) {
      native_kinds_ |= uint32_t{1} << kind_of(op, true);
    }
  }
  const auto both = [](Op op) { return uint32_t{3} << kind_of(op, false); };
  uint32_t direct = holds_memory_ ? 0 : both(Op::read);
  if (!holds_memory_ && !tracks_writes_ && !info.read_only) direct |= both(Op::write);
  direct_kinds_ = native_kinds_ & direct;
  device_.ranges_.add_user(range_user_);
}

ChannelCore::~ChannelCore() {
  BASALT_CHECK(stats_.outstanding == 0, "a channel is closed with I/O outstanding");
  device_.ranges_.remove_user(range_user_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

Status ChannelCore::prepare() {
  if (holds_memory_) memory_user_.emplace(device_.context().memory());
  if (!JobEngine::needed(device_)) return {};
  jobs_ = std::make_unique<JobEngine>(*this, device_);
  return jobs_->prepare();
}

void ChannelCore::submit_at_door(Io& io) noexcept {
  accept(io);
  io.channel_data = nullptr;
  const StatusCode wrong = check(io);
  if (wrong != StatusCode::ok) return complete_later(io, wrong);
  if (io.op == Op::flush && !is_native(io)) return complete_later(io, StatusCode::ok);
  if (fits_natively(io) && hold(io)) return start_or_queue(io);
  BASALT_CHECK(jobs_ != nullptr, "a device states limits only in its description");
  jobs_->submit(io);
}

StatusCode ChannelCore::check(const Io& io) const noexcept {
  const DeviceInfo& info = device_.info();
  if (device_.removed()) return StatusCode::device_removed;
  if (static_cast<unsigned>(io.op) >= kOpCount) return StatusCode::unsupported;
  if (!info.supported.has(io.op)) return StatusCode::unsupported;
  if (info.read_only && modifies(io.op)) return StatusCode::read_only;
  if (io.op == Op::flush || io.op == Op::reset) return StatusCode::ok;
  if (const StatusCode wrong = check_range(io.lba, io.block_count); wrong != StatusCode::ok) {
    return wrong;
  }
  if (io.op == Op::copy) {
    const StatusCode wrong = check_range(io.copy_source, io.block_count);
    if (wrong != StatusCode::ok) return wrong;
    if (overlap(io.lba, io.copy_source, io.block_count)) return StatusCode::invalid_argument;
  }
  if (is_opaque(io.op)) return StatusCode::ok;
  const uint64_t bytes = io.block_count.value << block_shift_;
  const unsigned copies = io.op == Op::compare_and_write ? 2 : 1;
  if (carries_data(io.op) && !length_is(io.data, bytes * copies)) {
    return StatusCode::invalid_argument;
  }
  const uint64_t metadata_bytes = io.block_count.value * info.metadata_bytes;
  if (!io.metadata.empty() && (metadata_bytes == 0 || !length_is(io.metadata, metadata_bytes))) {
    return StatusCode::invalid_argument;
  }
  return StatusCode::ok;
}

StatusCode ChannelCore::check_range(Lba lba, BlockCount count) const noexcept {
  const uint64_t capacity = capacity_->load(std::memory_order_relaxed);
  if (count.value == 0) return StatusCode::invalid_argument;
  if (count.value > capacity || lba.value > capacity - count.value) {
    return StatusCode::out_of_range;
  }
  return StatusCode::ok;
}

uint64_t ChannelCore::max_blocks(Op op) const noexcept {
  const NativeLimits& limits = device_.limits();
  const auto limit = [](uint64_t blocks) { return blocks == 0 ? ~uint64_t{0} : blocks; };
  switch (op) {
    case Op::write_zeroes: return limit(limits.max_write_zeroes_blocks);
    case Op::discard: return limit(limits.max_discard_blocks);
    case Op::compare_and_write:
      return std::min(limit(limits.max_transfer_blocks),
                      limit(limits.max_compare_and_write_blocks));
    default: return limit(limits.max_transfer_blocks);
  }
}

bool ChannelCore::usable(const iovec& vector) const noexcept {
  const auto base = reinterpret_cast<uintptr_t>(vector.iov_base);
  const uintptr_t length_mask = alignment_mask_ & (uintptr_t{block_size()} - 1);
  if ((base & alignment_mask_) != 0 || (vector.iov_len & length_mask) != 0) return false;
  return !device_.limits().needs_registered_memory ||
         device_.context().memory().find(vector.iov_base, vector.iov_len) != MemoryMap::kNotFound;
}

// Registered memory is looked at again by hold(), which keeps it registered.
bool ChannelCore::fits_natively(const Io& io) const noexcept {
  if (!is_native(io)) return false;
  if (io.op == Op::flush || is_opaque(io.op)) return true;
  if (io.block_count.value > max_blocks(io.op)) return false;
  if (!carries_data(io.op)) return true;
  const uint32_t max_iovecs = device_.limits().max_iovecs;
  if (max_iovecs != 0 && io.data.size() > max_iovecs) return false;
  const bool fuses = device_.limits().max_compare_and_write_blocks != 0;
  if (io.op == Op::compare_and_write && fuses &&
      !halves_lie_apart(io.data, io.block_count.value << block_shift_)) {
    return false;
  }
  return std::all_of(io.data.begin(), io.data.end(), [this](auto& v) { return usable(v); });
}

bool ChannelCore::hold(Io& io) noexcept {
  uintptr_t held = 0;
  if (tracks_writes_ && modifies(io.op)) {
    if (!device_.ranges_.enter_write(range_user_)) return false;
    held |= kHolds | kHoldsWrite;
  }
  if (memory_user_) {
    held |= kHolds | (memory_user_->enter() == 0 ? kHoldsMemory : kHoldsMemory1);
  }
  io.channel_data = reinterpret_cast<void*>(held);
  if (memory_user_ && device_.limits().needs_registered_memory && !fits_natively(io)) {
    drop_holds(io);
    return false;
  }
  return true;
}

void ChannelCore::drop_holds(Io& io) noexcept {
  const auto held = reinterpret_cast<uintptr_t>(io.channel_data);
  if ((held & kHoldsWrite) != 0) device_.ranges_.leave_write(range_user_);
  if ((held & kHoldsMemory) != 0) memory_user_->leave(0);
  if ((held & kHoldsMemory1) != 0) memory_user_->leave(1);
  io.channel_data = nullptr;
}

void ChannelCore::complete_held(Io& command, StatusCode status, uint64_t result) noexcept {
  if ((reinterpret_cast<uintptr_t>(command.channel_data) & kHolds) == 0) {
    return jobs_->command_done(command, status);
  }
  drop_holds(command);
  finish(command, status, result);
}

void ChannelCore::start_or_queue(Io& command) noexcept {
  if (!pending_.empty() || !start_command(command)) pending_.push_back(command);
}

void ChannelCore::start_pending() noexcept {
  while (Io* command = pending_.pop_front()) {
    if (start_command(*command)) continue;
    pending_.push_front(*command);
    return;
  }
}

void ChannelCore::complete_later(Io& io, StatusCode status) noexcept {
  io.status = status;
  late_.push_back(io);
  core_work_ = true;
}

void ChannelCore::do_core_work() noexcept {
  core_work_ = false;
  // What done() adds meanwhile is for the next poll.
  const Io* last = late_.empty() ? nullptr : late_.back();
  for (Io* io = nullptr; io != last;) {
    io = late_.pop_front();
    finish(*io, io->status, io->status == StatusCode::ok ? io->block_count.value : 0);
  }
  if (jobs_ == nullptr) return;
  if (jobs_->has_parked()) range_user_.clear_wake();
  jobs_->resume();
  if (jobs_->has_parked()) core_work_ = true;
}

void ChannelCore::cancel(Io& io) noexcept {
  if (late_.contains(io)) return;
  if (pending_.remove(io)) {
    drop_holds(io);
    return complete_later(io, StatusCode::canceled);
  }
  if (jobs_ != nullptr && jobs_->cancel(io)) return;
  cancel_command(io);
}

Duration ChannelCore::deadline_after(Duration timeout) noexcept {
  const Duration now = clock_.now();
  return timeout > Duration::max() - now ? Duration::max() : now + timeout;
}

Duration ChannelCore::sleep_time_left(Duration deadline) noexcept {
  const Duration left = deadline - clock_.now();
  return jobs_ != nullptr && jobs_->has_parked() ? std::min(left, kParkedSleep) : left;
}

bool ChannelCore::sleep_parked(Duration left) noexcept {
  if (jobs_ == nullptr || !jobs_->has_parked()) return false;
  sleep_for(left);
  return true;
}

int ChannelCore::core_wait_fd(int native_fd) noexcept {
  if (native_fd < 0 || !tracks_writes_) return native_fd;
  if (epoll_fd_ >= 0) return epoll_fd_;
  const int both = epoll_create1(EPOLL_CLOEXEC);
  const int wake = range_user_.wake_fd();
  epoll_event readable{};
  readable.events = EPOLLIN;
  if (both >= 0 && wake >= 0 && epoll_ctl(both, EPOLL_CTL_ADD, native_fd, &readable) == 0 &&
      epoll_ctl(both, EPOLL_CTL_ADD, wake, &readable) == 0) {
    return epoll_fd_ = both;
  }
  device_.context().log().log(
      LogLevel::warning, "bdev",
      device_.info().uri + ": no descriptor to wait on for other channels' atomic writes: " +
          std::strerror(errno) + "; event loops must also poll now and then");
  if (both >= 0) close(both);
  return native_fd;
}

}  // namespace basalt
