// See buffer_pool.h.
#include "targets/nvmf/buffer_pool.h"

#include <algorithm>

#include "base/check.h"

namespace basalt::nvmf {

namespace {
constexpr size_t kChunkBytes = size_t{4} << 20;  // of growth; untouched pages cost nothing
}

BufferPool::~BufferPool() {
  for (const Size& size : sizes_) {
    BASALT_CHECK(size.taken == 0, "buffers are given back before their pool goes");
  }
}

bool BufferPool::grow(size_t size, Need need) noexcept {
  constexpr size_t bytes = kChunkBytes;
  if (need == Need::may_wait && memory_bytes_ + bytes > limit_bytes_) return false;
  ArenaOptions options{.name = "basalt-nvmf", .bytes = bytes, .map = &context_.memory()};
  auto arena = Arena::create(options);
  if (!arena) {
    options.map = nullptr;  // the map may be full: devices that need it there copy
    arena = Arena::create(options);
  }
  if (!arena) return false;
  const std::span<std::byte> memory = (*arena)->memory();
  arenas_.push_back(std::move(*arena));
  memory_bytes_ += bytes;
  Size& list = sizes_[size];
  list.free.reserve(list.free.size() + list.taken + bytes / bytes_of(size));
  for (size_t at = 0; at + bytes_of(size) <= bytes; at += bytes_of(size)) {
    list.free.push_back(memory.data() + at);
  }
  return true;
}

std::span<std::byte> BufferPool::take(size_t bytes, Need need) noexcept {
  const size_t size = bytes <= kSmallBytes ? 0 : 1;
  BASALT_CHECK(bytes <= kLargeBytes, "no transfer is longer than a large buffer");
  Size& list = sizes_[size];
  if (list.free.empty() && !grow(size, Need::may_wait) &&
      (need == Need::may_wait || !grow(size, Need::must))) {
    return {};
  }
  std::byte* const memory = list.free.back();
  list.free.pop_back();
  ++list.taken;
  return {memory, bytes_of(size)};
}

void BufferPool::give(std::span<std::byte> buffer) noexcept {
  Size& list = sizes_[buffer.size() == kSmallBytes ? 0 : 1];
  list.free.push_back(buffer.data());
  --list.taken;
}

}  // namespace basalt::nvmf
