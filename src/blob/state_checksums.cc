// Checksums of blocks in the objects tree: one cell a group, there as long as a block of the group is mapped.
#include "base/try.h"
#include "blob/state.h"

#include <cstring>

namespace basalt::blob {
namespace {

Status malformed(BlobId id, uint64_t group, const char* what) {
  return Status(StatusCode::corruption,
                "blob " + std::to_string(id.value) + ": checksums from block " +
                    std::to_string(group * kChecksumGroupBlocks) + ": " + what);
}

}  // namespace

std::string checksum_key(BlobId id, uint64_t group) {
  const be64 first = group * kChecksumGroupBlocks;
  return object_key(id, ObjectKind::checksum, struct_text(first));
}

bool is_checksum_run(uint64_t first, std::string_view checksums) {
  const uint64_t count = checksums.size() / sizeof(le32);
  return count > 0 && checksums.size() % sizeof(le32) == 0 && within_blob({first, count}) &&
         first % kChecksumGroupBlocks + count <= kChecksumGroupBlocks;
}

Result<std::string> State::checksums(BlobId id, uint64_t group) {
  BASALT_TRY_ASSIGN(auto value, objects_.get(checksum_key(id, group)));
  if (!value) return std::string();
  if (!is_checksum_run(group * kChecksumGroupBlocks, *value)) {
    return error(malformed(id, group, "of an impossible length"));
  }
  return std::move(*value);
}

Result<std::vector<uint64_t>> State::checksum_groups(BlobId id, BlockRange range) {
  std::vector<uint64_t> groups;
  const std::string prefix = object_key(id, ObjectKind::checksum);
  Tree::Cursor cursor(objects_);
  BASALT_TRY(cursor.seek(checksum_key(id, range.first / kChecksumGroupBlocks)));
  while (cursor.valid() && cursor.key().starts_with(prefix)) {
    be64 first;
    if (cursor.key().size() != prefix.size() + sizeof first) {
      return error(malformed(id, 0, "malformed key"));
    }
    std::memcpy(&first, cursor.key().data() + prefix.size(), sizeof first);
    if (first >= range.end()) break;
    const uint64_t group = first / kChecksumGroupBlocks;
    if (first % kChecksumGroupBlocks != 0 || !is_checksum_run(first, cursor.value())) {
      return error(malformed(id, group, "not at a group's beginning, or of an impossible length"));
    }
    groups.push_back(group);
    BASALT_TRY(cursor.next());
  }
  return groups;
}

Status State::set_checksums(BlobId id, uint64_t first, std::string_view checksums) {
  const uint64_t group = first / kChecksumGroupBlocks;
  if (!is_checksum_run(first, checksums)) {
    return malformed(id, group, "an operation for impossible blocks");
  }
  BASALT_TRY_ASSIGN(const BlobRecord blob, record(id));
  if ((blob.flags & kBlobChecksums) == 0) return malformed(id, group, "of a blob without");
  BASALT_TRY_ASSIGN(std::string stored, this->checksums(id, group));
  const size_t at = first % kChecksumGroupBlocks * sizeof(le32);
  if (stored.size() < at + checksums.size()) stored.resize(at + checksums.size(), '\0');
  stored.replace(at, checksums.size(), checksums);
  return objects_.put(checksum_key(id, group), stored);
}

// The groups of which nothing is mapped any more.
Status State::erase_checksums(BlobId id, BlockRange unmapped) {
  BASALT_TRY_ASSIGN(const std::vector<uint64_t> groups, checksum_groups(id, unmapped));
  for (const uint64_t group : groups) {
    const BlockRange blocks{group * kChecksumGroupBlocks, kChecksumGroupBlocks};
    if (blocks.first < unmapped.first || blocks.end() > unmapped.end()) {
      BASALT_TRY_ASSIGN(const auto still_mapped, extents(id, blocks));
      if (!still_mapped.empty()) continue;
    }
    BASALT_TRY_ASSIGN([[maybe_unused]] const bool was, objects_.erase(checksum_key(id, group)));
  }
  return {};
}

}  // namespace basalt::blob
