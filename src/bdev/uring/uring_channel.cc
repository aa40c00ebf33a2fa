// See uring_channel.h; io_uring_enter(2). A command's user_data is its Io; 0 marks a cancel
// request.
#include "bdev/uring/uring_channel.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/sync.h"
#include "bdev/host/host_errno.h"
#include "bdev/uring/uring_device.h"

namespace basalt {
namespace {

// Io::channel_word while the command is here: bytes done, repeats so far, and two marks.
constexpr uint64_t kBytesMask = (uint64_t{1} << 48) - 1;
constexpr uint64_t kRepeatUnit = uint64_t{1} << 48;
constexpr uint64_t kRepeatMask = uint64_t{0xff} << 48;
constexpr uint64_t kWritesZeros = uint64_t{1} << 62;  // write_zeroes without FALLOC_FL_ZERO_RANGE
constexpr uint64_t kCanceled = uint64_t{1} << 63;     // cancel() was called

constexpr Duration kForever = std::chrono::hours(1);  // and more: sleep without a timer
constexpr Duration kPauseWithoutMemory = std::chrono::microseconds(200);

uint64_t bytes_done(const Io& command) { return command.channel_word & kBytesMask; }

}  // namespace

UringChannel::UringChannel(UringDevice& device, std::unique_ptr<Ring> ring)
    : NativeChannel(device),
      device_(device),
      memory_(device.context().memory()),
      ring_(std::move(ring)),
      depth_(device.settings().depth) {
  if (ring_->has_buffer_slots()) memory_.add_listener(*this);
}

UringChannel::~UringChannel() {
  BASALT_CHECK(in_flight_ == 0, "a channel is closed with I/O outstanding");
  if (ring_->has_buffer_slots()) memory_.remove_listener(*this);
}

bool UringChannel::start(Io& command) noexcept {
  if (in_flight_ == depth_) return false;
  ++in_flight_;
  command.channel_word = 0;
  prepare(command);
  return true;
}

// The queue has room for two entries per command in flight; native_cancel() leaves that of
// commands.
void UringChannel::prepare(Io& command) noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(ring_->get());
  BASALT_CHECK(sqe != nullptr, "the submission queue has room for every command in flight");
  switch (command.op) {
    case Op::read:
    case Op::write: prepare_transfer(command, *sqe); break;
    case Op::flush: io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC); break;
    case Op::write_zeroes: prepare_write_zeroes(command, *sqe); break;
    case Op::discard: prepare_discard(command, *sqe); break;
    default: BASALT_CHECK(false, "the core hands on native operations only");
  }
  sqe->flags = IOSQE_FIXED_FILE;
  io_uring_sqe_set_data(sqe, &command);
}

// Starts at what a short transfer left: the rest of the buffer it ended in, else all that follow.
void UringChannel::prepare_transfer(Io& command, io_uring_sqe& sqe) noexcept {
  const bool is_read = command.op == Op::read;
  const uint64_t offset = offset_of(command) + bytes_done(command);
  size_t index = 0;
  uint64_t skip = bytes_done(command);
  while (skip >= command.data[index].iov_len) skip -= command.data[index++].iov_len;
  const std::span<const iovec> rest = command.data.subspan(index);
  if (skip > 0 || rest.size() == 1) {
    auto* base = static_cast<std::byte*>(rest[0].iov_base) + skip;
    prepare_piece(sqe, is_read, base, rest[0].iov_len - skip, offset);
  } else if (is_read) {
    io_uring_prep_readv(&sqe, 0, rest.data(), static_cast<unsigned>(rest.size()), offset);
  } else {
    io_uring_prep_writev(&sqe, 0, rest.data(), static_cast<unsigned>(rest.size()), offset);
  }
  if (command.flags.fua && !is_read) sqe.rw_flags = RWF_DSYNC;
}

void UringChannel::prepare_piece(io_uring_sqe& sqe, bool is_read, std::byte* base, size_t bytes,
                                 uint64_t offset) noexcept {
  const auto length = static_cast<unsigned>(bytes);
  const uint32_t region =
      ring_->has_buffer_slots() ? memory_.find(base, bytes) : MemoryMap::kNotFound;
  if (region != MemoryMap::kNotFound && registered_[region].load(std::memory_order_relaxed)) {
    const auto buffer = static_cast<int>(region);
    if (is_read) {
      io_uring_prep_read_fixed(&sqe, 0, base, length, offset, buffer);
    } else {
      io_uring_prep_write_fixed(&sqe, 0, base, length, offset, buffer);
    }
  } else if (is_read) {
    io_uring_prep_read(&sqe, 0, base, length, offset);
  } else {
    io_uring_prep_write(&sqe, 0, base, length, offset);
  }
}

