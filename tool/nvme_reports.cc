#include "tool/nvme_reports.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "tool/text.h"
#include "wire/nvme/status.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;

std::string hex(uint64_t value) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%llx", static_cast<unsigned long long>(value));
  return text.data();
}

NvmeField number(std::string name, uint64_t value) { return {std::move(name), value, {}}; }
NvmeField bits(std::string name, uint64_t value) { return {std::move(name), value, hex(value)}; }
NvmeField words(std::string name, std::string_view field) {
  return {std::move(name), nvme::printable_field(field), {}};
}
NvmeField bytes(std::string name, const uint8_t* data, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", data[i]);
    text += digits.data();
  }
  return {std::move(name), text, {}};
}
NvmeField kelvin(std::string name, uint16_t value) {
  if (value == 0) return {std::move(name), value, "not reported"};
  return {std::move(name), value,
          std::to_string(value - 273) + " °C (" + std::to_string(value) + " K)"};
}

// Thousands of 512 bytes.
NvmeField data_units(std::string name, const nvme::le128& value) {
  const uint64_t units = value.low;
  const bool fits = units < UINT64_MAX / 512'000;
  return {std::move(name), units,
          std::to_string(units) + (fits ? " (" + size_text(units * 512'000) + ")" : "")};
}

std::string version_text(uint32_t version) {
  return std::to_string(version >> 16) + "." + std::to_string(version >> 8 & 0xff) + "." +
         std::to_string(version & 0xff);
}

}  // namespace

NvmeFields controller_fields(const nvme::IdentifyController& data) {
  const uint32_t version = data.version;
  return {
      bits("vid", data.pci_vendor),
      bits("ssvid", data.pci_subsystem_vendor),
      words("sn", {data.serial, sizeof data.serial}),
      words("mn", {data.model, sizeof data.model}),
      words("fr", {data.firmware, sizeof data.firmware}),
      number("rab", data.arbitration_burst),
      number("mdts", data.max_transfer_shift),
      bits("cntlid", data.controller_id),
      {"ver", version, version_text(version)},
      bits("oaes", data.optional_async_events),
      bits("ctratt", data.controller_attributes),
      number("cntrltype", data.controller_type),
      number("crdt1", data.retry_delay[0]),
      number("crdt2", data.retry_delay[1]),
      number("crdt3", data.retry_delay[2]),
      bits("oacs", data.optional_admin_commands),
      number("acl", data.abort_limit),
      number("aerl", data.async_event_limit),
      bits("frmw", data.firmware_updates),
      bits("lpa", data.log_page_attributes),
      number("elpe", data.error_log_entries),
      number("npss", data.power_states),
      kelvin("wctemp", data.warning_temperature),
      kelvin("cctemp", data.critical_temperature),
      number("kas", data.keep_alive_granularity),
      bits("sqes", data.submission_entry_size),
      bits("cqes", data.completion_entry_size),
      number("nn", data.namespace_count),
      bits("oncs", data.optional_commands),
      bits("fuses", data.fused_operations),
      bits("fna", data.format_attributes),
      bits("vwc", data.volatile_write_cache),
      number("awun", data.atomic_write_unit),
      number("awupf", data.atomic_write_unit_power_fail),
      number("acwu", data.atomic_compare_and_write_unit),
      bits("sgls", data.sgl_support),
      words("subnqn", {data.subsystem_nqn, sizeof data.subsystem_nqn}),
  };
}

NvmeFields namespace_fields(const nvme::IdentifyNamespace& data) {
  NvmeFields fields = {
      number("nsze", data.size),
      number("ncap", data.capacity),
      number("nuse", data.utilization),
      bits("nsfeat", data.features),
      number("nlbaf", data.format_count),
      bits("flbas", data.format),
      bits("mc", data.metadata_capabilities),
      bits("dpc", data.protection_capabilities),
      bits("dps", data.protection),
      bits("nmic", data.multipath),
      bits("rescap", data.reservations),
      bits("dlfeat", data.deallocation),
      number("nawun", data.atomic_write_unit),
      number("nawupf", data.atomic_write_unit_power_fail),
      number("nabsn", data.atomic_boundary_size),
      number("nabo", data.atomic_boundary_offset),
      number("nabspf", data.atomic_boundary_power_fail),
      number("noiob", data.optimal_io_boundary),
      number("mssrl", data.copy_range_blocks),
      number("mcl", data.copy_blocks),
      number("msrc", data.copy_ranges),
      bytes("nguid", data.nguid, sizeof data.nguid),
      bytes("eui64", data.eui64, sizeof data.eui64),
  };
  Json formats = Json::array();
  std::string text;
  const unsigned count = std::min<unsigned>(data.format_count + 1u, 64);
  for (unsigned i = 0; i < count; ++i) {
    const nvme::LbaFormat& format = data.formats[i];
    const uint16_t metadata = format.metadata_bytes;
    formats.push_back(
        {{"ms", metadata}, {"ds", format.data_shift}, {"rp", format.relative_performance & 3}});
    text += "\n  " + std::to_string(i) + ": ms:" + std::to_string(metadata) +
            " lbads:" + std::to_string(format.data_shift) +
            " rp:" + std::to_string(format.relative_performance & 3) +
            (i == nvme::format_index(data) ? " (in use)" : "");
  }
  fields.push_back({"lbafs", formats, text});
  return fields;
}

NvmeFields health_fields(const nvme::HealthLog& log) {
  NvmeFields fields = {
      bits("critical_warning", log.critical_warning),
      kelvin("temperature", log.temperature),
      number("avail_spare", log.spare),
      number("spare_thresh", log.spare_threshold),
      number("percent_used", log.percentage_used),
      bits("endurance_grp_critical_warning_summary", log.endurance_groups),
      data_units("data_units_read", log.data_units_read),
      data_units("data_units_written", log.data_units_written),
      number("host_read_commands", log.host_reads.low),
      number("host_write_commands", log.host_writes.low),
      number("controller_busy_time", log.busy_minutes.low),
      number("power_cycles", log.power_cycles.low),
      number("power_on_hours", log.power_on_hours.low),
      number("unsafe_shutdowns", log.unsafe_shutdowns.low),
      number("media_errors", log.media_errors.low),
      number("num_err_log_entries", log.error_entries.low),
      number("warning_temp_time", log.warning_minutes),
      number("critical_comp_time", log.critical_minutes),
  };
  for (size_t i = 0; i < std::size(log.sensors); ++i) {
    const uint16_t sensor = log.sensors[i];
    if (sensor != 0)
      fields.push_back(kelvin("temperature_sensor_" + std::to_string(i + 1), sensor));
  }
  return fields;
}

NvmeFields error_fields(const nvme::ErrorLogEntry& entry) {
  const auto status = nvme::CompletionStatus(static_cast<uint16_t>(entry.status_and_phase >> 1));
  const uint64_t lba = entry.lba;
  const uint32_t nsid = entry.nsid;
  std::string text = nvme::describe(status);
  if (nsid != 0) text += " on namespace " + std::to_string(nsid);
  if (lba != UINT64_MAX) text += " LBA " + std::to_string(lba);
  return {
      number("error_count", entry.count),
      number("sqid", entry.sq_id),
      bits("cmdid", entry.cid),
      {"status_field", entry.status_and_phase >> 1, text},
      bits("parm_err_loc", entry.location),
      number("lba", lba),
      number("nsid", nsid),
      bits("vs", entry.vendor_page),
      bits("cs", entry.command_specific),
  };
}

NvmeFields firmware_fields(const nvme::FirmwareLog& log) {
  NvmeFields fields = {bits("afi", log.active)};
  for (size_t i = 0; i < std::size(log.revisions); ++i) {
    const std::string revision = nvme::printable_field({log.revisions[i], sizeof log.revisions[i]});
    if (!revision.empty()) fields.push_back({"frs" + std::to_string(i + 1), revision, {}});
  }
  return fields;
}

NvmeFields sanitize_fields(const nvme::SanitizeLog& log) {
  const char* state = "unrecognized";
  switch (static_cast<nvme::SanitizeStatus>(log.status & 7)) {
    case nvme::SanitizeStatus::never: state = "never sanitized"; break;
    case nvme::SanitizeStatus::done: state = "completed"; break;
    case nvme::SanitizeStatus::in_progress: state = "in progress"; break;
    case nvme::SanitizeStatus::failed: state = "failed"; break;
    case nvme::SanitizeStatus::done_not_deallocated:
      state = "completed, without deallocating";
      break;
  }
  const uint16_t progress = log.progress, status = log.status;
  return {
      {"sprog", progress, std::to_string(progress * 100 / 65536) + " %"},
      {"sstat", status, state},
      bits("scdw10", log.word10),
      number("time_overwrite", log.estimated_seconds[0]),
      number("time_block_erase", log.estimated_seconds[1]),
      number("time_crypto_erase", log.estimated_seconds[2]),
  };
}

const std::map<std::string, nvme::ReservationType>& reservation_types() {
  using nvme::ReservationType;
  static const std::map<std::string, ReservationType> types = {
      {"write-exclusive", ReservationType::write_exclusive},
      {"exclusive-access", ReservationType::exclusive_access},
      {"write-exclusive-registrants", ReservationType::write_exclusive_registrants_only},
      {"exclusive-access-registrants", ReservationType::exclusive_access_registrants_only},
      {"write-exclusive-all", ReservationType::write_exclusive_all_registrants},
      {"exclusive-access-all", ReservationType::exclusive_access_all_registrants}};
  return types;
}

NvmeFields reservation_fields(const nvme::ReservationReportHeader& header,
                              std::span<const std::byte> hosts, size_t count) {
  std::string type = header.type == 0 ? "none" : "unrecognized";
  for (const auto& [name, value] : reservation_types()) {
    if (static_cast<uint8_t>(value) == header.type) type = name;
  }
  NvmeFields fields = {number("gen", header.generation),
                       {"rtype", header.type, type},
                       number("regctl", header.registered),
                       number("ptpls", header.persist_through_power_loss)};
  Json all = Json::array();
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    nvme::RegisteredHost host;
    std::memcpy(static_cast<void*>(&host), hosts.data() + i * sizeof host, sizeof host);
    const uint16_t controller = host.controller_id;
    const uint64_t key = host.key;
    const std::string id = bytes({}, host.host_id, sizeof host.host_id).value.get<std::string>();
    all.push_back(
        {{"cntlid", controller}, {"rcsts", host.holder & 1}, {"rkey", key}, {"hostid", id}});
    text += "\n  host " + id + ", controller " + hex(controller) + ", key " + hex(key) +
            ((host.holder & 1) != 0 ? ", holds the reservation" : "");
  }
  fields.push_back({"regctlext", all, text.empty() ? "none" : text});
  return fields;
}

const char* access_state_name(nvme::AccessState state) {
  switch (state) {
    case nvme::AccessState::optimized: return "optimized";
    case nvme::AccessState::non_optimized: return "non-optimized";
    case nvme::AccessState::inaccessible: return "inaccessible";
    case nvme::AccessState::persistent_loss: return "persistent-loss";
    case nvme::AccessState::change: return "change";
  }
  return "unrecognized";
}

std::string as_text(const NvmeFields& fields) {
  size_t width = 0;
  for (const NvmeField& field : fields) width = std::max(width, field.name.size());
  std::string lines;
  for (const NvmeField& field : fields) {
    const std::string value = !field.text.empty()       ? field.text
                              : field.value.is_string() ? field.value.get<std::string>()
                                                        : field.value.dump();
    lines += field.name + std::string(width - field.name.size(), ' ') + " : " + value + "\n";
  }
  return lines;
}

Json as_json(const NvmeFields& fields) {
  Json object = Json::object();
  for (const NvmeField& field : fields) object[field.name] = field.value;
  return object;
}

Json device_json(const nvme::PciDevice& device) {
  Json blocks = Json::array();
  for (const auto& block : device.block_devices) {
    blocks.push_back({{"name", block.name}, {"users", block.users}});
  }
  Json json = {{"address", device.address}, {"vid", device.vendor_id},
               {"did", device.device_id},   {"driver", device.driver},
               {"iommu_group", nullptr},    {"numa_node", device.numa_node},
               {"block_devices", blocks}};
  if (device.iommu_group) json["iommu_group"] = *device.iommu_group;
  return json;
}

std::string device_text(const nvme::PciDevice& device) {
  std::array<char, 16> ids{};
  std::snprintf(ids.data(), ids.size(), "%04x:%04x", device.vendor_id, device.device_id);
  std::string line = device.address + "  " + ids.data() + "  " +
                     (device.driver.empty() ? "no driver" : device.driver) + ", " +
                     (device.iommu_group ? "IOMMU group " + std::to_string(*device.iommu_group)
                                         : "no IOMMU group");
  for (const auto& block : device.block_devices) {
    line += "\n    " + block.name;
    for (const std::string& user : block.users) line += "\n      " + user;
  }
  return line;
}

namespace {

const char* transport_name(nvme::TransportType type) {
  switch (type) {
    case nvme::TransportType::rdma: return "rdma";
    case nvme::TransportType::fibre_channel: return "fc";
    case nvme::TransportType::tcp: return "tcp";
    case nvme::TransportType::loop: return "loop";
  }
  return "unrecognized";
}

const char* subsystem_type_name(nvme::SubsystemType type) {
  switch (type) {
    case nvme::SubsystemType::referral: return "discovery subsystem referral";
    case nvme::SubsystemType::nvm: return "nvme subsystem";
    case nvme::SubsystemType::current_discovery: return "current discovery subsystem";
  }
  return "unrecognized";
}

}  // namespace

Json subsystem_json(const nvme::DiscoveredSubsystem& subsystem) {
  return {{"trtype", transport_name(subsystem.transport)},
          {"subtype", subsystem_type_name(subsystem.type)},
          {"treq", subsystem.tls_required ? "required" : "not required"},
          {"portid", subsystem.port_id},
          {"trsvcid", subsystem.service},
          {"subnqn", subsystem.nqn},
          {"traddr", subsystem.address}};
}

std::string subsystem_text(const nvme::DiscoveredSubsystem& subsystem) {
  if (subsystem.transport == nvme::TransportType::tcp &&
      subsystem.type == nvme::SubsystemType::nvm) {
    const nvme::TcpAddress address{subsystem.address, subsystem.service};
    return "nvme:tcp:" + address.to_string() + "/" + subsystem.nqn +
           (subsystem.tls_required ? "  (TLS required)" : "");
  }
  return std::string(transport_name(subsystem.transport)) + " " + subsystem.address + " " +
         subsystem.service + "  " + subsystem_type_name(subsystem.type) + " " + subsystem.nqn;
}

}  // namespace basalt::tool
