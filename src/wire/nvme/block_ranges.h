// Lists of block ranges that commands carry as data.
//
// NVM command set specification 1.0: Dataset Management (§3.2.3), Copy (§3.2.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

// Dataset Management: command word 10 bits 7:0 are the ranges minus one.
struct DatasetRange {
  le32 attributes;
  le32 block_count;
  le64 first_block;
};
static_assert(sizeof(DatasetRange) == 16 && std::has_unique_object_representations_v<DatasetRange>);
inline constexpr uint32_t kMaxDatasetRanges = 256;
inline constexpr uint32_t kDatasetDeallocate = 1 << 2;  // command word 11

// Copy, source range descriptor format 0: word 12 bits 7:0 are the ranges minus one, bits 11:8 the
// format; words 10 and 11 are the first block to be written.
struct CopyRange {
  uint8_t reserved0[8];
  le64 first_block;
  le16 block_count;  // minus one
  uint8_t reserved18[6];
  le32 reference_tag;
  le16 application_tag;
  le16 application_tag_mask;
};
static_assert(sizeof(CopyRange) == 32 && std::has_unique_object_representations_v<CopyRange>);
static_assert(offsetof(CopyRange, first_block) == 8 && offsetof(CopyRange, block_count) == 16);
inline constexpr uint32_t kMaxCopyRanges = 256;

}  // namespace basalt::nvme
