// BouncePool: a channel's bounded memory for data that a device cannot take where it is.
//
// One aligned piece of memory in granules, with a bitmap of which are taken. Having none left is
// not an error: the job that asked waits until another gives its memory back. Ends with a stretch
// of zeroes, which is what an emulated write_zeroes writes. Thread rules: one channel's thread.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mem/arena.h"

namespace basalt {

class BouncePool {
 public:
  // At least the largest block size.
  static constexpr size_t kZeroBytes = size_t{64} << 10;

  // `map`: where to register the memory, or null. Errors: no_space.
  static Result<std::unique_ptr<BouncePool>> create(size_t bytes, size_t granule, MemoryMap* map,
                                                    Hugepages hugepages = Hugepages::no);

  // Between `least` and `most` bytes in one piece, or nothing. Starts on a granule.
  std::span<std::byte> take(size_t least, size_t most) noexcept;
  void give(std::span<std::byte> bytes) noexcept;

  std::span<std::byte> zeroes() const { return zeroes_.span(); }
  size_t size() const { return memory_.size(); }

 private:
  BouncePool(std::unique_ptr<Arena> arena, Buffer memory, Buffer zeroes, size_t granule);
  bool taken(size_t granule) const { return (bitmap_[granule / 64] >> granule % 64 & 1) != 0; }
  void mark(size_t first, size_t count, bool take) noexcept;

  std::unique_ptr<Arena> arena_;
  Buffer memory_;
  Buffer zeroes_;
  const size_t granule_;
  const size_t granule_count_;
  std::vector<uint64_t> bitmap_;  // 1: taken
};

}  // namespace basalt
