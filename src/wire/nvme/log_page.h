// Log pages: what Get Log Page answers.
//
// NVM Express base specification 2.0, §5.16.1: error information (§5.16.1.2), SMART / health
// (§5.16.1.3), firmware slots (§5.16.1.4), changed namespaces (§5.16.1.5), commands supported and
// effects (§5.16.1.6), sanitize status (§5.16.1.25).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

struct ErrorLogEntry {
  le64 count;  // how many errors there were up to this one; 0: no entry
  le16 sq_id;
  le16 cid;
  le16 status_and_phase;
  le16 location;
  le64 lba;
  le32 nsid;
  uint8_t vendor_page;
  uint8_t transport;
  uint8_t reserved30[2];
  le64 command_specific;
  le16 transport_specific;
  uint8_t reserved42[22];
};
static_assert(sizeof(ErrorLogEntry) == 64 &&
              std::has_unique_object_representations_v<ErrorLogEntry>);
static_assert(offsetof(ErrorLogEntry, lba) == 16 && offsetof(ErrorLogEntry, nsid) == 24);

// Numbers of sixteen bytes, of which the lower eight are kept here.
struct le128 {
  le64 low;
  le64 high;
};

struct HealthLog {
  uint8_t critical_warning;
  le16 temperature;  // K
  uint8_t spare;     // percent
  uint8_t spare_threshold;
  uint8_t percentage_used;
  uint8_t endurance_groups;
  uint8_t reserved7[25];
  le128 data_units_read;  // thousands of 512 bytes
  le128 data_units_written;
  le128 host_reads;
  le128 host_writes;
  le128 busy_minutes;
  le128 power_cycles;
  le128 power_on_hours;
  le128 unsafe_shutdowns;
  le128 media_errors;
  le128 error_entries;
  le32 warning_minutes;
  le32 critical_minutes;
  le16 sensors[8];
  uint8_t reserved216[296];
};
static_assert(sizeof(HealthLog) == 512 && std::has_unique_object_representations_v<HealthLog>);
static_assert(offsetof(HealthLog, data_units_read) == 32 &&
              offsetof(HealthLog, unsafe_shutdowns) == 144 && offsetof(HealthLog, sensors) == 200);

struct FirmwareLog {
  uint8_t active;  // bits 2:0 slot in use, bits 6:4 slot after the next reset
  uint8_t reserved1[7];
  char revisions[7][8];  // slots 1 … 7
  uint8_t reserved64[448];
};
static_assert(sizeof(FirmwareLog) == 512 && std::has_unique_object_representations_v<FirmwareLog>);

struct SanitizeLog {
  le16 progress;              // in 65536ths, of what is under way
  le16 status;                // bits 2:0: SanitizeStatus; bit 8: nothing was written since
  le32 word10;                // of the last sanitize command
  le32 estimated_seconds[6];  // overwrite, block erase, crypto erase; the same without deallocating
  uint8_t reserved32[480];
};
static_assert(sizeof(SanitizeLog) == 512 && std::has_unique_object_representations_v<SanitizeLog>);
enum class SanitizeStatus : uint8_t {
  never = 0,
  done = 1,
  in_progress = 2,
  failed = 3,
  done_not_deallocated = 4
};

// Ascending, ended by zeros; the first id is kAllNamespaces when there are more than fit.
struct ChangedNamespacesLog {
  le32 nsids[1024];
};
static_assert(sizeof(ChangedNamespacesLog) == 4096);

// By opcode: bit 0 supported, bit 1 changes blocks.
struct CommandsSupportedLog {
  le32 admin[256];
  le32 io[256];
  uint8_t reserved2048[2048];
};
static_assert(sizeof(CommandsSupportedLog) == 4096);
inline constexpr uint32_t kCommandSupported = 1 << 0, kCommandChangesBlocks = 1 << 1;

}  // namespace basalt::nvme
