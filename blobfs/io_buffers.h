// IoBuffers: aligned buffers for transfers, kept for reuse.
//
// A buffer is taken for one operation and given back when its Lease ends. A few of each size are kept
// in slots spread over the cores and exchanged without a lock; beyond those the heap serves. Aligned to
// 4 KiB; the content is whatever it was.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <span>
#include <utility>

namespace basalt::blobfs {

class IoBuffers {
 public:
  static constexpr size_t kSmallBytes = 64 * 1024;
  static constexpr size_t kLargeBytes = 1024 * 1024;

  IoBuffers() = default;
  ~IoBuffers();
  IoBuffers(const IoBuffers&) = delete;
  IoBuffers& operator=(const IoBuffers&) = delete;

  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept : owner_(other.owner_), bytes_(std::exchange(other.bytes_, {})) {}
    Lease& operator=(Lease&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Lease();
    std::span<std::byte> span() const { return bytes_; }
    std::span<std::byte> first(size_t count) const { return bytes_.first(count); }

   private:
    friend class IoBuffers;
    Lease(IoBuffers* owner, std::span<std::byte> bytes) : owner_(owner), bytes_(bytes) {}
    IoBuffers* owner_ = nullptr;
    std::span<std::byte> bytes_;
  };

  // At least `bytes` long; any size, those up to kLargeBytes are reused.
  Lease take(size_t bytes);

 private:
  static constexpr unsigned kSlots = 16;
  using Slots = std::array<std::atomic<std::byte*>, kSlots>;
  Slots* slots_for(size_t bytes);
  void give_back(std::span<std::byte> bytes);

  Slots small_{};
  Slots large_{};
};

}  // namespace basalt::blobfs
