// What a controller says of itself and of its namespaces.
//
// NVM Express base specification 2.0, §5.17; NVM command set specification 1.0, §4.1.5.
#include <algorithm>
#include <bit>
#include <cstring>

#include "targets/nvmf/controller.h"
#include "targets/nvmf/io_command.h"
#include "targets/nvmf/queue.h"
#include "targets/nvmf/target.h"
#include "wire/nvme/asymmetric_access.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

using nvme::CompletionStatus;
using nvme::IdentifyKind;

namespace {

constexpr uint8_t kIoController = 1, kDiscoveryController = 2;

void set_text(std::span<char> field, std::string_view text, char pad) {
  std::fill(field.begin(), field.end(), pad);
  std::copy_n(text.begin(), std::min(text.size(), field.size()), field.begin());
}

// The first `bytes` bytes; the rest of the host's buffer is zero already.
void answer(Request& request, const void* data, size_t bytes) {
  std::memcpy(request.data.data(), data, std::min(bytes, request.data.size()));
}

}  // namespace

CompletionStatus Controller::identify(Request& request) {
  if (request.data.size() != nvme::kIdentifyBytes) return nvme::kDataLengthInvalid;
  std::fill(request.data.begin(), request.data.end(), std::byte{});
  const auto kind = static_cast<IdentifyKind>(request.command.cdw10 & 0xff);
  if (kind == IdentifyKind::controller) return identify_controller(request);
  if (subsystem_->is_discovery()) return nvme::kInvalidField;
  const auto command_set = static_cast<uint8_t>(request.command.cdw11 >> 24);
  switch (kind) {
    case IdentifyKind::name_space: return identify_namespace(request);
    case IdentifyKind::active_namespaces: return list_namespaces(request);
    case IdentifyKind::namespace_descriptors: return describe_namespace(request);
    // Of the NVM command set: all zero, limits that are not there.
    case IdentifyKind::command_set_namespace:
      if (command_set != 0) return nvme::kInvalidField;
      return find_namespace(*namespaces(), request.command.nsid) == nullptr
                 ? nvme::kInvalidNamespace
                 : CompletionStatus{};
    case IdentifyKind::command_set_controller:
      return command_set != 0 ? nvme::kInvalidField : CompletionStatus{};
    case IdentifyKind::command_set_active_namespaces:
      return command_set != 0 ? nvme::kInvalidField : list_namespaces(request);
    default: return nvme::kInvalidField;
  }
}

CompletionStatus Controller::identify_controller(Request& request) {
  nvme::IdentifyController data{};
  const bool discovery = subsystem_->is_discovery();
  const SubsystemOptions& options = subsystem_->options();
  set_text(data.serial, options.serial, ' ');
  set_text(data.model, options.model, ' ');
  set_text(data.firmware, BASALT_VERSION, ' ');
  data.max_transfer_shift = static_cast<uint8_t>(std::countr_zero(Queue::max_data() / 4096));
  data.controller_id = id_;
  data.version = kVersion;
  data.controller_type = discovery ? kDiscoveryController : kIoController;
  data.controller_attributes = nvme::kTrafficKeepsAlive | 1;  // host ids of 128 bits
  data.optional_async_events = discovery ? nvme::kReportDiscovery : nvme::kReportNamespaces;
  data.abort_limit = 3;
  data.async_event_limit = kMaxAsyncEvents - 1;
  data.log_page_attributes = 1 << 2 | 1 << 1;  // offsets and long lengths; commands and effects
  data.keep_alive_granularity = 1;
  data.max_outstanding_commands = kMaxQueueEntries;
  data.sgl_support = 1 | 1 << 20;  // any length; an offset into the capsule
  data.io_capsule_units = static_cast<uint32_t>(
      (sizeof(nvme::Command) + (discovery ? 0 : target_.options().io_capsule_data)) / 16);
  data.io_response_units = sizeof(nvme::Completion) / 16;
  data.max_sgl_descriptors = 1;
  data.optional_fabrics_commands = 1;  // Disconnect
  set_text(std::span(data.subsystem_nqn).first(255), subsystem_->nqn(), '\0');
  if (!discovery) {
    const auto table = namespaces();
    const OpSet common = common_operations(*table);
    data.multipath = 1 << 1;  // several controllers
    if (options.reports_access) {
      data.multipath |= nvme::kReportsAccess;
      data.optional_async_events = nvme::kReportNamespaces | nvme::kReportAsymmetricAccess;
      data.access_transition_time = 10;
      data.access_capabilities = 0x1f | 1 << 6;  // every state; a namespace stays in its group
      data.max_access_group = data.access_groups = kAccessGroup;
    }
    data.submission_entry_size = 6 << 4 | 6;
    data.completion_entry_size = 4 << 4 | 4;
    data.namespace_count = options.max_namespaces;
    data.max_allowed_namespaces = options.max_namespaces;
    data.optional_commands =
        static_cast<uint16_t>(nvme::kSupportsVerify | nvme::kSupportsReservations |
                              (common.has(Op::compare) ? nvme::kSupportsCompare : 0) |
                              (common.has(Op::discard) ? nvme::kSupportsDatasetManagement : 0) |
                              (common.has(Op::write_zeroes) ? nvme::kSupportsWriteZeroes : 0) |
                              (common.has(Op::copy) ? nvme::kSupportsCopy : 0));
    data.fused_operations = common.has(Op::compare_and_write) ? nvme::kFusesCompareAndWrite : 0;
    data.copy_formats = common.has(Op::copy) ? 1 : 0;
    // A flush of all namespaces is not taken.
    data.volatile_write_cache = static_cast<uint8_t>((has_volatile_cache(*table) ? 1 : 0) | 2 << 1);
    data.atomic_write_unit = data.atomic_write_unit_power_fail =
        static_cast<uint16_t>(common_atomic_blocks(*table) - 1);
  }
  answer(request, &data, sizeof data);
  return {};
}

