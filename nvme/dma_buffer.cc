// See dma_buffer.h.
#include "nvme/dma_buffer.h"

#include <algorithm>

#include "base/try.h"

namespace basalt::nvme {

Result<DmaBuffer> DmaBuffer::create(PciFunction& function, size_t bytes) {
  // Without an IOMMU only hugepages stay where they are.
  const bool needs_hugepages = function.contiguous_dma_bytes() != 0;
  bytes = std::max(bytes, function.contiguous_dma_bytes());
  const Hugepages hugepages = needs_hugepages ? Hugepages::required : Hugepages::preferred;
  BASALT_TRY_ASSIGN(std::unique_ptr<Arena> arena,
                    Arena::create({.name = "basalt-nvme", .bytes = bytes, .hugepages = hugepages}));
  BASALT_TRY_ASSIGN(const uint64_t iova, function.map_dma({arena->memory(), arena->fd(), 0}));
  return DmaBuffer(function, std::move(arena), iova);
}

DmaBuffer& DmaBuffer::operator=(DmaBuffer&& other) noexcept {
  std::swap(function_, other.function_);
  std::swap(arena_, other.arena_);
  std::swap(iova_, other.iova_);
  return *this;
}

DmaBuffer::~DmaBuffer() {
  if (function_ == nullptr) return;
  // A function that cannot undo a mapping is gone, and its mappings with it.
  [[maybe_unused]] const Status ignored = function_->unmap_dma(iova_, bytes().size());
}

}  // namespace basalt::nvme
