#include "blobfs/large_pages.h"

#include <sys/mman.h>

#include <memory>

namespace basalt::blobfs {

LargePages::~LargePages() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapping_bytes_);
}

bool LargePages::reserve(uint64_t bytes) {
  mapping_bytes_ = bytes + kBytes;
  void* memory = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  mapping_ = static_cast<std::byte*>(memory);
  size_t space = mapping_bytes_;
  begin_ = static_cast<std::byte*>(std::align(kBytes, bytes, memory, space));
  ::madvise(begin_, bytes / kBytes * kBytes, MADV_HUGEPAGE);
  return true;
}

}  // namespace basalt::blobfs
