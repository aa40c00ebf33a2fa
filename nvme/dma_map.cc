// See dma_map.h.
#include "nvme/dma_map.h"

namespace basalt::nvme {

DmaMap::DmaMap(PciFunction& function, MemoryMap& memory, LogSink& log)
    : function_(function), memory_(memory), log_(log) {
  memory_.add_listener(*this);
}

DmaMap::~DmaMap() { memory_.remove_listener(*this); }

void DmaMap::know(const DmaBuffer& own) {
  own_ = own.bytes();
  own_iova_ = own.iova();
}

uint64_t DmaMap::iova(const void* address, size_t bytes) const noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const auto own = reinterpret_cast<uintptr_t>(own_.data());
  if (begin >= own && begin - own < own_.size() && bytes <= own_.size() - (begin - own)) {
    return own_iova_ + (begin - own);
  }
  const uint32_t index = memory_.find(address, bytes);
  if (index == MemoryMap::kNotFound) return kUnmapped;
  const Mapping& mapping = mappings_[index];
  if (!mapping.mapped.load(std::memory_order_relaxed)) return kUnmapped;
  return begin + mapping.offset.load(std::memory_order_relaxed);
}

// Before the region can be found: the map's own publication orders these stores before any iova().
void DmaMap::region_added(const MemoryRegion& region) {
  Mapping& mapping = mappings_[region.index];
  const Result<uint64_t> iova =
      function_.map_dma({{region.base, region.bytes}, region.fd, region.fd_offset});
  mapping.mapped.store(iova.has_value(), std::memory_order_relaxed);
  if (iova) {
    mapping.offset.store(*iova - reinterpret_cast<uintptr_t>(region.base),
                         std::memory_order_relaxed);
    return;
  }
  log_.log(LogLevel::warning, "nvme",
           function_.name() + ": commands with data in a region of " +
               std::to_string(region.bytes) + " B will be refused: " + iova.error().to_string());
}

void DmaMap::region_removed(const MemoryRegion& region) {
  Mapping& mapping = mappings_[region.index];
  if (!mapping.mapped.exchange(false, std::memory_order_relaxed)) return;
  const uint64_t iova =
      reinterpret_cast<uintptr_t>(region.base) + mapping.offset.load(std::memory_order_relaxed);
  if (Status status = function_.unmap_dma(iova, region.bytes); !status.ok()) {
    log_.log(LogLevel::warning, "nvme", status.to_string());
  }
}

}  // namespace basalt::nvme
