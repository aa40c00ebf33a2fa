// The shared-memory tail as it lies in its file; twin of docs/format/tail.md.
//
// Host byte order would do (the file never leaves the machine), but little-endian fields keep one habit.
// The words at the k…Offset places and the chunk table are written while the store is open, each by one atomic
// store; everything else once, before the tail is used.
#pragma once

#include "base/crc32c.h"
#include "base/endian.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace basalt::blobfs {

using TailId = std::array<std::byte, 16>;

inline constexpr std::array<char, 8> kTailMagic = {'B', 'S', 'L', 'T', 'T', 'A', 'I', 'L'};
// What is written; 1 is replayed too.
inline constexpr uint32_t kTailVersion = 2;
inline constexpr uint64_t kTailHeaderBytes = 4096;
inline constexpr uint64_t kTailChunkBytes = 64 * 1024;
inline constexpr uint64_t kMinTailBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMaxTailBytes = uint64_t{4} << 30;
inline constexpr uint64_t kTailLargePage = uint64_t{2} << 20;

struct TailHeader {
  std::array<char, 8> magic;
  le32 crc;  // of the fields from `version` to `boot_id`
  le32 version;
  TailId store_uuid;
  TailId open_id;      // of the opening that writes here
  TailId predecessor;  // of the opening whose tail is being replayed by this one; zero: none
  le64 file_bytes;
  le64 ring_offset, ring_bytes;
  le64 table_offset, chunk_count;
  le64 chunks_offset, chunk_bytes;
  std::array<char, 40> boot_id;  // zero-padded
};
static_assert(sizeof(TailHeader) == 160 && std::has_unique_object_representations_v<TailHeader>);

// Native, 8-byte aligned words outside the checksum, at fixed places of the header page.
inline constexpr uint64_t kRingHeadOffset = 1024;
inline constexpr uint64_t kRingTailOffset = 2048;
inline constexpr uint64_t kPredecessorOffset = 3072;  // 1: `predecessor` is to be replayed first

// Before the bytes of each kept transaction; the whole is padded to 8 bytes and wraps at ring_bytes.
struct TailEntryHeader {
  le64 ticket;
  le32 length;
  le32 crc;  // of ticket, length and bytes
};
static_assert(sizeof(TailEntryHeader) == 16);
constexpr uint64_t tail_entry_bytes(uint64_t length) {
  return (sizeof(TailEntryHeader) + length + 7) / 8 * 8;
}

// Native words: this table is read and written atomically, word by word.
struct TailChunkEntry {
  uint64_t file_id;  // 0: free
  uint64_t offset;
  uint64_t end;    // offset … offset + chunk_bytes
  uint64_t check;  // of file_id and offset: chunk_check(); in version 1 also 0: none
};
static_assert(sizeof(TailChunkEntry) == 32);
constexpr uint64_t kChunkChecked = uint64_t{1} << 32;
inline uint64_t chunk_check(uint64_t file_id, uint64_t offset) {
  const std::array<le64, 2> words{le64(file_id), le64(offset)};
  return kChunkChecked | crc32c(std::as_bytes(std::span(words)));
}

// Where the parts of a tail of `file_bytes` lie: header, ring (a sixteenth), table, chunks.
struct TailLayout {
  uint64_t file_bytes = 0;
  uint64_t ring_offset = 0, ring_bytes = 0;
  uint64_t table_offset = 0, chunk_count = 0;
  uint64_t chunks_offset = 0;
};
constexpr TailLayout tail_layout(uint64_t file_bytes, uint32_t version = kTailVersion) {
  TailLayout layout;
  layout.file_bytes = file_bytes / 4096 * 4096;
  layout.ring_offset = kTailHeaderBytes;
  layout.ring_bytes =
      layout.file_bytes / 16 < 256 * 1024 ? 256 * 1024 : layout.file_bytes / 16 / 4096 * 4096;
  layout.table_offset = layout.ring_offset + layout.ring_bytes;
  const uint64_t rest = layout.file_bytes - layout.table_offset;
  const uint64_t entries = (rest - 4096) / (kTailChunkBytes + sizeof(TailChunkEntry));
  // Since version 2 a file of some size has its chunks in large pages.
  const bool large = version >= 2 && layout.file_bytes >= 16 * kTailLargePage;
  const uint64_t page = large ? kTailLargePage : 4096;
  const uint64_t table_end = layout.table_offset + entries * sizeof(TailChunkEntry);
  layout.chunks_offset = (table_end + page - 1) / page * page;
  const uint64_t fitting = (layout.file_bytes - layout.chunks_offset) / kTailChunkBytes;
  layout.chunk_count = entries < fitting ? entries : fitting;
  return layout;
}
static_assert(tail_layout(kMinTailBytes).chunks_offset +
                  tail_layout(kMinTailBytes).chunk_count * kTailChunkBytes <=
              kMinTailBytes);

}  // namespace basalt::blobfs
