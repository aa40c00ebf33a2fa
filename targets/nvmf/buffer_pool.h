// BufferPool: the memory of commands' data on one reactor.
//
// Buffers of two sizes, a command's capsule and its largest transfer, taken from arenas that are registered with the
// Context, so that devices use them as they are. The pool grows as far as its limit; beyond that a taker waits, or, if he
// must get on, takes one all the same: he says so with Need::must, which callers bound to one for each of their
// connections. So the memory is at most the limit and what that adds.
//
// Threads: one, the reactor's.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "mem/arena.h"

namespace basalt::nvmf {

class BufferPool {
 public:
  static constexpr size_t kSmallBytes = 8192;
  static constexpr size_t kLargeBytes = 128 * 1024;  // no transfer is longer

  enum class Need : uint8_t { may_wait, must };

  BufferPool(Context& context, size_t limit_bytes) : context_(context), limit_bytes_(limit_bytes) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;

  // A buffer of at least `bytes`, 4096-byte aligned; empty: there is none at present (Need::may_wait) or no memory.
  std::span<std::byte> take(size_t bytes, Need need) noexcept;
  // `buffer` as take() gave it.
  void give(std::span<std::byte> buffer) noexcept;
  size_t memory_bytes() const { return memory_bytes_; }
  // What is there already stays.
  void set_limit(size_t bytes) { limit_bytes_ = bytes; }

 private:
  struct Size {
    std::vector<std::byte*> free;
    size_t taken = 0;
  };
  static constexpr size_t bytes_of(size_t size) { return size == 0 ? kSmallBytes : kLargeBytes; }
  bool grow(size_t size, Need need) noexcept;

  Context& context_;
  size_t limit_bytes_;
  size_t memory_bytes_ = 0;
  std::array<Size, 2> sizes_;
  std::vector<std::unique_ptr<Arena>> arenas_;
};

}  // namespace basalt::nvmf
