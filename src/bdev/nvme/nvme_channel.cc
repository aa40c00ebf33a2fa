// See nvme_channel.h. NVM command set specification 1.0, §3.
#include "bdev/nvme/nvme_channel.h"

#include <cstring>

#include "nvme/commands.h"
#include "wire/nvme/block_ranges.h"

namespace basalt {

static_assert(sizeof(nvme::DatasetRange) == kDiscardRangeBytes);

template <class Queue>
NvmeChannel<Queue>::NvmeChannel(NvmeDevice& device, std::unique_ptr<Queue> queue,
                                std::unique_ptr<Arena> ranges)
    : NativeChannel<NvmeChannel>(device),
      device_(device),
      nsid_(device.nsid()),
      protection_(device.protection()),
      ranges_(std::move(ranges)),
      queue_(std::move(queue)),
      slots_(queue_->depth()) {
  std::byte* range = ranges_->memory().data();
  for (Slot& slot : slots_) {
    slot.range = {range, kDiscardRangeBytes};
    slot.channel = this;
    slot.request.user = &slot;
    slot.request.done = &NvmeChannel::done;
    slot.fused.user = &slot;
    slot.fused.done = &NvmeChannel::done;
    slot.next = std::exchange(free_, &slot);
    range += kDiscardRangeBytes;
  }
}

template <class Queue>
NvmeChannel<Queue>::~NvmeChannel() = default;

template <class Queue>
bool NvmeChannel<Queue>::start(Io& command) noexcept {
  Slot* slot = free_;
  if (slot == nullptr) return false;
  free_ = slot->next;
  slot->io = &command;
  if (command.op == Op::compare_and_write) {
    submit_fused(command, *slot);
    return true;
  }
  slot->left = 1;
  slot->request.data = {};
  slot->request.command = translate(command, *slot);
  queue_->submit(slot->request);
  return true;
}

// The core hands on what is one piece, or pieces of which none has both what is expected and what is new.
template <class Queue>
void NvmeChannel<Queue>::submit_fused(const Io& io, Slot& slot) noexcept {
  const size_t half = io.block_count.value << this->block_shift();
  if (io.data.size() == 1) {
    auto* const bytes = static_cast<std::byte*>(io.data[0].iov_base);
    slot.halves = {iovec{bytes, half}, iovec{bytes + half, half}};
    slot.request.data = std::span(slot.halves).first(1);
    slot.fused.data = std::span(slot.halves).last(1);
  } else {
    size_t expected = 0, bytes = 0;
    while (bytes < half) bytes += io.data[expected++].iov_len;
    slot.request.data = io.data.first(expected);
    slot.fused.data = io.data.subspan(expected);
  }
  const uint64_t lba = io.lba.value;
  const auto count = static_cast<uint32_t>(io.block_count.value);
  slot.request.command = nvme::compare_command(nsid_, lba, count);
  slot.fused.command =
      nvme::write_command(nsid_, lba, count, io.flags.fua ? nvme::kForceUnitAccess : 0);
  nvme::fuse(slot.request.command, slot.fused.command);
  slot.left = 2;
  queue_->submit(slot.request);
  queue_->submit(slot.fused);
}

template <class Queue>
nvme::Command NvmeChannel<Queue>::translate(const Io& io, Slot& slot) const noexcept {
  const uint64_t lba = io.lba.value;
  const auto count = static_cast<uint32_t>(io.block_count.value);
  switch (io.op) {
    case Op::read:
      slot.request.data = io.data;
      return protect(nvme::read_command(nsid_, lba, count));
    case Op::compare: slot.request.data = io.data; return nvme::compare_command(nsid_, lba, count);
    case Op::write:
      slot.request.data = io.data;
      return protect(
          nvme::write_command(nsid_, lba, count, io.flags.fua ? nvme::kForceUnitAccess : 0));
    case Op::write_zeroes:
      return protect(nvme::write_zeroes_command(nsid_, lba, count,
                                                io.flags.no_deallocate ? 0 : nvme::kDeallocate));
    case Op::discard: {
      const nvme::DatasetRange range{.attributes = 0, .block_count = count, .first_block = lba};
      std::memcpy(slot.range.iov_base, &range, sizeof range);
      slot.request.data = {&slot.range, 1};
      return nvme::deallocate_command(nsid_);
    }
    default: return nvme::flush_command(nsid_);
  }
}

template <class Queue>
nvme::Command NvmeChannel<Queue>::protect(nvme::Command command) const noexcept {
  if (protection_ != 0) nvme::protect_by_controller(command, protection_);
  return command;
}

template <class Queue>
void NvmeChannel<Queue>::done(nvme::Request& request) noexcept {
  auto& slot = *static_cast<Slot*>(request.user);
  NvmeChannel& channel = *slot.channel;
  Io& io = *slot.io;
  // That a fused write was not done is no news: its compare says why.
  const bool not_done = &request == &slot.fused && request.status == StatusCode::canceled;
  if (request.status != StatusCode::ok && request.status != StatusCode::miscompare && !not_done) {
    channel.device_.report_failure(request);
  }
  if (--slot.left > 0) return;
  StatusCode status = slot.request.status;
  // Nor is that a compare was not done: its write says why.
  const bool write_tells = status == StatusCode::ok || status == StatusCode::canceled;
  if (io.op == Op::compare_and_write && write_tells) status = slot.fused.status;
  slot.next = std::exchange(channel.free_, &slot);
  channel.complete(io, status);
}

template <class Queue>
bool NvmeChannel<Queue>::sleep(Duration timeout, unsigned) noexcept {
  queue_->sleep(timeout);
  return true;
}

template class NvmeChannel<nvme::QueuePair>;
template class NvmeChannel<nvme::MultipathQueue>;

}  // namespace basalt
