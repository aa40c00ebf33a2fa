// ZeroedMemory: for media of tests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

namespace basalt {

// Memory of zeroes that costs nothing before it is touched, unlike a vector's.
class ZeroedMemory {
 public:
  explicit ZeroedMemory(size_t bytes)
      : start_(static_cast<std::byte*>(std::calloc(std::max<size_t>(bytes, 1), 1))), bytes_(bytes) {
    if (start_ == nullptr) throw std::bad_alloc();
  }
  std::span<std::byte> span() const { return {start_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* start) const { std::free(start); }
  };
  const std::unique_ptr<std::byte, Free> start_;
  const size_t bytes_;
};

}  // namespace basalt
