// What controllers and namespaces say of themselves: identify data, features, log pages, queue creation.
//
// NVM Express base specification 2.0: Identify (§5.17), Set Features (§5.27), Get Log Page (§5.16); NVM
// command set specification 1.0: Identify Namespace (§4.1.5). Bytes nobody here reads are reserved arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

// Command word 10, bits 7:0 of Identify.
enum class IdentifyKind : uint8_t {
  name_space = 0x00,
  controller = 0x01,
  active_namespaces = 0x02,  // 1024 ids above the one given, ascending
  namespace_descriptors = 0x03,
  command_set_namespace = 0x05,
  command_set_controller = 0x06,
  command_set_active_namespaces = 0x07,
  allocated_namespaces = 0x10,  // as active_namespaces, of the whole subsystem
  command_sets = 0x1c,          // which combinations CC.CSS 110b offers
};
inline constexpr uint32_t kIdentifyBytes = 4096;

enum class Feature : uint8_t {
  arbitration = 0x01,
  power_management = 0x02,
  temperature_threshold = 0x04,
  error_recovery = 0x05,
  volatile_write_cache = 0x06,
  queue_count = 0x07,
  interrupt_coalescing = 0x08,
  write_atomicity = 0x0a,
  async_event_config = 0x0b,
  keep_alive_timer = 0x0f,
  host_behavior = 0x16,
  reservation_notification_mask = 0x82,
  reservation_persistence = 0x83,
};

enum class LogPage : uint8_t {
  error_information = 0x01,
  health = 0x02,
  firmware_slots = 0x03,
  changed_namespaces = 0x04,
  commands_supported = 0x05,
  asymmetric_access = 0x0c,
  discovery = 0x70,
  reservation_notification = 0x80,
  sanitize_status = 0x81,
};

struct IdentifyController {
  le16 pci_vendor;
  le16 pci_subsystem_vendor;
  char serial[20];  // ASCII, padded with spaces
  char model[40];
  char firmware[8];
  uint8_t arbitration_burst;
  uint8_t ieee[3];
  uint8_t multipath;           // CMIC: asymmetric_access.h
  uint8_t max_transfer_shift;  // MDTS: minimum pages, as a power of two; 0: no limit
  le16 controller_id;
  le32 version;
  uint8_t reserved84[8];
  le32 optional_async_events;  // OAES: bits as in Feature::async_event_config
  le32 controller_attributes;
  uint8_t reserved100[11];
  uint8_t controller_type;
  uint8_t fru_guid[16];
  le16 retry_delay[3];  // CRDT1 … 3, in 100 ms
  uint8_t reserved134[122];
  le16 optional_admin_commands;  // OACS
  uint8_t abort_limit;           // minus one
  uint8_t async_event_limit;     // minus one
  uint8_t firmware_updates;
  uint8_t log_page_attributes;
  uint8_t error_log_entries;  // minus one
  uint8_t power_states;
  uint8_t admin_vendor_config;
  uint8_t autonomous_power_states;
  le16 warning_temperature;   // K
  le16 critical_temperature;  // K
  uint8_t reserved270[50];
  le16 keep_alive_granularity;  // KAS, in 100 ms; 0: no keep-alive
  uint8_t reserved322[20];
  uint8_t
      access_transition_time;  // ANATT: seconds in AccessState::change, at most; ANA, like the next three
  uint8_t access_capabilities;  // ANACAP
  le32 max_access_group;        // ANAGRPMAX
  le32 access_groups;           // NANAGRPID: how many there are
  uint8_t reserved352[160];
  uint8_t submission_entry_size;
  uint8_t completion_entry_size;
  le16 max_outstanding_commands;
  le32 namespace_count;
  le16 optional_commands;  // ONCS
  le16 fused_operations;   // FUSES
  uint8_t format_attributes;
  uint8_t volatile_write_cache;       // VWC: bit 0 present, bits 2:1 flush of all namespaces
  le16 atomic_write_unit;             // AWUN, blocks minus one
  le16 atomic_write_unit_power_fail;  // AWUPF, blocks minus one
  uint8_t vendor_command_config;
  uint8_t write_protection;
  le16 atomic_compare_and_write_unit;  // ACWU, blocks minus one
  le16 copy_formats;
  le32 sgl_support;  // SGLS
  le32 max_allowed_namespaces;
  uint8_t reserved544[224];
  char subsystem_nqn[256];  // UTF-8, ends with a zero byte
  uint8_t reserved1024[768];
  le32 io_capsule_units;           // IOCCSZ: of 16 B, command and data; fabrics, like the next four
  le32 io_response_units;          // IORCSZ
  le16 in_capsule_data_offset;     // ICDOFF, in 16 B, from the command's end
  uint8_t fabrics_attributes;      // FCATT
  uint8_t max_sgl_descriptors;     // MSDBD; 0: no limit
  le16 optional_fabrics_commands;  // OFCS
  uint8_t reserved1806[242];
  uint8_t power_state_descriptors[1024];
  uint8_t vendor[1024];
};
static_assert(sizeof(IdentifyController) == kIdentifyBytes &&
              std::has_unique_object_representations_v<IdentifyController>);
