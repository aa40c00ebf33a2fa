// See nvme_channel.h. NVM command set specification 1.0, §3.
#include "bdev/nvme/nvme_channel.h"

#include <cstring>

#include "nvme/commands.h"
#include "wire/nvme/block_ranges.h"

namespace basalt {

static_assert(sizeof(nvme::DatasetRange) == NvmeChannel::kRangeBytes);

NvmeChannel::NvmeChannel(NvmeDevice& device, std::unique_ptr<nvme::QueuePair> pair,
                         std::unique_ptr<Arena> ranges)
    : NativeChannel(device),
      device_(device),
      nsid_(device.nsid()),
      ranges_(std::move(ranges)),
      pair_(std::move(pair)),
      slots_(pair_->depth()) {
  std::byte* range = ranges_->memory().data();
  for (Slot& slot : slots_) {
    slot.range = {range, kRangeBytes};
    slot.channel = this;
    slot.request.user = &slot;
    slot.request.done = &NvmeChannel::done;
    slot.next = std::exchange(free_, &slot);
    range += kRangeBytes;
  }
}

NvmeChannel::~NvmeChannel() = default;

bool NvmeChannel::start(Io& command) noexcept {
  Slot* slot = free_;
  if (slot == nullptr) return false;
  free_ = slot->next;
  slot->io = &command;
  slot->request.data = {};
  slot->request.command = translate(command, *slot);
  pair_->submit(slot->request);
  return true;
}

nvme::Command NvmeChannel::translate(const Io& io, Slot& slot) const noexcept {
  const uint64_t lba = io.lba.value;
  const auto count = static_cast<uint32_t>(io.block_count.value);
  switch (io.op) {
    case Op::read: slot.request.data = io.data; return nvme::read_command(nsid_, lba, count);
    case Op::compare: slot.request.data = io.data; return nvme::compare_command(nsid_, lba, count);
    case Op::write:
      slot.request.data = io.data;
      return nvme::write_command(nsid_, lba, count, io.flags.fua ? nvme::kForceUnitAccess : 0);
    case Op::write_zeroes:
      return nvme::write_zeroes_command(nsid_, lba, count,
                                        io.flags.no_deallocate ? 0 : nvme::kDeallocate);
    case Op::discard: {
      const nvme::DatasetRange range{.attributes = 0, .block_count = count, .first_block = lba};
      std::memcpy(slot.range.iov_base, &range, sizeof range);
      slot.request.data = {&slot.range, 1};
      return nvme::deallocate_command(nsid_);
    }
    default: return nvme::flush_command(nsid_);
  }
}

void NvmeChannel::done(nvme::Request& request) noexcept {
  auto& slot = *static_cast<Slot*>(request.user);
  NvmeChannel& channel = *slot.channel;
  Io& io = *slot.io;
  if (request.status != StatusCode::ok && request.status != StatusCode::miscompare) {
    channel.device_.report_failure(request);
  }
  slot.next = std::exchange(channel.free_, &slot);
  channel.complete(io, request.status);
}

bool NvmeChannel::sleep(Duration timeout, unsigned) noexcept {
  pair_->sleep(timeout);
  return true;
}

}  // namespace basalt
