// CacheMemory: the page cache's memory, given out in chunks of 256 KiB from one mapping, in order.
//
// In order, so that large pages can back it and a process that caches little touches little. Zeroing a large page
// takes 50 to 150 µs, so it is done ahead, by whoever is about to insert and holds no lock yet.
// Threads: any may take and back; reserve() comes before.
#pragma once

#include "blobfs/large_pages.h"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace basalt::blobfs {

class CacheMemory {
 public:
  static constexpr uint64_t kPageBytes = 4096;
  static constexpr uint32_t kChunkPages = 64;

  // Address space for `chunks`; nothing is touched. False: there is none (errno).
  bool reserve(uint64_t chunks);
  // Sees to it that the next chunks will not fault, as a rule. Best without a lock.
  void back_ahead();
  // The next chunk's memory. At most as often as chunks were reserved.
  std::byte* take();

 private:
  LargePages pages_;
  uint64_t bytes_ = 0;
  std::atomic<uint64_t> taken_{0};   // bytes
  std::atomic<uint64_t> backed_{0};  // bytes, by back_ahead()
};

}  // namespace basalt::blobfs
