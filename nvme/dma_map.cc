// See dma_map.h.
#include "nvme/dma_map.h"

#include <algorithm>
#include <span>

namespace basalt::nvme {

DmaMap::DmaMap(PciFunction& function, MemoryMap& memory, LogSink& log)
    : function_(function),
      part_bytes_(function.contiguous_dma_bytes()),
      memory_(memory),
      log_(log) {
  memory_.add_listener(*this);
}

DmaMap::~DmaMap() { memory_.remove_listener(*this); }

void DmaMap::know(const DmaBuffer& own) {
  own_ = own.bytes();
  own_iova_ = own.iova();
}

DmaMap::Piece DmaMap::find(const void* address, size_t bytes) const noexcept {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  const auto own = reinterpret_cast<uintptr_t>(own_.data());
  if (begin >= own && begin - own < own_.size() && bytes <= own_.size() - (begin - own)) {
    return {own_iova_ + (begin - own), bytes};
  }
  const uint32_t index = memory_.find(address, bytes);
  if (index == MemoryMap::kNotFound) return {};
  const Mapping& mapping = mappings_[index];
  if (!mapping.mapped.load(std::memory_order_relaxed)) return {};
  if (part_bytes_ != 0) return find_in_parts(mapping, begin, bytes);
  return {begin + mapping.offset.load(std::memory_order_relaxed), bytes};
}

DmaMap::Piece DmaMap::find_in_parts(const Mapping& mapping, uintptr_t begin,
                                    size_t bytes) const noexcept {
  size_t part = (begin - mapping.base) / part_bytes_;
  const size_t skip = (begin - mapping.base) % part_bytes_;
  const Piece first{mapping.parts[part] + skip, std::min(bytes, part_bytes_ - skip)};
  Piece piece = first;
  while (piece.bytes < bytes && mapping.parts[part + 1] == mapping.parts[part] + part_bytes_) {
    ++part;
    piece.bytes += std::min(bytes - piece.bytes, part_bytes_);
  }
  return piece;
}

Status DmaMap::map_parts(const MemoryRegion& region, Mapping& mapping) {
  mapping.base = reinterpret_cast<uintptr_t>(region.base);
  mapping.parts.clear();
  const std::span<std::byte> memory{region.base, region.bytes};
  for (size_t at = 0; at < memory.size(); at += part_bytes_) {
    const auto part = memory.subspan(at, std::min(part_bytes_, memory.size() - at));
    Result<uint64_t> iova = function_.map_dma({part, region.fd, region.fd_offset + at});
    if (!iova) {
      unmap_parts(region, mapping);
      return iova.error();
    }
    mapping.parts.push_back(*iova);
  }
  return {};
}

void DmaMap::unmap_parts(const MemoryRegion& region, Mapping& mapping) {
  for (size_t i = 0; i < mapping.parts.size(); ++i) {
    unmap(mapping.parts[i], std::min(part_bytes_, region.bytes - i * part_bytes_));
  }
  mapping.parts.clear();
}

void DmaMap::unmap(uint64_t iova, size_t bytes) {
  if (Status status = function_.unmap_dma(iova, bytes); !status.ok()) {
    log_.log(LogLevel::warning, "nvme", status.to_string());
  }
}

// Before the region can be found: the map's own publication orders these stores before any iova().
void DmaMap::region_added(const MemoryRegion& region) {
  Mapping& mapping = mappings_[region.index];
  Status mapped;
  if (part_bytes_ != 0) {
    mapped = map_parts(region, mapping);
  } else if (const Result<uint64_t> iova =
                 function_.map_dma({{region.base, region.bytes}, region.fd, region.fd_offset})) {
    mapping.offset.store(*iova - reinterpret_cast<uintptr_t>(region.base),
                         std::memory_order_relaxed);
  } else {
    mapped = iova.error();
  }
  mapping.mapped.store(mapped.ok(), std::memory_order_relaxed);
  if (mapped.ok()) return;
  log_.log(LogLevel::warning, "nvme",
           function_.name() + ": commands with data in a region of " +
               std::to_string(region.bytes) + " B will be refused: " + mapped.to_string());
}

void DmaMap::region_removed(const MemoryRegion& region) {
  Mapping& mapping = mappings_[region.index];
  if (!mapping.mapped.exchange(false, std::memory_order_relaxed)) return;
  if (part_bytes_ != 0) return unmap_parts(region, mapping);
  unmap(reinterpret_cast<uintptr_t>(region.base) + mapping.offset.load(std::memory_order_relaxed),
        region.bytes);
}

}  // namespace basalt::nvme
