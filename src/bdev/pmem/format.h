// The on-media format of a pmem: file: the device's blocks, then the write journal in the last
// kJournalBytes. Prose twin: docs/format/pmem.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::pmem_format {

inline constexpr uint64_t kMagic = 0x4c4e4a4d50544c42;  // "BLTPMJNL" as bytes
inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kPageBytes = 4096;
inline constexpr unsigned kLaneCount = 16;
inline constexpr size_t kLanePayloadBytes = 65536;
inline constexpr size_t kLaneBytes = kPageBytes + kLanePayloadBytes;
inline constexpr size_t kJournalBytes = kPageBytes + kLaneCount * kLaneBytes;

// At the journal's start; written once, when the file is made.
struct JournalHeader {
  le64 magic;
  le32 version;
  le32 lane_count;
  le32 lane_payload_bytes;
  le32 checksum;  // crc32c of the fields above
};
static_assert(sizeof(JournalHeader) == 24);
static_assert(std::has_unique_object_representations_v<JournalHeader>);

// At a lane's start; the payload begins one page later. A lane holds a write that is to be repeated
// if its sequence is not zero and both checksums are right.
struct LaneHeader {
  le64 sequence;      // 0: empty. Written last to 0, when the write has reached its place
  le64 offset_bytes;  // where the payload belongs, from the start of the device
  le32 length_bytes;
  le32 payload_checksum;  // crc32c
  le32 checksum;          // crc32c of the fields above: a torn header is an empty lane
};
static_assert(sizeof(LaneHeader) == 28 && sizeof(LaneHeader) <= 64, "within one cache line");
static_assert(offsetof(LaneHeader, checksum) == 24);
static_assert(std::has_unique_object_representations_v<LaneHeader>);

}  // namespace basalt::pmem_format
