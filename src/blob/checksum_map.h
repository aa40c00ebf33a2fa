// ChecksumMap: CRC-32C of a blob's 4 KiB blocks, as far as they are in memory.
//
// Checksums come and go in groups of kChecksumGroupBlocks, as they lie in the objects tree: 4 B a block, so
// 1/1024 of the data that was looked at. What a block's entry says holds only while the block is written or
// pending. Not synchronised: the owner locks.
#pragma once

#include "base/endian.h"
#include "blob/format.h"

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

namespace basalt::blob {

class ChecksumMap {
 public:
  static constexpr uint64_t group_of(uint64_t block) { return block / kChecksumGroupBlocks; }

  bool holds(uint64_t group) const { return groups_.contains(group); }
  // Takes a group over as stored; blocks it says nothing of get 0. A group already there stays.
  void load(uint64_t group, std::string_view stored);
  // Both want the block's group loaded.
  uint32_t at(uint64_t block) const { return group(block)[block % kChecksumGroupBlocks]; }
  void set(uint64_t block, uint32_t crc) { group(block)[block % kChecksumGroupBlocks] = crc; }
  // Blocks [first, first + count), which lie in one group that is loaded, as they are stored.
  std::string_view stored(uint64_t first, uint64_t count) const;

 private:
  using Group = std::array<le32, kChecksumGroupBlocks>;
  Group& group(uint64_t block) const { return *groups_.find(group_of(block))->second; }
  std::unordered_map<uint64_t, std::unique_ptr<Group>> groups_;
};

// The checksums of whole blocks, as ChecksumMap and the tree keep them.
uint32_t block_checksum(std::span<const std::byte> block);

}  // namespace basalt::blob
