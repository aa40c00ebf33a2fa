// See nvme_device.h.
#include "bdev/nvme/nvme_device.h"

#include <algorithm>
#include <bit>

#include "base/try.h"
#include "bdev/nvme/nvme_channel.h"
#include "nvme/commands.h"
#include "nvme/describe_io.h"

namespace basalt {

namespace {

// Blocks that power loss does not tear when they are written at a multiple of their number.
uint32_t atomic_blocks(const nvme::NamespaceInfo& space) {
  uint32_t blocks = space.atomic_write_blocks;
  if (space.atomic_boundary_blocks != 0) blocks = std::min(blocks, space.atomic_boundary_blocks);
  return std::bit_floor(std::max(blocks, 1u));
}

// Whether the controller has a volatile write cache, and it is on.
Result<bool> has_write_cache(nvme::Controller& controller) {
  if ((controller.identity().volatile_write_cache & 1) == 0) return false;
  uint32_t enabled = 0;
  BASALT_TRY(controller.run_admin(nvme::get_feature_command(nvme::Feature::volatile_write_cache),
                                  {}, {}, {}, &enabled));
  return (enabled & 1) != 0;
}

}  // namespace

Result<std::unique_ptr<Device>> NvmeDevice::create(Context& context, std::string uri,
                                                   SharedControllers::Lease lease, uint32_t nsid,
                                                   OpenMode mode) {
  nvme::Controller& controller = lease.controller();
  const auto spaces = controller.namespaces();
  const auto found = std::find_if(spaces.begin(), spaces.end(),
                                  [&](const auto& space) { return space.nsid == nsid; });
  if (found == spaces.end()) {
    std::string there;
    for (const auto& space : spaces) {
      there += (there.empty() ? "" : ", ") + std::to_string(space.nsid);
    }
    return error(StatusCode::not_found, uri + ": no namespace " + std::to_string(nsid) +
                                            "; there are: " + (there.empty() ? "none" : there));
  }
  if (found->command_set != nvme::CommandSet::nvm) {
    return error(StatusCode::unsupported,
                 uri + ": namespace " + std::to_string(nsid) +
                     (found->command_set == nvme::CommandSet::zoned
                          ? " is zoned: its blocks cannot be written in any order"
                          : " has a command set without blocks"));
  }
  if (found->metadata_bytes != 0) {
    return error(StatusCode::unsupported, uri + ": namespace " + std::to_string(nsid) + " has " +
                                              std::to_string(found->metadata_bytes) +
                                              " B of metadata per block; format it without");
  }
  BASALT_TRY_ASSIGN(const bool write_cache, has_write_cache(controller));
  const uint16_t commands = controller.identity().optional_commands;
  DeviceInfo info;
  info.uri = std::move(uri);
  info.block_size = found->block_bytes;
  info.block_count = BlockCount{found->block_count};
  info.read_only = mode == OpenMode::read_only;
  info.volatile_write_cache = write_cache;
  info.atomic_write_blocks = atomic_blocks(*found);
  info.max_transfer_blocks =
      static_cast<uint32_t>(controller.max_transfer_bytes() / found->block_bytes);
  const nvme::TransportTraits traits = controller.traits();
  info.max_iovecs = traits.max_pieces;
  info.memory_alignment = traits.registered_memory ? 4 : 1;
  info.needs_registered_memory = traits.registered_memory;
  info.optimal_io_blocks = found->optimal_io_blocks;
  info.native = {Op::read, Op::write, Op::flush};
  if ((commands & nvme::kSupportsWriteZeroes) != 0)
    info.native = info.native | OpSet{Op::write_zeroes};
  if ((commands & nvme::kSupportsDatasetManagement) != 0)
    info.native = info.native | OpSet{Op::discard};
  if ((commands & nvme::kSupportsCompare) != 0) info.native = info.native | OpSet{Op::compare};
  // Its time, an abort, and a reset that takes every attempt.
  info.completion_bound = std::chrono::minutes(3);
  if (traits.reconnects) info.completion_bound += controller.options().reconnect_timeout;
  NativeLimits limits = NativeLimits::from(info);
  limits.fua = true;
  limits.max_write_zeroes_blocks = nvme::kMaxBlocksPerCommand;
  limits.max_discard_blocks = UINT32_MAX;
  return std::unique_ptr<Device>(
      new NvmeDevice(context, std::move(info), limits, std::move(lease), nsid));
}

void NvmeDevice::report_failure(const nvme::Request& request) noexcept {
  constexpr Duration kInterval = std::chrono::seconds(1);
  const Duration now = context().clock().now();
  int64_t due = next_report_.load(std::memory_order_relaxed);
  if (now.count() < due || !next_report_.compare_exchange_strong(due, (now + kInterval).count())) {
    unreported_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  std::string line = info().uri + ": " + nvme::describe_io(request);
  if (const uint64_t others = unreported_.exchange(0); others > 0) {
    line += " (and " + std::to_string(others) + " others not said)";
  }
  context().log().log(LogLevel::error, "nvme", line);
}

Result<std::unique_ptr<ChannelCore>> NvmeDevice::make_channel() {
  BASALT_TRY_ASSIGN(std::unique_ptr<nvme::QueuePair> pair, lease_.controller().open_queue_pair());
  BASALT_TRY_ASSIGN(std::unique_ptr<Arena> ranges,
                    Arena::create({.name = "basalt-nvme-ranges",
                                   .bytes = pair->depth() * NvmeChannel::kRangeBytes,
                                   .hugepages = false,
                                   .map = &context().memory()}));
  return std::make_unique<NvmeChannel>(*this, std::move(pair), std::move(ranges));
}

}  // namespace basalt
