// See frozen_disk.h.
#include "sim/frozen_disk.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/check.h"

namespace basalt::sim {
namespace {

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

FrozenDisk::FrozenDisk(SimImage durable, uint32_t block_bytes, std::vector<Unit> units)
    : durable_(std::move(durable)), block_bytes_(block_bytes), units_(std::move(units)) {
  std::vector<std::byte> chunk(SimImage::kChunkBytes);
  for (uint64_t at = 0; at < durable_.size_bytes(); at += chunk.size()) {
    if (!durable_.has_bytes_at(at)) continue;
    const std::span part(chunk.data(),
                         std::min<uint64_t>(chunk.size(), durable_.size_bytes() - at));
    durable_.read(at, part);
    for (uint64_t i = 0; i < part.size(); i += block_bytes_) {
      durable_hash_ += block_hash(at + i, part.subspan(i, block_bytes_));
    }
  }
}

FrozenDisk::Selection FrozenDisk::select_writes(uint64_t kept_writes) const {
  Selection kept(units_.size());
  for (size_t i = 0; i < units_.size(); ++i) {
    kept[i] = units_[i].write < 64 && (kept_writes >> units_[i].write & 1) != 0;
  }
  return kept;
}

SimImage FrozenDisk::survivor(const Selection& kept) const {
  BASALT_CHECK(kept.size() == units_.size(), "a selection has a bit for every unit");
  SimImage image = durable_;
  for (size_t i = 0; i < units_.size(); ++i) {
    if (!kept[i]) continue;
    image.write(units_[i].offset,
                std::span(*units_[i].bytes).subspan(units_[i].begin, units_[i].length));
  }
  return image;
}

// Blocks of zeros count as nothing, so that a block never written and one of zeros are the same.
uint64_t FrozenDisk::block_hash(uint64_t offset, std::span<const std::byte> bytes) const {
  if (is_zero(bytes)) return 0;
  uint64_t hash = mix(offset + 1);
  for (size_t i = 0; i + 16 <= bytes.size(); i += 16) {
    uint64_t words[2];
    std::memcpy(words, bytes.data() + i, sizeof words);
    const auto product = __uint128_t{words[0] ^ hash} * (words[1] ^ 0x94d049bb133111eb);
    hash = static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64) ^ (hash << 1);
  }
  return mix(hash);
}

uint64_t FrozenDisk::hash(const Selection& kept) const {
  // The last surviving unit of each block.
  std::map<uint64_t, std::span<const std::byte>> blocks;
  for (size_t i = 0; i < units_.size(); ++i) {
    const Unit& unit = units_[i];
    for (uint64_t at = 0; kept[i] && at < unit.length; at += block_bytes_) {
      blocks[unit.offset + at] = std::span(*unit.bytes).subspan(unit.begin + at, block_bytes_);
    }
  }
  uint64_t hash = durable_hash_;
  std::vector<std::byte> before(block_bytes_);
  for (const auto& [offset, bytes] : blocks) {
    durable_.read(offset, before);
    hash += block_hash(offset, bytes) - block_hash(offset, before);
  }
  return hash;
}

}  // namespace basalt::sim
