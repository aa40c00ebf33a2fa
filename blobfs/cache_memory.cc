#include "blobfs/cache_memory.h"

#include <sys/mman.h>

#include <algorithm>

namespace basalt::blobfs {

namespace {
constexpr uint64_t kChunkBytes = CacheMemory::kChunkPages * CacheMemory::kPageBytes;
constexpr uint64_t kAhead = 2 * LargePages::kBytes;
}  // namespace

bool CacheMemory::reserve(uint64_t chunks) {
  bytes_ = chunks * kChunkBytes;
  return pages_.reserve(bytes_);
}

void CacheMemory::back_ahead() {
  const uint64_t wanted = std::min(taken_.load(std::memory_order_relaxed) + kAhead, bytes_);
  uint64_t backed = backed_.load(std::memory_order_relaxed);
  if (backed >= wanted) return;
  const uint64_t end = std::min(backed + LargePages::kBytes, bytes_);
  if (!backed_.compare_exchange_strong(backed, end, std::memory_order_relaxed)) return;
  // A hint: what is not backed faults when it is written.
  ::madvise(pages_.begin() + backed, end - backed, MADV_POPULATE_WRITE);
}

std::byte* CacheMemory::take() {
  return pages_.begin() + taken_.fetch_add(kChunkBytes, std::memory_order_relaxed);
}

}  // namespace basalt::blobfs
