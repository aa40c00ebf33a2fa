#include "mem/arena.h"

#include <linux/memfd.h>
#include <numa.h>
#include <numaif.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/try.h"
#include "mem/memory_map.h"

namespace basalt {
namespace {

// Buffers are handed out in steps of this, so that neighbours never share a cache line.
constexpr size_t kStep = 64;

size_t round_up(size_t value, size_t step) { return (value + step - 1) / step * step; }

struct Mapping {
  int fd = -1;
  std::span<std::byte> memory;
};

// A memfd of `bytes` with its mapping, or errno.
tl::expected<Mapping, int> map_memfd(const std::string& name, size_t bytes, unsigned flags) {
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC | flags);
  if (fd < 0) return tl::unexpected(errno);
  void* base = MAP_FAILED;
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (base == MAP_FAILED) {
    const int why = errno;
    close(fd);
    return tl::unexpected(why);
  }
  return Mapping{fd, {static_cast<std::byte*>(base), bytes}};
}

// Hugepages are reserved by mmap(), so a mapping that succeeds will not fault later for want of
// them.
tl::expected<Mapping, int> map_hugepages(const ArenaOptions& options) {
  if (options.hugepages == Hugepages::no ||
      (options.hugepages == Hugepages::preferred && options.bytes < Arena::kHugepageBytes)) {
    return tl::unexpected(EINVAL);
  }
  return map_memfd(options.name, round_up(options.bytes, Arena::kHugepageBytes),
                   MFD_HUGETLB | MFD_HUGE_2MB);
}

// Best effort: where the node does not exist, or the system has none, memory comes from anywhere.
void prefer_node(std::span<std::byte> memory, int node) {
  if (node < 0 || numa_available() < 0 || node > numa_max_node()) return;
  std::array<unsigned long, 16> nodes{};  // 1024 nodes, the kernel's largest configuration
  constexpr int kBits = 8 * sizeof(unsigned long);
  if (static_cast<size_t>(node / kBits) >= nodes.size()) return;
  nodes[static_cast<size_t>(node / kBits)] = 1ul << (node % kBits);
  mbind(memory.data(), memory.size(), MPOL_PREFERRED, nodes.data(), nodes.size() * kBits, 0);
}

}  // namespace

Buffer::Buffer(Buffer&& other) noexcept
    : arena_(std::exchange(other.arena_, nullptr)), bytes_(std::exchange(other.bytes_, {})) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  Buffer released(std::move(*this));
  std::swap(arena_, other.arena_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (arena_ != nullptr) arena_->release(bytes_);
}

Result<std::unique_ptr<Arena>> Arena::create(const ArenaOptions& options) {
  if (options.bytes == 0) {
    return error(StatusCode::invalid_argument, "arena " + options.name + ": 0 B make no arena");
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  size_t page_bytes = kHugepageBytes;
  auto mapping = map_hugepages(options);
  if (!mapping && options.hugepages == Hugepages::required) {
    return error(StatusCode::no_space,
                 "arena " + options.name + ": cannot map " + std::to_string(options.bytes) +
                     " B of hugepages: " + std::strerror(mapping.error()) +
                     "; there must be enough free ones of 2 MiB (/proc/sys/vm/nr_hugepages)");
  }
  if (!mapping) {
    page_bytes = page;
    mapping = map_memfd(options.name, round_up(options.bytes, page), 0);
  }
  if (!mapping) {
    return error(StatusCode::no_space, "arena " + options.name + ": cannot map " +
                                           std::to_string(options.bytes) +
                                           " B: " + std::strerror(mapping.error()));
  }
  prefer_node(mapping->memory, options.numa_node);
  std::unique_ptr<Arena> arena(new Arena(mapping->fd, mapping->memory, page_bytes));
  if (options.map != nullptr) {
    BASALT_TRY_ASSIGN(arena->region_, options.map->register_region(arena->memory_, arena->fd_));
    arena->map_ = options.map;
  }
  return arena;
}

Arena::Arena(int fd, std::span<std::byte> memory, size_t page_bytes)
    : fd_(fd), memory_(memory), page_bytes_(page_bytes) {
  free_.emplace(0, memory.size());
}

Arena::~Arena() {
  BASALT_CHECK(free_bytes() == memory_.size(),
               "an arena is destroyed while its buffers are in use");
  if (map_ != nullptr) {
    const Status status = map_->unregister_region(region_);
    BASALT_CHECK(status.ok(), "an arena is destroyed while I/O uses it");
  }
  munmap(memory_.data(), memory_.size());
  close(fd_);
}

Result<Buffer> Arena::allocate(size_t bytes, size_t alignment) {
  if (bytes == 0 || !std::has_single_bit(alignment) || alignment > page_bytes_) {
    return error(StatusCode::invalid_argument,
                 "arena: cannot allocate " + std::to_string(bytes) + " B aligned to " +
                     std::to_string(alignment) + "; need at least 1 B, and a power of two up to " +
                     std::to_string(page_bytes_));
  }
  if (bytes > memory_.size()) bytes = memory_.size() + 1;  // cannot fit; keeps round_up in range
  bytes = round_up(bytes, kStep);
  MutexLock lock(mutex_);
  size_t largest = 0;
  for (auto at = free_.begin(); at != free_.end(); ++at) {
    const auto [offset, size] = *at;
    const size_t start = round_up(offset, std::max(alignment, kStep));
    const size_t end = offset + size;
    largest = std::max(largest, size);
    if (start > end || end - start < bytes) continue;
    free_.erase(at);
    if (start > offset) free_.emplace(offset, start - offset);
    if (start + bytes < end) free_.emplace(start + bytes, end - start - bytes);
    return Buffer(*this, memory_.subspan(start, bytes));
  }
  return error(StatusCode::no_space, "arena of " + std::to_string(memory_.size()) +
                                         " B: no room for " + std::to_string(bytes) +
                                         " B; the largest free piece is " +
                                         std::to_string(largest) + " B");
}

void Arena::release(std::span<std::byte> bytes) noexcept {
  MutexLock lock(mutex_);
  const auto offset = static_cast<size_t>(bytes.data() - memory_.data());
  auto [at, added] = free_.emplace(offset, bytes.size());
  BASALT_CHECK(added, "a buffer is freed twice");
  if (auto next = std::next(at); next != free_.end() && offset + at->second == next->first) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at != free_.begin()) {
    if (auto previous = std::prev(at); previous->first + previous->second == offset) {
      previous->second += at->second;
      free_.erase(at);
    }
  }
}

size_t Arena::free_bytes() const {
  MutexLock lock(mutex_);
  size_t total = 0;
  for (const auto& [offset, bytes] : free_) total += bytes;
  return total;
}

}  // namespace basalt
