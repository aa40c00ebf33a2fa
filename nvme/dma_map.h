// DmaMap: which addresses one controller uses for this process's memory.
//
// Follows the memory map: each region registered there is mapped for the function, and found again
// by index without a lock. One buffer of the controller's own, for admin commands, is known beside them.
// Thread rules: iova() from any thread, between a MemoryUser's enter() and leave() for registered memory; the
// rest belongs to whoever opens and closes the controller.
#pragma once

#include <basalt/context.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mem/memory_map.h"
#include "nvme/dma_buffer.h"
#include "nvme/pci_function.h"

namespace basalt::nvme {

class DmaMap : private MemoryListener {
 public:
  static constexpr uint64_t kUnmapped = ~uint64_t{0};

  // Maps what is registered now; what cannot be mapped is said to `log` and answers kUnmapped.
  DmaMap(PciFunction& function, MemoryMap& memory, LogSink& log);
  ~DmaMap();
  DmaMap(const DmaMap&) = delete;
  DmaMap& operator=(const DmaMap&) = delete;

  // Data of the controller's own, mapped already, which stays until this goes.
  void know(const DmaBuffer& own);

  // What the device calls a piece of this process's memory.
  struct Piece {
    uint64_t iova = kUnmapped;
    size_t bytes = 0;
  };
  // The longest piece from `address` on, `bytes` at most, that is contiguous for the device: all of it, unless the function
  // says otherwise (PciFunction::contiguous_dma_bytes).
  Piece find(const void* address, size_t bytes) const noexcept;
  // The address of all of [address, address + bytes); kUnmapped also where it is not contiguous for the device.
  uint64_t iova(const void* address, size_t bytes) const noexcept {
    const Piece piece = find(address, bytes);
    return piece.bytes == bytes ? piece.iova : kUnmapped;
  }

 private:
  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

  // What to add to an address of the region; valid while the region can be found.
  struct Mapping {
    std::atomic<uint64_t> offset{0};
    std::atomic<bool> mapped{false};
    // The addresses of its parts of `part_bytes_`, where there are such.
    uintptr_t base = 0;
    std::vector<uint64_t> parts;
  };
  Status map_parts(const MemoryRegion& region, Mapping& mapping);
  void unmap(uint64_t iova, size_t bytes);
  void unmap_parts(const MemoryRegion& region, Mapping& mapping);
  Piece find_in_parts(const Mapping& mapping, uintptr_t begin, size_t bytes) const noexcept;

  PciFunction& function_;
  const size_t part_bytes_;  // of a region that are mapped at once; 0: all
  MemoryMap& memory_;
  LogSink& log_;
  std::span<std::byte> own_;
  uint64_t own_iova_ = 0;
  std::array<Mapping, MemoryMap::kMaxRegions> mappings_;
};

}  // namespace basalt::nvme
