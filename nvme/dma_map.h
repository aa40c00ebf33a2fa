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

  // The device's address of [address, address + bytes), which is contiguous for the device as it is here; or
  // kUnmapped.
  uint64_t iova(const void* address, size_t bytes) const noexcept;

 private:
  void region_added(const MemoryRegion& region) override;
  void region_removed(const MemoryRegion& region) override;

  // What to add to an address of the region; valid while the region can be found.
  struct Mapping {
    std::atomic<uint64_t> offset{0};
    std::atomic<bool> mapped{false};
  };

  PciFunction& function_;
  MemoryMap& memory_;
  LogSink& log_;
  std::span<std::byte> own_;
  uint64_t own_iova_ = 0;
  std::array<Mapping, MemoryMap::kMaxRegions> mappings_;
};

}  // namespace basalt::nvme