// ZERO_RANGE leaves a file with extents that its file system has yet to mark written, which makes
// the first synced write to each pay for a metadata commit. Whoever asks for blocks that stay
// allocated gets real zeros in a file; a block device has no such state. FUA is known to writes
// only.
void UringChannel::prepare_write_zeroes(Io& command, io_uring_sqe& sqe) noexcept {
  if (!device_.has_zero_range() || command.flags.fua ||
      (command.flags.no_deallocate && !device_.is_block_device())) {
    command.channel_word |= kWritesZeros;
  }
  if ((command.channel_word & kWritesZeros) == 0) {
    io_uring_prep_fallocate(&sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(offset_of(command)),
                            static_cast<off_t>(bytes_of(command)));
    return;
  }
  const uint64_t left = bytes_of(command) - bytes_done(command);
  const size_t piece = std::min<uint64_t>(left, device_.zeros().size());
  io_uring_prep_write(&sqe, 0, device_.zeros().data(), static_cast<unsigned>(piece),
                      offset_of(command) + bytes_done(command));
  if (command.flags.fua) sqe.rw_flags = RWF_DSYNC;
}

void UringChannel::prepare_discard(const Io& command, io_uring_sqe& sqe) noexcept {
  if (device_.settings().ring_discard) {
    prepare_ring_discard(sqe, offset_of(command), bytes_of(command));
  } else {
    // On a block device this zeroes with leave to unmap, which every kernel has.
    io_uring_prep_fallocate(&sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            static_cast<off_t>(offset_of(command)),
                            static_cast<off_t>(bytes_of(command)));
  }
}

void UringChannel::reap() noexcept {
  while (Io* command = failed_.pop_front()) {
    --in_flight_;
    complete(*command, status_code_from_errno(static_cast<int>(command->channel_word)));
  }
  if (Io* command = std::exchange(alone_, nullptr)) handle(*command, alone_result_);
  io_uring* ring = ring_->get();
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* completion = nullptr;
  // What done() starts here is sent by kick() only, so the queue cannot grow without end.
  io_uring_for_each_cqe(ring, head, completion) {
    ++count;
    auto* command = static_cast<Io*>(io_uring_cqe_get_data(completion));
    if (command != nullptr) handle(*command, completion->res);
  }
  if (count != 0) io_uring_cq_advance(ring, count);
}

void UringChannel::handle(Io& command, int32_t result) noexcept {
  if (result < 0) [[unlikely]] {
    handle_failure(command, -result);
  } else if (command.op == Op::read || command.op == Op::write ||
             (command.channel_word & kWritesZeros) != 0) {
    handle_progress(command, static_cast<uint32_t>(result));
  } else {
    --in_flight_;
    complete(command, StatusCode::ok);
  }
}

void UringChannel::handle_progress(Io& command, uint32_t bytes) noexcept {
  command.channel_word += bytes;
  if (bytes_done(command) == bytes_of(command)) [[likely]] {
    --in_flight_;
    complete(command, StatusCode::ok);
  } else if (bytes == 0) {  // the file has become shorter than it was when opened
    handle_failure(command, EIO);
  } else {
    prepare(command);
  }
}

void UringChannel::handle_failure(Io& command, int error_number) noexcept {
  const bool canceled = (command.channel_word & kCanceled) != 0;
  // A thread's exit makes the kernel cancel what its workers had not begun, though nobody asked.
  const bool transient =
      error_number == EAGAIN || error_number == EINTR || (error_number == ECANCELED && !canceled);
  if (transient && !canceled && (command.channel_word & kRepeatMask) != kRepeatMask) {
    command.channel_word += kRepeatUnit;
    prepare(command);
    return;
  }
  if (command.op == Op::write_zeroes && error_number == EOPNOTSUPP &&
      (command.channel_word & kWritesZeros) == 0) {
    device_.lose_zero_range();
    prepare(command);
    return;
  }
  --in_flight_;
  if (error_number == EINTR || (canceled && error_number == EAGAIN)) error_number = ECANCELED;
  if (error_number != ECANCELED) device_.note_failure(command, error_number);
  complete(command, status_code_from_errno(error_number));
}

void UringChannel::kick() noexcept {
  if (io_uring_sq_ready(ring_->get()) == 0) return;
  after_submit(io_uring_submit(ring_->get()));
}

int UringChannel::wait_with_timer(Duration timeout, unsigned wanted) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  __kernel_timespec limit{};
  limit.tv_sec = seconds.count();
  limit.tv_nsec = (timeout - seconds).count();
  io_uring_cqe* completion = nullptr;
  return io_uring_submit_and_wait_timeout(ring_->get(), &completion, wanted, &limit, nullptr);
}

