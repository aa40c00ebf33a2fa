// Zoned namespaces: what they say of themselves, and zone reports.
//
// NVMe zoned namespace command set specification 1.1: Identify (§4.1.5), Zone Management Receive (§3.4.2), Zone
// Management Send (§3.4.3), Zone Append (§3.4.1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

// CSI: which command set a namespace speaks; IdentifyKind::command_set_namespace has it in word 11, bits 31:24.
enum class CommandSet : uint8_t { nvm = 0, key_value = 1, zoned = 2 };

// IdentifyKind::command_set_namespace of a zoned namespace.
struct IdentifyZonedNamespace {
  le16 zone_operation;  // ZOC: bit 0 capacities vary
  le16 optional;        // OZCS: bit 0 reads may cross zones
  le32 max_active;      // zones, minus one; kNoZoneLimit
  le32 max_open;        // likewise
  uint8_t reserved12[2804];
  struct Format {
    le64 zone_blocks;
    uint8_t descriptor_extension;  // of 64 B
    uint8_t reserved9[7];
  } formats[64];  // by LBA format
  uint8_t vendor[256];
};
static_assert(sizeof(IdentifyZonedNamespace) == 4096 &&
              offsetof(IdentifyZonedNamespace, formats) == 2816 &&
              std::has_unique_object_representations_v<IdentifyZonedNamespace>);
inline constexpr uint32_t kNoZoneLimit = 0xffff'ffff;

// Zone Management Send, word 13 bits 7:0; bit 8: all zones.
enum class ZoneAction : uint8_t { close = 1, finish = 2, open = 3, reset = 4, offline = 5 };
inline constexpr uint32_t kAllZones = 1 << 8;

enum class ZoneState : uint8_t {
  empty = 0x1,
  implicitly_opened = 0x2,
  explicitly_opened = 0x3,
  closed = 0x4,
  read_only = 0xd,
  full = 0xe,
  offline = 0xf,
};

// A zone report: this, then a ZoneDescriptor for each zone from the one asked for on.
struct ZoneReportHeader {
  le64
      count;  // of zones there are from there on, or, in a partial report, of descriptors that follow
  uint8_t reserved8[56];
};
inline constexpr uint32_t kPartialReport = 1 << 16;  // Zone Management Receive, word 13
struct ZoneDescriptor {
  uint8_t type;   // bits 3:0: 2 is written in sequence
  uint8_t state;  // bits 7:4: ZoneState
  uint8_t attributes;
  uint8_t attributes_information;
  uint8_t reserved4[4];
  le64 capacity;  // blocks that can be written
  le64 first_block;
  le64 write_pointer;  // the next block; of no meaning in a zone that is full, read only or offline
  uint8_t reserved32[32];
  ZoneState zone_state() const { return static_cast<ZoneState>(state >> 4); }
};
static_assert(sizeof(ZoneReportHeader) == 64 && sizeof(ZoneDescriptor) == 64 &&
              std::has_unique_object_representations_v<ZoneDescriptor>);

}  // namespace basalt::nvme
