// ExtentMap: where a blob's blocks lie, as a sorted vector in memory.
//
// Positions and counts are in 4 KiB store blocks: `logical` from the start of the blob, `physical` from
// the start of the device. Extents never overlap; neighbours that continue each other in both and have
// the same state are merged. Not synchronised: the owner locks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace basalt::blob {

inline constexpr uint32_t kBlockBytes = 4096;
// Blocks of the largest blob: byte positions fit 64 bits.
inline constexpr uint64_t kMaxBlobBlocks = uint64_t{1} << 52;

struct BlockRange {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t end() const { return first + count; }
  bool empty() const { return count == 0; }
  friend bool operator==(const BlockRange&, const BlockRange&) = default;
};
// Not empty, and inside the largest blob.
inline bool within_blob(const BlockRange& range) {
  return range.count > 0 && range.first < kMaxBlobBlocks &&
         range.count <= kMaxBlobBlocks - range.first;
}

enum class ExtentState : uint8_t {
  unwritten = 0,  // allocated; reads as zeros
  written = 1,    // recorded as written
  pending = 2,    // written on the device, not yet recorded; in memory only
};

struct Extent {
  uint64_t logical = 0;
  uint64_t physical = 0;
  uint64_t count = 0;
  ExtentState state = ExtentState::unwritten;
  uint64_t end() const { return logical + count; }
  friend bool operator==(const Extent&, const Extent&) = default;
};

class ExtentMap {
 public:
  // The extent that holds `logical`, or null.
  const Extent* find(uint64_t logical) const;
  // The first extent that ends beyond `logical`, or end().
  std::vector<Extent>::const_iterator lower(uint64_t logical) const;
  std::vector<Extent>::const_iterator end() const { return extents_.end(); }
  std::span<const Extent> all() const { return extents_; }
  bool empty() const { return extents_.empty(); }

  // Replaces whatever is mapped in [extent.logical, extent.end()).
  void set(const Extent& extent);
  void erase(BlockRange range);
  // Changes the state of the mapped parts of `range`; with `only`, just of parts now in that state.
  void set_state(BlockRange range, ExtentState state, std::optional<ExtentState> only = {});
  void clear() { extents_.clear(); }
  uint64_t mapped_blocks() const;

 private:
  // Makes `at` a boundary between extents; returns the index of the first extent at or after it.
  size_t split(uint64_t at);
  void merge_around(size_t first, size_t last);
  std::vector<Extent> extents_;
};

}  // namespace basalt::blob