CompletionStatus Controller::identify_namespace(Request& request) {
  const auto table = namespaces();
  const uint32_t nsid = request.command.nsid;
  if (nsid == 0 || nsid > subsystem_->options().max_namespaces) return nvme::kInvalidNamespace;
  const Namespace* space = find_namespace(*table, nsid);
  if (space == nullptr) return {};  // inactive: all zero
  const DeviceInfo& info = space->device->info();
  nvme::IdentifyNamespace data{};
  data.size = data.capacity = data.utilization = info.block_count.value;
  data.formats[0].data_shift = static_cast<uint8_t>(std::countr_zero(info.block_size));
  data.multipath = nvme::kSharedNamespace;
  if (subsystem_->options().reports_access) data.access_group = kAccessGroup;
  data.reservations = 0xfe;  // every type, and keys as in 1.3 and later
  if (space->reservations->can_persist()) data.reservations |= 1;
  data.features = nvme::kNamespaceAtomicity;
  if (info.read_only) data.attributes = nvme::kNamespaceWriteProtected;
  // Every block written is as whole after power loss as the device says; while power stays, no less.
  data.atomic_write_unit = data.atomic_write_unit_power_fail =
      static_cast<uint16_t>(std::min<uint32_t>(info.atomic_write_blocks, 1u << 16) - 1);
  uint32_t compared = std::min<uint32_t>(Queue::max_data() / info.block_size, 1u << 16);
  if (info.max_compare_and_write_blocks != 0) {
    compared = std::min(compared, info.max_compare_and_write_blocks);
  }
  data.atomic_compare_and_write_unit = static_cast<uint16_t>(compared - 1);
  data.copy_range_blocks = static_cast<uint16_t>(std::min<uint32_t>(kMaxCopyBlocks, 0xffff));
  data.copy_blocks = kMaxCopyBlocks;
  data.copy_ranges = kMaxCopyRanges - 1;
  std::copy(space->ids.nguid.begin(), space->ids.nguid.end(), std::begin(data.nguid));
  std::copy(space->ids.eui64.begin(), space->ids.eui64.end(), std::begin(data.eui64));
  answer(request, &data, sizeof data);
  return {};
}

CompletionStatus Controller::list_namespaces(Request& request) {
  const uint32_t above = request.command.nsid;
  if (above >= 0xffff'fffe) return nvme::kInvalidNamespace;
  const auto table = namespaces();
  std::array<le32, nvme::kIdentifyBytes / 4> ids{};
  size_t count = 0;
  for (uint32_t nsid = above + 1; nsid <= table->size() && count < ids.size(); ++nsid) {
    if ((*table)[nsid - 1] != nullptr) ids[count++] = nsid;
  }
  answer(request, ids.data(), sizeof ids);
  return {};
}

CompletionStatus Controller::describe_namespace(Request& request) {
  const auto table = namespaces();
  const Namespace* space = find_namespace(*table, request.command.nsid);
  if (space == nullptr) return nvme::kInvalidNamespace;
  std::byte* at = request.data.data();
  const auto add = [&](nvme::NamespaceIdType type, std::span<const uint8_t> id) {
    const bool is_set = std::any_of(id.begin(), id.end(), [](uint8_t byte) { return byte != 0; });
    if (!is_set) return;
    const nvme::NamespaceDescriptor head{
        static_cast<uint8_t>(type), static_cast<uint8_t>(id.size()), {}};
    std::memcpy(at, &head, sizeof head);
    std::memcpy(at + sizeof head, id.data(), id.size());
    at += sizeof head + id.size();
  };
  add(nvme::NamespaceIdType::eui64, space->ids.eui64);
  add(nvme::NamespaceIdType::nguid, space->ids.nguid);
  add(nvme::NamespaceIdType::uuid, space->ids.uuid);
  return {};
}

}  // namespace basalt::nvmf
