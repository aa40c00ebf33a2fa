#include "blobfs/cache_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <memory>

namespace basalt::blobfs {

namespace {
constexpr uint64_t kLargePage = 2 << 20;
constexpr uint64_t kChunkBytes = CacheMemory::kChunkPages * CacheMemory::kPageBytes;
constexpr uint64_t kAhead = 2 * kLargePage;
}  // namespace

CacheMemory::~CacheMemory() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapping_bytes_);
}

bool CacheMemory::reserve(uint64_t chunks) {
  bytes_ = chunks * kChunkBytes;
  mapping_bytes_ = bytes_ + kLargePage;
  void* memory = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  mapping_ = static_cast<std::byte*>(memory);
  size_t space = mapping_bytes_;
  first_ = static_cast<std::byte*>(std::align(kLargePage, bytes_, memory, space));
  // Whole large pages only: what is behind the last chunk is never used.
  ::madvise(first_, bytes_ / kLargePage * kLargePage, MADV_HUGEPAGE);
  return true;
}

void CacheMemory::back_ahead() {
  const uint64_t wanted = std::min(taken_.load(std::memory_order_relaxed) + kAhead, bytes_);
  uint64_t backed = backed_.load(std::memory_order_relaxed);
  if (backed >= wanted) return;
  const uint64_t end = std::min(backed + kLargePage, bytes_);
  if (!backed_.compare_exchange_strong(backed, end, std::memory_order_relaxed)) return;
  // A hint: what is not backed faults when it is written.
  ::madvise(first_ + backed, end - backed, MADV_POPULATE_WRITE);
}

std::byte* CacheMemory::take() {
  return first_ + taken_.fetch_add(kChunkBytes, std::memory_order_relaxed);
}

}  // namespace basalt::blobfs
