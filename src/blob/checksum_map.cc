#include "blob/checksum_map.h"

#include "base/crc32c.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {

void ChecksumMap::load(uint64_t group, std::string_view stored) {
  const auto [at, fresh] = groups_.try_emplace(group);
  if (!fresh) return;
  at->second = std::make_unique<Group>();
  std::memcpy(at->second->data(), stored.data(), std::min(stored.size(), sizeof(Group)));
}

std::string_view ChecksumMap::stored(uint64_t first, uint64_t count) const {
  const le32* from = group(first).data() + first % kChecksumGroupBlocks;
  return {reinterpret_cast<const char*>(from), count * sizeof(le32)};
}

uint32_t block_checksum(std::span<const std::byte> block) { return crc32c(block); }

}  // namespace basalt::blob
