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

// Blocks that power loss does not tear when they are written at a multiple of their number, by one command.
uint32_t atomic_blocks(const nvme::NamespaceInfo& space, uint32_t max_transfer_blocks) {
  uint32_t blocks = std::min(space.atomic_write_blocks, max_transfer_blocks);
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

// The namespace as this device's blocks can be. Errors: not_found, unsupported.
Result<nvme::NamespaceInfo> find_namespace(nvme::Controller& controller, const std::string& uri,
                                           uint32_t nsid) {
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
  if (found->metadata_bytes != 0 && !found->only_protection()) {
    return error(StatusCode::unsupported,
                 uri + ": namespace " + std::to_string(nsid) + " has " +
                     std::to_string(found->metadata_bytes) +
                     " B of metadata per block; format it without, or with 8 B of protection "
                     "information");
  }
  return *found;
}

// What the namespace is through this one controller, which may be the only one.
Result<DeviceInfo> describe(nvme::Controller& controller, const nvme::NamespaceInfo& space,
                            bool alone) {
  BASALT_TRY_ASSIGN(const bool write_cache, has_write_cache(controller));
  const uint16_t commands = controller.identity().optional_commands;
  DeviceInfo info;
  info.block_size = space.block_bytes;
  info.block_count = BlockCount{space.block_count};
  info.volatile_write_cache = write_cache;
  info.max_transfer_blocks =
      static_cast<uint32_t>(controller.max_transfer_bytes() / space.block_bytes);
  info.atomic_write_blocks = atomic_blocks(space, info.max_transfer_blocks);
  const nvme::TransportTraits traits = controller.traits();
  info.max_iovecs = traits.max_pieces;
  info.memory_alignment = traits.registered_memory ? 4 : 1;
  info.needs_registered_memory = traits.registered_memory;
  info.optimal_io_blocks = space.optimal_io_blocks;
  info.native = {Op::read, Op::write, Op::flush};
  if ((commands & nvme::kSupportsWriteZeroes) != 0)
    info.native = info.native | OpSet{Op::write_zeroes};
  if ((commands & nvme::kSupportsDatasetManagement) != 0)
    info.native = info.native | OpSet{Op::discard};
  // Protection information that the controller makes is nothing it compares with.
  if ((commands & nvme::kSupportsCompare) != 0 && !space.only_protection())
    info.native = info.native | OpSet{Op::compare};
  // Two commands that must follow each other: not over several paths, nor where there is room for one.
  if (info.native.has(Op::compare) && space.compare_and_write_blocks != 0 && alone &&
      controller.options().queue_depth > 1) {
    info.native = info.native | OpSet{Op::compare_and_write};
    info.max_compare_and_write_blocks =
        std::min(space.compare_and_write_blocks, info.max_transfer_blocks);
  }
  // Its time, an abort, and a reset that takes every attempt.
  info.completion_bound = std::chrono::minutes(3);
  if (traits.reconnects && controller.options().reconnect_timeout < kForGood) {
    info.completion_bound += controller.options().reconnect_timeout;
  }
  return info;
}

// Through either of two controllers: the stricter of each.
void restrict_to(DeviceInfo& info, const DeviceInfo& other) {
  // Zero is no limit.
  const auto least = [](uint32_t a, uint32_t b) {
    return a == 0 ? b : b == 0 ? a : std::min(a, b);
  };
  info.block_count = std::min(info.block_count, other.block_count);
  info.volatile_write_cache |= other.volatile_write_cache;
  info.atomic_write_blocks = std::min(info.atomic_write_blocks, other.atomic_write_blocks);
  info.max_transfer_blocks = least(info.max_transfer_blocks, other.max_transfer_blocks);
  info.max_iovecs = least(info.max_iovecs, other.max_iovecs);
  info.native = info.native & other.native;
  info.completion_bound = std::max(info.completion_bound, other.completion_bound);
}

bool has_identifier(const nvme::NamespaceInfo& space) {
  const auto any = [](const auto& id) {
    return std::any_of(id.begin(), id.end(), [](uint8_t byte) { return byte != 0; });
  };
  return any(space.nguid) || any(space.eui64) || any(space.uuid);
}

// Whether the paths lead to one namespace, which they must say themselves.
Status check_same(const std::string& uri, const nvme::NamespaceInfo& first,
                  const nvme::NamespaceInfo& other, const std::string& name) {
  if (!has_identifier(other)) {
    return {StatusCode::unsupported,
            uri + ": at " + name + " namespace " + std::to_string(other.nsid) +
                " has no identifier (NGUID, EUI-64 or UUID): whether all paths lead to the same "
                "one cannot be told"};
  }
  if (is_same_namespace(first, other) && is_same_namespace(other, first)) return {};
  return {StatusCode::invalid_argument, uri + ": at " + name + " namespace " +
                                            std::to_string(other.nsid) +
                                            " is another than over the first path"};
}

}  // namespace

