// What controllers say of themselves, as lists of fields, named and ordered as nvme-cli does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "nvme/pci_devices.h"
#include "nvme/tcp/discovery.h"
#include "wire/nvme/asymmetric_access.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/log_page.h"
#include "wire/nvme/reservations.h"

namespace basalt::tool {

struct NvmeField {
  std::string name;
  nlohmann::ordered_json value;
  std::string text;  // as people read it; empty: the value itself
};
using NvmeFields = std::vector<NvmeField>;

NvmeFields controller_fields(const nvme::IdentifyController& data);
NvmeFields namespace_fields(const nvme::IdentifyNamespace& data);
NvmeFields health_fields(const nvme::HealthLog& log);
// One entry of the error log: "LBA out of range (0x80) on namespace 1 LBA 123" and the rest.
NvmeFields error_fields(const nvme::ErrorLogEntry& entry);

NvmeFields firmware_fields(const nvme::FirmwareLog& log);
NvmeFields sanitize_fields(const nvme::SanitizeLog& log);
// `hosts` has `count` RegisteredHosts.
NvmeFields reservation_fields(const nvme::ReservationReportHeader& header,
                              std::span<const std::byte> hosts, size_t count);
const std::map<std::string, nvme::ReservationType>& reservation_types();
const char* access_state_name(nvme::AccessState state);

// "name      : text", a line each.
std::string as_text(const NvmeFields& fields);
nlohmann::ordered_json as_json(const NvmeFields& fields);

nlohmann::ordered_json device_json(const nvme::PciDevice& device);
// A line for people: "0000:00:04.0 1b36:0010 vfio-pci, IOMMU group 3".
std::string device_text(const nvme::PciDevice& device);

nlohmann::ordered_json subsystem_json(const nvme::DiscoveredSubsystem& subsystem);
// A line for people; for what can be opened over TCP, what to open: "nvme:tcp:10.0.0.1:4420/nqn.2014-08.org.example:disk".
std::string subsystem_text(const nvme::DiscoveredSubsystem& subsystem);

}  // namespace basalt::tool
