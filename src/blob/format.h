// The blob store's structures on the device; twin of docs/format/store.md and docs/format/journal.md.
//
// Everything is counted in store blocks of 4096 bytes. All structs are byte arrays of little-endian
// fields: no padding, no alignment, the same on every machine. Nothing here reads or writes.
#pragma once

#include "base/endian.h"
#include "blob/extent_map.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace basalt::blob {

using Uuid = std::array<std::byte, 16>;

inline constexpr uint32_t kFormatVersion = 1;
inline constexpr std::array<char, 8> kSuperblockMagic = {'B', 'A', 'S', 'A', 'L', 'T', 'S', 'B'};
// Byte offsets of the two superblock slots: fixed, far apart, each alone in its cluster.
inline constexpr std::array<uint64_t, 2> kSuperblockOffset = {0, uint64_t{8} << 20};
inline constexpr uint64_t kMinDeviceBytes = uint64_t{16} << 20;
inline constexpr uint64_t kFirstBlobId = 16;  // smaller ids are free for users of the counter
inline constexpr uint64_t kMaxBlobId = uint64_t{1} << 62;
inline constexpr unsigned kMaxMetadataRuns = 8;

// Feature flags. Unknown incompatible: refuse. Unknown read-only compatible: open read-only. Unknown
// compatible: ignore.
enum IncompatibleFeature : uint64_t {
  kFeatureSharedExtents = 1 << 0,  // extent trees shared between blobs; reference counts
  kFeatureDataChecksums = 1 << 1,  // blobs may keep a checksum of every block
};
inline constexpr uint64_t kKnownIncompatible = kFeatureDataChecksums;
inline constexpr uint64_t kKnownReadOnlyCompatible = 0;

// Names a metadata page and what must be found there.
struct PageRef {
  le64 page;        // page number in the metadata region; kNoPage: an empty tree
  le64 generation;  // checkpoint the page was written by
  le32 crc;         // the page's checksum
  le32 level;       // of the node; 0: leaf
  friend bool operator==(const PageRef& a, const PageRef& b) {
    return a.page == b.page && a.generation == b.generation && a.crc == b.crc;
  }
};
inline constexpr uint64_t kNoPage = ~uint64_t{0};
static_assert(sizeof(PageRef) == 24 && std::has_unique_object_representations_v<PageRef>);

// A stretch of the metadata region: the same page twice, far apart.
struct MetadataRun {
  le64 first_block[2];  // of copy 0 and copy 1, in store blocks
  le64 page_count;
};

// Not 0: not closed.
enum OpenForWriting : uint32_t {
  kNotOpen = 0,
  kOpenWithTail = 1,  // what was flushed may be in a shared-memory tail
  kOpenWithoutTail =
      2,  // it is on the device; a tail there may be only for the sake of an earlier one
};

enum class TreeId : uint8_t { objects = 0, catalog = 1, space = 2, references = 3 };
inline constexpr unsigned kTreeCount = 4;

struct Superblock {
  std::array<char, 8> magic;
  le32 crc;  // of the whole block with this field zero
  le32 format_version;
  Uuid uuid;
  le64 generation;  // counts flips; the slot is generation % 2
  le64 incompatible_features;
  le64 read_only_features;
  le64 compatible_features;
  // Geometry
  le64 device_bytes;
  le32 block_bytes;
  le32 cluster_bytes;
  le64 cluster_count;
  le64 journal_first_block;
  le64 journal_blocks;
  le32 metadata_run_count;
  le32 metadata_copies;  // 2
  MetadataRun metadata_runs[kMaxMetadataRuns];
  // Who has it open
  Uuid open_id;
  char boot_id[40];
  le64 epoch;             // of the present opening; larger than any before
  le32 open_for_writing;  // OpenForWriting; from open to clean close
  le32 reserved0;
  // Where recovery starts
  le64 journal_position;       // of the first record not covered, in blocks since format
  le64 journal_sequence;       // of that record
  le64 transaction_sequence;   // last transaction covered
  le64 checkpoint_generation;  // newest generation of any page reachable from here
  PageRef trees[kTreeCount];
  PageRef page_map;  // root of the page map; see docs/format/store.md
  le64 page_map_leaves;
  // Counters
  le64 next_blob_id;
  le64 free_clusters;
  le64 blob_count;
  char label[64];
  std::array<std::byte, 4096 - 624> unused;
};
static_assert(sizeof(Superblock) == 4096 && std::has_unique_object_representations_v<Superblock>);
static_assert(offsetof(Superblock, uuid) == 16 && offsetof(Superblock, generation) == 32);

