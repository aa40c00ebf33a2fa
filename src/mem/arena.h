// Arena: one piece of memory that devices and other processes can share, and an allocator over it.
//
// The memory is a memfd mapped once, so its file descriptor can be handed to vfio-user and vhost
// peers. Hugepages and a NUMA node are used when asked for and there; without them the arena is
// made of ordinary pages and says so. The whole arena is one region of the MemoryMap when one is
// given. Buffers come from a first-fit free list, for pools and caches that allocate at start-up,
// not per I/O. Every Buffer must be gone before its Arena. Thread rules: allocate() and the
// destruction of Buffers from any thread.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/sync.h"

namespace basalt {

class Arena;
class MemoryMap;

// Memory taken from an Arena; gives it back when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  std::span<std::byte> span() const { return bytes_; }
  explicit operator bool() const { return arena_ != nullptr; }

 private:
  friend class Arena;
  Buffer(Arena& arena, std::span<std::byte> bytes) : arena_(&arena), bytes_(bytes) {}

  Arena* arena_ = nullptr;
  std::span<std::byte> bytes_;
};

enum class Hugepages {
  no,
  preferred,  // ordinary pages when there are none, or the arena is smaller than one
  required,   // no_space when there are none; the arena is whole ones
};

struct ArenaOptions {
  std::string name = "basalt";  // shown in /proc/<pid>/maps
  size_t bytes = 0;             // rounded up to whole pages
  Hugepages hugepages = Hugepages::preferred;
  int numa_node = -1;        // prefer this node's memory; -1: the kernel's choice
  MemoryMap* map = nullptr;  // register the arena here; null: nowhere
};

class Arena {
 public:
  static constexpr size_t kHugepageBytes = size_t{2} << 20;

  // Errors: invalid_argument; no_space, also when hugepages are required and there are not enough.
  static Result<std::unique_ptr<Arena>> create(const ArenaOptions& options);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `alignment` is a power of two, at most the page size. The contents are what was there before.
  // Errors: invalid_argument, no_space (naming the largest free piece).
  Result<Buffer> allocate(size_t bytes, size_t alignment = 4096);

  std::span<std::byte> memory() const { return memory_; }
  int fd() const { return fd_; }
  size_t page_bytes() const { return page_bytes_; }  // 2 MiB when hugepages were there
  size_t free_bytes() const;

 private:
  friend class Buffer;
  Arena(int fd, std::span<std::byte> memory, size_t page_bytes);
  void release(std::span<std::byte> bytes) noexcept;

  const int fd_;
  const std::span<std::byte> memory_;
  const size_t page_bytes_;
  MemoryMap* map_ = nullptr;
  uint32_t region_ = 0;

  mutable Mutex mutex_;            // protects free_
  std::map<size_t, size_t> free_;  // offset → bytes; neighbours are always joined
};

}  // namespace basalt
