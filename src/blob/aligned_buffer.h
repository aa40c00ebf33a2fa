// AlignedBuffer: memory a device can transfer to and from without bouncing (4 KiB aligned), zeroed.
#pragma once

#include "blob/extent_map.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace basalt::blob {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes)
      : bytes_((bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes),
        data_(static_cast<std::byte*>(::operator new (bytes_, std::align_val_t{kBlockBytes}))) {
    std::memset(data_.get(), 0, bytes_);
  }
  std::byte* data() const { return data_.get(); }
  size_t size() const { return bytes_; }
  std::span<std::byte> span() const { return {data_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{kBlockBytes}); }
  };
  size_t bytes_ = 0;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace basalt::blob
