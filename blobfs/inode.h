// Inode and directory records as they stand in the store's catalog; twin of docs/format/names.md.
//
// Encoding and validated decoding of keys and values; pure functions. Keys hold big-endian integers,
// so that catalog order is numeric; values little-endian.
#pragma once

#include <basalt/file_system.h>
#include <basalt/status.h>

#include "base/endian.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace basalt::blobfs {

inline constexpr uint64_t kRootDirectory = 1;
inline constexpr uint32_t kNamesVersion = 1;
inline constexpr char kDirectoryKey = 'D', kInodeKey = 'I', kFileSystemKey = 'F';

enum class InodeKind : uint8_t { table = 1, log = 2, directory = 3 };

inline FileKind to_file_kind(InodeKind kind) {
  return kind == InodeKind::log ? FileKind::log : FileKind::table;
}

// The value of an `I` entry.
struct RawInode {
  uint8_t version;
  uint8_t kind;  // InodeKind
  uint8_t lifetime;
  uint8_t flags;  // kOpenLog
  le32 links;
  le64 modified_us;
  le64 length;
  le32 log_epoch;
  le32 sealed_bytes;
  le64 parent;
};
static_assert(sizeof(RawInode) == 40 && std::has_unique_object_representations_v<RawInode>);
inline constexpr uint8_t kOpenLog = 1;

// The value of a `D` entry.
struct RawEntry {
  uint8_t kind;  // 1 file, 2 directory
  le64 id;
};
static_assert(sizeof(RawEntry) == 9 && std::has_unique_object_representations_v<RawEntry>);

// The value of the `F` entry.
struct RawFileSystem {
  le32 version;
  le64 reserved;
};
static_assert(sizeof(RawFileSystem) == 12);

struct InodeRecord {
  InodeKind kind = InodeKind::table;
  uint8_t lifetime = 0;
  bool open_log = false;  // a log that was opened for writing and not cleanly closed
  uint32_t links = 1;
  uint64_t modified_us = 0;  // since 1970-01-01 UTC
  uint64_t length = 0;       // journaled; a lower bound if open_log
  uint32_t log_epoch = 0;
  uint32_t sealed_bytes = 0;  // size of a sealed block
  uint64_t parent = 0;        // directories
  friend bool operator==(const InodeRecord&, const InodeRecord&) = default;
};

// A record's time as a Duration, which ends in the year 2262: what lies beyond is taken for its end.
Duration modified_time(uint64_t modified_us);

struct Entry {
  bool is_directory = false;
  uint64_t id = 0;
  friend bool operator==(const Entry&, const Entry&) = default;
};

std::string inode_key(uint64_t id);
// The prefix of every entry of a directory, and one entry's key.
std::string directory_prefix(uint64_t directory);
std::string entry_key(uint64_t directory, std::string_view name);
// The parts of an entry's or an inode's key; false when the key is not one.
bool parse_entry_key(std::string_view key, uint64_t& directory, std::string_view& name);
bool parse_inode_key(std::string_view key, uint64_t& id);

std::string encode(const InodeRecord& record);
std::string encode(const Entry& entry);
std::string encode_file_system_record();
// corruption, naming the inode or entry and the field, for bytes no version of Basalt writes;
// unsupported for a later version.
Result<InodeRecord> decode_inode(uint64_t id, std::string_view value);
Result<Entry> decode_entry(uint64_t directory, std::string_view name, std::string_view value);
Status check_file_system_record(std::string_view value);

}  // namespace basalt::blobfs
