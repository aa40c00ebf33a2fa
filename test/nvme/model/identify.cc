// What a ControllerModel says of itself and of its namespaces.
//
// NVMe base 2.0 §5.17; NVM command set 1.0 §4.1.5. Namespaces have two formats: 512 and 4096 bytes, no
// metadata.
#include <algorithm>
#include <cstring>
#include <string>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

constexpr uint8_t kLargeBlockFormat = 1;    // of 4096-byte blocks
constexpr uint64_t kCommandSetNvmOnly = 1;  // a combination of command sets: bit 0 is NVM

using Page = std::array<std::byte, kIdentifyBytes>;

template <size_t N>
void set_text(char (&field)[N], const std::string& text, char padding) {
  std::memset(field, padding, N);
  std::memcpy(field, text.data(), std::min(N, text.size()));
}

uint16_t minus_one(uint32_t count) {
  return static_cast<uint16_t>(std::min<uint32_t>(count, 65536) - 1);
}

// Names a namespace by what distinguishes it: the controller's serial and the nsid.
void set_guid(uint8_t (&guid)[16], const std::string& serial, uint32_t nsid) {
  std::memset(guid, 0xba, sizeof guid);
  std::memcpy(guid, serial.data(), std::min<size_t>(serial.size(), 11));
  const be32 number(nsid);
  std::memcpy(guid + 12, &number, sizeof number);
}

}  // namespace

Outcome ControllerModel::identify(const Command& command) {
  const auto kind = static_cast<uint8_t>(command.cdw10 & 0xff);
  const uint32_t nsid = command.nsid;
  const bool valid = nsid >= 1 && nsid <= media_.size();
  const bool active = valid && media_[nsid - 1]->options().active;
  const bool nvm = (command.cdw11 >> 24) == 0;  // the command set asked about
  Page page{};
  const auto put = [&page](const auto& data) { std::memcpy(page.data(), &data, sizeof data); };

  switch (static_cast<IdentifyKind>(kind)) {
    case IdentifyKind::name_space: {
      if (!valid) return {.status = kInvalidNamespace};
      IdentifyNamespace data{};
      if (active) fill(data, nsid);
      put(data);
      break;
    }
    case IdentifyKind::controller: {
      IdentifyController data{};
      fill(data);
      put(data);
      break;
    }
    case IdentifyKind::command_set_active_namespaces:
      if (!nvm) return {.status = kInvalidField};
      [[fallthrough]];
    case IdentifyKind::active_namespaces:
      if (nsid >= kAllNamespaces - 1) return {.status = kInvalidNamespace};
      fill_active(page, nsid);
      break;
    case IdentifyKind::namespace_descriptors:
      if (!valid) return {.status = kInvalidNamespace};
      if (!active) return {.status = kInvalidField};
      fill_descriptors(page, nsid);
      break;
    case IdentifyKind::command_set_namespace:
      if (!valid) return {.status = kInvalidNamespace};
      [[fallthrough]];
    case IdentifyKind::command_set_controller:
      if (!nvm) return {.status = kInvalidField};
      break;  // all limits zero: none beyond those of Identify Controller
    case IdentifyKind::command_sets: put(le64(kCommandSetNvmOnly)); break;
    default: return {.status = kInvalidField};
  }
  damage(Faults::Occasion::identify, kind, page);
  return {.status = send(command, page)};
}

