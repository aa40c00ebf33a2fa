#include "blobfs/io_buffers.h"

#include "base/sync.h"

#include <new>

namespace basalt::blobfs {

namespace {

constexpr std::align_val_t kAlignment{4096};

std::byte* allocate(size_t bytes) {
  return static_cast<std::byte*>(::operator new(bytes, kAlignment));
}
void release(std::byte* data) { ::operator delete(data, kAlignment); }

}  // namespace

IoBuffers::~IoBuffers() {
  for (Slots* slots : {&small_, &large_}) {
    for (auto& slot : *slots) {
      if (std::byte* data = slot.load()) release(data);
    }
  }
}

IoBuffers::Lease::~Lease() {
  if (!bytes_.empty()) owner_->give_back(bytes_);
}

IoBuffers::Slots* IoBuffers::slots_for(size_t bytes) {
  if (bytes == kSmallBytes) return &small_;
  if (bytes == kLargeBytes) return &large_;
  return nullptr;
}

IoBuffers::Lease IoBuffers::take(size_t bytes) {
  const size_t size = bytes <= kSmallBytes   ? kSmallBytes
                      : bytes <= kLargeBytes ? kLargeBytes
                                             : (bytes + 4095) / 4096 * 4096;
  if (Slots* slots = slots_for(size)) {
    const unsigned start = current_core();
    for (unsigned i = 0; i < kSlots; ++i) {
      auto& slot = (*slots)[(start + i) % kSlots];
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      if (std::byte* data = slot.exchange(nullptr, std::memory_order_acquire)) {
        return Lease(this, {data, size});
      }
    }
  }
  return Lease(this, {allocate(size), size});
}

void IoBuffers::give_back(std::span<std::byte> bytes) {
  if (Slots* slots = slots_for(bytes.size())) {
    const unsigned start = current_core();
    for (unsigned i = 0; i < kSlots; ++i) {
      std::byte* expected = nullptr;
      auto& slot = (*slots)[(start + i) % kSlots];
      if (slot.load(std::memory_order_relaxed) != nullptr) continue;
      if (slot.compare_exchange_strong(expected, bytes.data(), std::memory_order_release)) return;
    }
  }
  release(bytes.data());
}

}  // namespace basalt::blobfs