Result<std::unique_ptr<Device>> NvmeDevice::create(Context& context, std::string uri,
                                                   std::vector<SharedControllers::Lease> leases,
                                                   uint32_t nsid, OpenMode mode,
                                                   std::optional<NvmePaths> paths) {
  BASALT_TRY_ASSIGN(const nvme::NamespaceInfo space,
                    find_namespace(leases[0].controller(), uri, nsid));
  const bool alone = !paths && leases.size() == 1;
  BASALT_TRY_ASSIGN(DeviceInfo info, describe(leases[0].controller(), space, alone));
  for (size_t i = 0; leases.size() > 1 && i < leases.size(); ++i) {
    nvme::Controller& controller = leases[i].controller();
    BASALT_TRY_ASSIGN(const nvme::NamespaceInfo other, find_namespace(controller, uri, nsid));
    BASALT_TRY(check_same(uri, space, other, controller.name()));
    BASALT_TRY_ASSIGN(const DeviceInfo through, describe(controller, other, alone));
    restrict_to(info, through);
  }
  if (paths) {
    // Each path may take its time before it gives a command to the next.
    info.completion_bound = info.completion_bound * leases.size() + paths->patience;
  }
  info.uri = std::move(uri);
  info.read_only = mode == OpenMode::read_only;
  NativeLimits limits = NativeLimits::from(info);
  limits.fua = true;
  limits.needs_hugepages = leases[0].controller().traits().needs_hugepages;
  limits.max_write_zeroes_blocks = nvme::kMaxBlocksPerCommand;
  limits.max_discard_blocks = UINT32_MAX;
  std::unique_ptr<NvmeDevice> device(
      new NvmeDevice(context, std::move(info), limits, std::move(leases), space, paths));
  for (const auto& lease : device->leases_) lease.controller().add_listener(*device);
  return device;
}

NvmeDevice::~NvmeDevice() {
  for (const auto& lease : leases_) lease.controller().remove_listener(*this);
}

// The namespace may have another size, or be there no more.
void NvmeDevice::controller_changed() {
  const MutexLock lock(changing_);
  bool there = false;
  BlockCount blocks{UINT64_MAX};
  for (const auto& lease : leases_) {
    const StatusCode gone = lease.controller().gone();
    if (gone == StatusCode::device_removed) continue;
    if (gone != StatusCode::ok) {
      there = true;  // who knows: its commands fail with another reason
      continue;
    }
    for (const nvme::NamespaceInfo& space : lease.controller().namespaces()) {
      if (space.nsid != space_.nsid || !has_same_identity(space_, space)) continue;
      there = true;
      blocks = std::min(blocks, BlockCount{space.block_count});
    }
  }
  if (!there) {
    if (!removed()) set_removed();
    return;
  }
  if (removed()) set_returned();
  if (blocks == BlockCount{UINT64_MAX} || blocks == info().block_count) return;
  DeviceInfo changed = info();
  changed.block_count = blocks;
  change_info(std::move(changed), DeviceEvent::resized);
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

template <class Queue>
Result<std::unique_ptr<ChannelCore>> NvmeDevice::make_channel_on(std::unique_ptr<Queue> queue) {
  BASALT_TRY_ASSIGN(
      std::unique_ptr<Arena> ranges,
      Arena::create({.name = "basalt-nvme-ranges",
                     .bytes = queue->depth() * kDiscardRangeBytes,
                     .hugepages = limits().needs_hugepages ? Hugepages::required : Hugepages::no,
                     .map = &context().memory()}));
  return std::make_unique<NvmeChannel<Queue>>(*this, std::move(queue), std::move(ranges));
}

Result<std::unique_ptr<ChannelCore>> NvmeDevice::make_channel() {
  if (!paths_) {
    BASALT_TRY_ASSIGN(auto pair, leases_[0].controller().open_queue_pair());
    return make_channel_on(std::move(pair));
  }
  std::vector<nvme::Controller*> controllers;
  for (const auto& lease : leases_) controllers.push_back(&lease.controller());
  BASALT_TRY_ASSIGN(
      auto queue, nvme::MultipathQueue::open(
                      controllers,
                      {.nsid = space_.nsid, .policy = paths_->policy, .patience = paths_->patience},
                      context().clock()));
  return make_channel_on(std::move(queue));
}

}  // namespace basalt