static_assert(offsetof(IdentifyController, max_transfer_shift) == 77 &&
              offsetof(IdentifyController, optional_async_events) == 92 &&
              offsetof(IdentifyController, controller_type) == 111 &&
              offsetof(IdentifyController, retry_delay) == 128 &&
              offsetof(IdentifyController, optional_admin_commands) == 256 &&
              offsetof(IdentifyController, keep_alive_granularity) == 320 &&
              offsetof(IdentifyController, access_groups) == 348 &&
              offsetof(IdentifyController, namespace_count) == 516 &&
              offsetof(IdentifyController, volatile_write_cache) == 525 &&
              offsetof(IdentifyController, sgl_support) == 536 &&
              offsetof(IdentifyController, subsystem_nqn) == 768 &&
              offsetof(IdentifyController, io_capsule_units) == 1792 &&
              offsetof(IdentifyController, power_state_descriptors) == 2048);

// Data of namespace attachment: ids in ascending order.
struct ControllerList {
  le16 count;
  le16 ids[2047];
};
static_assert(sizeof(ControllerList) == 4096);

// CTRATT.
inline constexpr uint32_t kTrafficKeepsAlive = 1 << 6;  // TBKAS
// OACS.
inline constexpr uint16_t kSupportsFormat = 1 << 1, kSupportsFirmware = 1 << 2,
                          kSupportsNamespaceManagement = 1 << 3, kSupportsDoorbellBuffer = 1 << 8;
// ONCS.
inline constexpr uint16_t kSupportsCompare = 1 << 0, kSupportsWriteUncorrectable = 1 << 1,
                          kSupportsDatasetManagement = 1 << 2, kSupportsWriteZeroes = 1 << 3,
                          kSupportsReservations = 1 << 5, kSupportsVerify = 1 << 7,
                          kSupportsCopy = 1 << 8;

struct LbaFormat {
  le16 metadata_bytes;
  uint8_t data_shift;  // block size as a power of two; 0: this format is not there
  uint8_t relative_performance;
};

struct IdentifyNamespace {
  le64 size;         // blocks
  le64 capacity;     // blocks that can be allocated
  le64 utilization;  // blocks
  uint8_t features;
  uint8_t format_count;  // minus one
  uint8_t
      format;  // FLBAS: bits 3:0 index, bit 4 metadata follows each block's data, bits 6:5 index
  uint8_t metadata_capabilities;
  uint8_t protection_capabilities;
  uint8_t protection;  // DPS
  uint8_t multipath;
  uint8_t reservations;
  uint8_t format_progress;
  uint8_t deallocation;                // DLFEAT
  le16 atomic_write_unit;              // NAWUN, blocks minus one
  le16 atomic_write_unit_power_fail;   // NAWUPF
  le16 atomic_compare_and_write_unit;  // NACWU
  le16 atomic_boundary_size;           // NABSN
  le16 atomic_boundary_offset;         // NABO
  le16 atomic_boundary_power_fail;     // NABSPF
  le16 optimal_io_boundary;            // NOIOB, blocks
  uint8_t nvm_capacity[16];
  uint8_t reserved64[10];
  le16 copy_range_blocks;  // MSSRL: the longest range of a Copy
  le32 copy_blocks;        // MCL: all its ranges together
  uint8_t copy_ranges;     // MSRC, minus one
  uint8_t reserved81[11];
  le32 access_group;  // ANAGRPID
  uint8_t reserved96[3];
  uint8_t attributes;  // NSATTR
  uint8_t reserved100[4];
  uint8_t nguid[16];
  uint8_t eui64[8];
  LbaFormat formats[64];
  uint8_t vendor[3712];
};
static_assert(sizeof(IdentifyNamespace) == kIdentifyBytes &&
              std::has_unique_object_representations_v<IdentifyNamespace>);
static_assert(offsetof(IdentifyNamespace, format) == 26 &&
              offsetof(IdentifyNamespace, atomic_write_unit) == 34 &&
              offsetof(IdentifyNamespace, optimal_io_boundary) == 46 &&
              offsetof(IdentifyNamespace, copy_range_blocks) == 74 &&
              offsetof(IdentifyNamespace, access_group) == 92 &&
              offsetof(IdentifyNamespace, nguid) == 104 &&
              offsetof(IdentifyNamespace, formats) == 128);

// FUSES: Compare and Write.
inline constexpr uint16_t kFusesCompareAndWrite = 1 << 0;
// NSATTR.
inline constexpr uint8_t kNamespaceWriteProtected = 1 << 0;
// NSFEAT: the namespace has atomic write units of its own.
inline constexpr uint8_t kNamespaceAtomicity = 1 << 1;

// The format in use: FLBAS, and NLBAF where it says more than 16.
inline unsigned format_index(const IdentifyNamespace& data) {
  const unsigned low = data.format & 0xf;
  return data.format_count >= 16 ? low | (data.format >> 5 & 3u) << 4 : low;
}

// ASCII padded with spaces, or ended by a zero byte; what cannot be printed becomes '?'.
inline std::string printable_field(std::string_view field) {
  std::string text(field.substr(0, field.find('\0')));
  while (!text.empty() && text.back() == ' ') text.pop_back();
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace basalt::nvme
