#include "blobfs/inode.h"

#include "base/planted.h"
#include "blobfs/path.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace basalt::blobfs {

namespace {

std::string id_key(char kind, uint64_t id) {
  const be64 number = id;
  std::string key(1, kind);
  key.append(reinterpret_cast<const char*>(&number), sizeof number);
  return key;
}

uint64_t id_in(std::string_view key) {
  be64 number;
  std::memcpy(&number, key.data() + 1, sizeof number);
  return number;
}

template <typename Raw>
std::string to_string(const Raw& raw) {
  return {reinterpret_cast<const char*>(&raw), sizeof raw};
}

tl::unexpected<Status> bad_inode(uint64_t id, const std::string& why) {
  return error(StatusCode::corruption, "inode " + std::to_string(id) + ": " + why);
}

}  // namespace

Duration modified_time(uint64_t modified_us) {
  constexpr uint64_t kLatest = Duration::max() / std::chrono::microseconds(1);
  return std::chrono::microseconds(std::min(modified_us, kLatest));
}

std::string inode_key(uint64_t id) { return id_key(kInodeKey, id); }
std::string directory_prefix(uint64_t directory) { return id_key(kDirectoryKey, directory); }
std::string entry_key(uint64_t directory, std::string_view name) {
  return directory_prefix(directory).append(name);
}

bool parse_entry_key(std::string_view key, uint64_t& directory, std::string_view& name) {
  if (key.size() < 1 + sizeof(be64) + 1 || key[0] != kDirectoryKey) return false;
  directory = id_in(key);
  name = key.substr(1 + sizeof(be64));
  return true;
}

bool parse_inode_key(std::string_view key, uint64_t& id) {
  if (key.size() != 1 + sizeof(be64) || key[0] != kInodeKey) return false;
  id = id_in(key);
  return true;
}

std::string encode(const InodeRecord& record) {
  RawInode raw{};
  raw.version = kNamesVersion;
  raw.kind = static_cast<uint8_t>(record.kind);
  raw.lifetime = record.lifetime;
  raw.flags = record.open_log ? kOpenLog : 0;
  raw.links = record.links;
  raw.modified_us = record.modified_us;
  raw.length = record.length;
  raw.log_epoch = record.log_epoch;
  raw.sealed_bytes = record.sealed_bytes;
  raw.parent = record.parent;
  return to_string(raw);
}

std::string encode(const Entry& entry) {
  RawEntry raw{};
  raw.kind = entry.is_directory ? 2 : 1;
  raw.id = entry.id;
  return to_string(raw);
}

std::string encode_file_system_record() {
  RawFileSystem raw{};
  raw.version = kNamesVersion;
  return to_string(raw);
}

Result<InodeRecord> decode_inode(uint64_t id, std::string_view value) {
  if (value.size() != sizeof(RawInode)) {
    return bad_inode(id, "record has " + std::to_string(value.size()) + " bytes, expected 40");
  }
  RawInode raw;
  std::memcpy(&raw, value.data(), sizeof raw);
  if (raw.version != kNamesVersion && !planted("inode_version")) {
    return error(StatusCode::unsupported, "inode " + std::to_string(id) + ": record version " +
                                              std::to_string(raw.version) +
                                              ", this program knows 1");
  }
  if ((raw.kind < 1 || raw.kind > 3) && !planted("inode_kind"))
    return bad_inode(id, "kind " + std::to_string(raw.kind));
  if ((raw.flags & ~kOpenLog) != 0 && !planted("inode_flags"))
    return bad_inode(id, "unknown flags");
  InodeRecord record;
  record.kind = static_cast<InodeKind>(raw.kind);
  record.lifetime = raw.lifetime;
  record.open_log = (raw.flags & kOpenLog) != 0;
  record.links = raw.links;
  record.modified_us = raw.modified_us;
  record.length = raw.length;
  record.log_epoch = raw.log_epoch;
  record.sealed_bytes = raw.sealed_bytes;
  record.parent = raw.parent;
  if (record.links == 0 && !planted("inode_links")) return bad_inode(id, "link count 0");
  if (record.length > uint64_t{1} << 60 && !planted("inode_length"))
    return bad_inode(id, "length beyond 2^60");
  if (record.kind == InodeKind::log) {
    const uint32_t size = record.sealed_bytes;
    if ((!std::has_single_bit(size) || size < 512 || size > 4096) &&
        !planted("inode_sealed_bytes")) {
      return bad_inode(id, "sealed-block size " + std::to_string(size));
    }
    if (record.log_epoch == 0 && !planted("inode_log_epoch")) return bad_inode(id, "log epoch 0");
  } else if ((record.open_log || record.log_epoch != 0 || record.sealed_bytes != 0) &&
             !planted("inode_log_fields")) {
    return bad_inode(id, "log fields in something that is not a log");
  }
  return record;
}

Result<Entry> decode_entry(uint64_t directory, std::string_view name, std::string_view value) {
  const auto bad = [&](const std::string& why) {
    return error(StatusCode::corruption, "directory " + std::to_string(directory) + ", entry \"" +
                                             std::string(name) + "\": " + why);
  };
  if (value.size() != sizeof(RawEntry)) {
    return bad("value has " + std::to_string(value.size()) + " bytes, expected 9");
  }
  if ((name.empty() || name.size() > kMaxNameBytes || name.find('/') != name.npos ||
       name.find('\0') != name.npos || name == "." || name == "..") &&
      !planted("entry_name")) {
    return bad("not a name");
  }
  RawEntry raw;
  std::memcpy(&raw, value.data(), sizeof raw);
  if (raw.kind != 1 && raw.kind != 2 && !planted("entry_kind"))
    return bad("kind " + std::to_string(raw.kind));
  if (raw.id <= kRootDirectory && !planted("entry_id")) return bad("id " + std::to_string(raw.id));
  return Entry{raw.kind == 2, raw.id};
}

Status check_file_system_record(std::string_view value) {
  RawFileSystem raw;
  if (value.size() != sizeof raw) {
    return {StatusCode::corruption,
            "file system record has " + std::to_string(value.size()) + " bytes, expected 12"};
  }
  std::memcpy(&raw, value.data(), sizeof raw);
  if (raw.version != kNamesVersion && !planted("names_version")) {
    return {StatusCode::unsupported, "file system record: version " + std::to_string(raw.version) +
                                         ", this program knows 1"};
  }
  return {};
}

}  // namespace basalt::blobfs
