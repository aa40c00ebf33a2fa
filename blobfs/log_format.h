// Sealed blocks of log files on the device; twin of docs/format/log.md.
//
// Block i of a log lies at byte i × block size of its blob and holds the file's bytes from
// i × payload on. Pure layout: writing is log_writer.h, validation log_reader.h.
#pragma once

#include "base/endian.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace basalt::blobfs {

inline constexpr uint16_t kSealedVersion = 1;

struct SealedHeader {
  le32 crc;     // of the header from `length` on and of `length` payload bytes: tears, rot
  le16 length;  // payload bytes used, 1 … payload size
  le16 version;
  le64 file_id;      // a block of another file in reused space
  le64 position;     // of the first payload byte in the file: misdirected and stale blocks
  le32 epoch;        // blocks from before a recovery, a truncation or another opening
  le32 durable_lag;  // position + length − the length known durable: a hole is no end
};
static_assert(sizeof(SealedHeader) == 32 && offsetof(SealedHeader, position) == 16 &&
              std::has_unique_object_representations_v<SealedHeader>);

// The shape of a log: how file positions and blocks correspond.
struct LogShape {
  uint32_t block_bytes = 0;
  uint32_t payload() const { return block_bytes - static_cast<uint32_t>(sizeof(SealedHeader)); }
  uint64_t block_of(uint64_t position) const { return position / payload(); }
  uint64_t position_of(uint64_t block) const { return block * payload(); }
  // Blocks that hold [0, length).
  uint64_t block_count(uint64_t length) const { return (length + payload() - 1) / payload(); }
  uint64_t blob_offset(uint64_t block) const { return block * block_bytes; }
};

}  // namespace basalt::blobfs
