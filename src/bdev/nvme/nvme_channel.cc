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
  slot->request.data = {};
  slot->request.command = translate(command, *slot);
  queue_->submit(slot->request);
  return true;
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
  if (request.status != StatusCode::ok && request.status != StatusCode::miscompare) {
    channel.device_.report_failure(request);
  }
  slot.next = std::exchange(channel.free_, &slot);
  channel.complete(io, request.status);
}

template <class Queue>
bool NvmeChannel<Queue>::sleep(Duration timeout, unsigned) noexcept {
  queue_->sleep(timeout);
  return true;
}

template class NvmeChannel<nvme::QueuePair>;
template class NvmeChannel<nvme::MultipathQueue>;

}  // namespace basalt