void ControllerModel::fill(IdentifyController& data) const {
  set_text(data.serial, options_.serial, ' ');
  set_text(data.model, options_.model, ' ');
  set_text(data.firmware, options_.firmware, ' ');
  data.arbitration_burst = 3;
  data.max_transfer_shift = options_.max_transfer_shift;
  data.controller_id = 1;
  data.version = 2 << 16;
  data.optional_async_events = kReportNamespaces;
  data.controller_type = 1;  // I/O
  for (size_t i = 0; i < options_.retry_delay.size(); ++i) {
    data.retry_delay[i] = options_.retry_delay[i];
  }
  data.optional_admin_commands = static_cast<uint16_t>(
      (options_.format ? kSupportsFormat : 0) |
      (options_.shadow_doorbells != ShadowDoorbells::absent ? kSupportsDoorbellBuffer : 0));
  data.abort_limit = static_cast<uint8_t>(options_.abort_limit - 1);
  data.async_event_limit = static_cast<uint8_t>(options_.async_event_limit - 1);
  data.firmware_updates = 1 << 1 | 1;          // one slot, read only
  data.log_page_attributes = 1 << 1 | 1 << 2;  // commands supported; offsets
  data.error_log_entries = kErrorEntries - 1;
  data.warning_temperature = 343;
  data.critical_temperature = 353;
  data.keep_alive_granularity = 10;
  data.submission_entry_size = 0x66;
  data.completion_entry_size = 0x44;
  data.namespace_count = static_cast<uint32_t>(media_.size());
  data.optional_commands = options_.optional_commands;
  data.fused_operations = options_.fused_compare_and_write ? 1 : 0;
  data.volatile_write_cache = static_cast<uint8_t>(3 << 1 | (options_.volatile_cache ? 1 : 0));
  data.atomic_write_unit = minus_one(options_.atomic_write_blocks);
  data.atomic_write_unit_power_fail = minus_one(options_.atomic_write_blocks);
  data.atomic_compare_and_write_unit = minus_one(options_.atomic_write_blocks);
  data.copy_formats = 1;
  data.sgl_support = options_.sgl ? 1u | 1u << 16 : 0;
  set_text(data.subsystem_nqn, options_.subsystem_nqn, '\0');
  const le16 max_power(2500);  // centiwatts
  std::memcpy(data.power_state_descriptors, &max_power, sizeof max_power);
}

void ControllerModel::fill(IdentifyNamespace& data, uint32_t nsid) const {
  const Media& media = *media_[nsid - 1];
  const NamespaceOptions& options = media.options();
  data.size = media.block_count();
  data.capacity = media.block_count();
  data.utilization = media.block_count();
  data.format_count = 1;  // two
  data.format = media.block_size() == 4096 ? kLargeBlockFormat : 0;
  data.deallocation = 1 | 1 << 3;  // reads as zeros; write zeroes may deallocate
  if (options.atomic_write_blocks != 0) {
    data.features = kNamespaceAtomicity;
    data.atomic_write_unit = minus_one(options.atomic_write_blocks);
    data.atomic_write_unit_power_fail = minus_one(options.atomic_write_blocks);
    data.atomic_compare_and_write_unit = minus_one(options.atomic_write_blocks);
  }
  if (options.atomic_boundary_blocks != 0) {
    data.features |= kNamespaceAtomicity;
    data.atomic_boundary_size = minus_one(options.atomic_boundary_blocks);
    data.atomic_boundary_power_fail = minus_one(options.atomic_boundary_blocks);
  }
  data.optimal_io_boundary = options.optimal_io_boundary;
  data.copy_range_blocks = options_.copy_range_blocks;
  data.copy_blocks = options_.copy_blocks;
  data.copy_ranges = static_cast<uint8_t>(options_.copy_ranges - 1);
  set_guid(data.nguid, options_.serial, nsid);
  data.formats[0].data_shift = 9;
  data.formats[0].relative_performance = 1;
  data.formats[1].data_shift = 12;
  if (options.protection_type != 0) {
    data.protection = options.protection_type;
    data.protection_capabilities = 0x7;
    for (auto* format : {&data.formats[0], &data.formats[1]}) format->metadata_bytes = 8;
  }
}

void ControllerModel::fill_active(std::span<std::byte> page, uint32_t after) const {
  for (uint32_t nsid = after + 1; nsid <= media_.size() && !page.empty(); ++nsid) {
    if (!media_[nsid - 1]->options().active) continue;
    const le32 id(nsid);
    std::memcpy(page.data(), &id, sizeof id);
    page = page.subspan(sizeof id);
  }
}

void ControllerModel::fill_descriptors(std::span<std::byte> page, uint32_t nsid) const {
  IdentifyNamespace data{};
  set_guid(data.nguid, options_.serial, nsid);
  const NamespaceDescriptor guid{static_cast<uint8_t>(NamespaceIdType::nguid), 16, {}};
  const NamespaceDescriptor set{static_cast<uint8_t>(NamespaceIdType::command_set), 1, {}};
  std::memcpy(page.data(), &guid, sizeof guid);
  std::memcpy(page.data() + sizeof guid, data.nguid, sizeof data.nguid);
  std::memcpy(page.data() + sizeof guid + sizeof data.nguid, &set, sizeof set);  // then 0: NVM
}

}  // namespace basalt::nvme::model