// pread(2) wakes its caller from the device's interrupt; through the ring, completing runs as task work
// of the caller first, which costs some 5 % of a read of a fast device. A flush in the ring goes to a thread
// of io_uring's, which costs a third of it. Of writes it would cost more: synchronous RWF_DSYNC on a block
// device flushes twice.
bool UringChannel::run_alone() noexcept {
  io_uring_sq& queue = ring_->get()->sq;
  if (in_flight_ != 1 || queue.sqe_tail - queue.sqe_head != 1) return false;
  const io_uring_sqe& sqe = queue.sqes[queue.sqe_head & queue.ring_mask];
  auto* command = reinterpret_cast<Io*>(static_cast<uintptr_t>(sqe.user_data));
  if (command == nullptr) return false;
  const bool is_read = command->op == Op::read && command->data.size() == 1;
  if (!is_read && command->op != Op::flush) return false;
  --queue.sqe_tail;  // the kernel has not been told of it
  const ssize_t result = is_read ? read_rest(*command) : fdatasync(device_.fd());
  alone_ = command;
  alone_result_ = result < 0 ? -errno : static_cast<int32_t>(result);
  return true;
}

ssize_t UringChannel::read_rest(const Io& command) noexcept {
  const uint64_t done = bytes_done(command);
  return pread(device_.fd(), static_cast<std::byte*>(command.data[0].iov_base) + done,
               bytes_of(command) - done, static_cast<off_t>(offset_of(command) + done));
}

bool UringChannel::sleep(Duration timeout, unsigned wanted) noexcept {
  const bool forever = timeout >= kForever && in_flight_ > 0;
  if (forever && run_alone()) return true;
  timeout = std::clamp(timeout, Duration::zero(), kForever);
  wanted = std::clamp(wanted, 1u, std::max(in_flight_, 1u));
  const int result =
      forever ? io_uring_submit_and_wait(ring_->get(), wanted) : wait_with_timer(timeout, wanted);
  after_submit(result);
  if (result == -EAGAIN || result == -EBUSY) sleep_for(std::min(timeout, kPauseWithoutMemory));
  return true;
}

void UringChannel::after_submit(int result) noexcept {
  // Short of memory, the kernel takes what is in the queue later: the next poll offers it again.
  const bool transient =
      result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY;
  if (result < 0 && !transient) fail_unsubmitted(-result);
}

// The kernel takes nothing any more (a seccomp filter, for one): what it has not taken must still
// complete. Without a kernel thread reading the queue, taking entries back is safe.
void UringChannel::fail_unsubmitted(int error_number) noexcept {
  io_uring_sq& queue = ring_->get()->sq;
  const unsigned first = __atomic_load_n(queue.khead, __ATOMIC_ACQUIRE);
  const unsigned end = *queue.ktail;
  for (unsigned at = first; at != end; ++at) {
    const io_uring_sqe& sqe = queue.sqes[queue.array[at & queue.ring_mask]];
    auto* command = reinterpret_cast<Io*>(static_cast<uintptr_t>(sqe.user_data));
    if (command == nullptr) continue;
    device_.note_failure(*command, error_number);
    command->channel_word = static_cast<uint64_t>(error_number);
    failed_.push_back(*command);
  }
  __atomic_store_n(queue.ktail, first, __ATOMIC_RELEASE);
  queue.sqe_head = queue.sqe_tail = first;
}

void UringChannel::native_cancel(Io& command) noexcept {
  if (io_uring_sq_space_left(ring_->get()) <= depth_) return;
  io_uring_sqe* sqe = io_uring_get_sqe(ring_->get());
  command.channel_word |= kCanceled;
  io_uring_prep_cancel(sqe, &command, 0);
  io_uring_sqe_set_data(sqe, nullptr);
}

void UringChannel::region_added(const MemoryRegion& region) {
  if (!device_.take_pinned(region.bytes)) {
    device_.note_unregistered_region(ENOMEM, region.bytes);
    return;
  }
  iovec buffer{region.base, region.bytes};
  __u64 tag = 0;
  const int result =
      io_uring_register_buffers_update_tag(ring_->get(), region.index, &buffer, &tag, 1);
  if (result == 1) {
    registered_[region.index].store(true, std::memory_order_relaxed);
  } else {
    device_.give_pinned(region.bytes);
    device_.note_unregistered_region(result < 0 ? -result : EINVAL, region.bytes);
  }
}

void UringChannel::region_removed(const MemoryRegion& region) {
  if (!registered_[region.index].exchange(false, std::memory_order_relaxed)) return;
  iovec none{nullptr, 0};
  __u64 tag = 0;
  io_uring_register_buffers_update_tag(ring_->get(), region.index, &none, &tag, 1);
  device_.give_pinned(region.bytes);
}

}  // namespace basalt
