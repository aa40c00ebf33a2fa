// DmaBuffer: memory of the driver's own that one function's device reaches: rings, lists, admin data.
//
// A memfd, so that a device in another process can reach it too, of hugepages where it is large and there are
// some. Mapped for as long as it lives; contiguous for the device.
// Threads: whoever owns it.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "mem/arena.h"
#include "nvme/pci_function.h"

namespace basalt::nvme {

class DmaBuffer {
 public:
  // At least `bytes`, in whole pages, zeroed.
  static Result<DmaBuffer> create(PciFunction& function, size_t bytes);
  DmaBuffer() = default;
  DmaBuffer(DmaBuffer&& other) noexcept
      : function_(std::exchange(other.function_, nullptr)),
        arena_(std::move(other.arena_)),
        iova_(other.iova_) {}
  DmaBuffer& operator=(DmaBuffer&& other) noexcept;
  // The device must not use it any more.
  ~DmaBuffer();

  std::span<std::byte> bytes() const { return arena_ ? arena_->memory() : std::span<std::byte>(); }
  uint64_t iova() const { return iova_; }

 private:
  DmaBuffer(PciFunction& function, std::unique_ptr<Arena> arena, uint64_t iova)
      : function_(&function), arena_(std::move(arena)), iova_(iova) {}

  PciFunction* function_ = nullptr;
  std::unique_ptr<Arena> arena_;
  uint64_t iova_ = 0;
};

}  // namespace basalt::nvme