// Every metadata page starts so. The payload is a tree node, or a part of the page map.
enum class PageKind : uint8_t { tree_node = 1, page_map_leaf = 2, page_map_index = 3 };
inline constexpr uint32_t kPageMagic = 0x504d5342;  // "BSMP"
struct PageHeader {
  le32 magic;
  le32 crc;   // of the whole page with this field zero
  Uuid uuid;  // of the store
  le64 page;  // own page number
  le64 generation;
  uint8_t kind;   // PageKind
  uint8_t tree;   // TreeId, for tree nodes
  uint8_t level;  // 0: leaf
  uint8_t reserved;
  le16 cell_count;
  le16 cell_start;  // lowest byte used by cells
  le32 live_bytes;  // bytes of live cells; the rest above cell_start is garbage
  le32 reserved1;
};
static_assert(sizeof(PageHeader) == 56);

// Page map: two bits per metadata page. `used` pages hold something this checkpoint or a transaction
// needs; `leaving` pages are needed only by the checkpoint before and free after the next flip.
inline constexpr uint64_t kPageMapBytesPerPlane = 2016;
inline constexpr uint64_t kPagesPerMapLeaf = kPageMapBytesPerPlane * 8;
inline constexpr uint64_t kRefsPerMapIndex = (kBlockBytes - sizeof(PageHeader)) / sizeof(PageRef);
static_assert(sizeof(PageHeader) + 2 * kPageMapBytesPerPlane <= kBlockBytes);

// A journal record: header, then transactions, zero-padded to whole blocks.
inline constexpr uint32_t kJournalMagic = 0x524a5342;  // "BSJR"
struct JournalHeader {
  le32 magic;
  le32 crc;  // of header (this field zero) and payload
  Uuid uuid;
  le64 epoch;
  le64 sequence;  // of the record: +1 each
  le64 position;  // of its first block, in blocks since format; ring slot = position % blocks
  le64 durable_position;  // all records before this position were durable when this was written
  le64 first_transaction;
  le32 transaction_count;
  le32 payload_bytes;
};
static_assert(sizeof(JournalHeader) == 72);
inline constexpr uint64_t kMaxRecordBytes = 256 * 1024;  // header and payload
struct JournalTransaction {                              // precedes each transaction's operations
  le32 bytes;
  le32 op_count;
};

// Operations; numbers follow in order, each le64, then key and value with le16 lengths.
enum class OpCode : uint8_t {
  create_blob = 1,      // id, flags, parent
  delete_blob = 2,      // id
  set_size = 3,         // id, bytes
  set_attribute = 4,    // id; name, value
  erase_attribute = 5,  // id; name
  catalog_put = 6,      // key, value
  catalog_erase = 7,    // key
  orphan = 8,           // id
  map = 9,              // id, logical, physical, count, state
  unmap = 10,           // id, logical, count
  set_state = 11,       // id, logical, count, state
  grow_clusters = 12,   // cluster_count
  set_checksums = 13,   // id, first block; le32 each, all in one group
};

// Keys of the objects tree: be64 blob id, kind, then what the kind says. Order groups a blob.
enum class ObjectKind : uint8_t {
  orphan = 0,     // under blob id 0: be64 id
  record = 1,     // BlobRecord
  attribute = 2,  // name → value
  extent = 3,     // be64 logical → ExtentRecord
  checksum = 4,   // be64 first block of a group → le32 CRC-32C of each block from there on
};
// Blocks whose checksums share a cell: 512 bytes.
inline constexpr uint64_t kChecksumGroupBlocks = 128;

enum BlobFlag : uint32_t {
  kBlobThick = 1 << 0,
  kBlobChecksums = 1 << 1,  // every written block has a checksum
};
struct BlobRecord {
  le64 size_bytes;
  le32 flags;  // BlobFlag
  le32 reserved;
  le64 parent;          // blob id of the snapshot this came from; 0: none
  PageRef extent_root;  // kFeatureSharedExtents: root of a shared extent tree; else page = kNoPage
  le64 allocated_blocks;
};
static_assert(sizeof(BlobRecord) == 56);
struct ExtentRecord {
  le64 physical;
  le64 count;
  uint8_t state;  // ExtentState, never pending
  std::array<uint8_t, 7> reserved;
};
static_assert(sizeof(ExtentRecord) == 24);

}  // namespace basalt::blob
