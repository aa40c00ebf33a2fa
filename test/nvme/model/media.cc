// See media.h.
#include "nvme/model/media.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace basalt::nvme::model {

Media::Media(const NamespaceOptions& options) : options_(options) {
  BASALT_CHECK(options.block_size == 512 || options.block_size == 4096,
               "the model has blocks of 512 and 4096 bytes");
  BASALT_CHECK(options.block_count > 0, "a namespace has blocks");
  allocate();
}

Media::~Media() { release(); }

void Media::allocate() {
  if (is_null()) return;
  void* memory = ::mmap(nullptr, size_bytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  BASALT_CHECK(memory != MAP_FAILED, "no address space for a namespace");
  memory_ = static_cast<std::byte*>(memory);
}

void Media::release() {
  if (memory_ != nullptr) ::munmap(memory_, size_bytes());
  memory_ = nullptr;
  durable_.clear();
  uncorrectable_.clear();
}

std::span<std::byte> Media::bytes(uint64_t first, uint64_t count) {
  if (is_null()) return {};
  return {memory_ + first * options_.block_size, count * options_.block_size};
}

std::span<std::byte> Media::change(uint64_t first, uint64_t count, Durability durability) {
  const std::span<std::byte> range = bytes(first, count);
  if (!uncorrectable_.empty()) {
    uncorrectable_.erase(uncorrectable_.lower_bound(first),
                         uncorrectable_.lower_bound(first + count));
  }
  if (range.empty() || (durability == Durability::durable && durable_.empty())) return range;
  for (uint64_t block = first; block < first + count; ++block) {
    if (durability == Durability::durable) {
      durable_.erase(block);
    } else if (auto [kept, fresh] = durable_.try_emplace(block); fresh) {
      const auto old = bytes(block, 1);
      kept->second.assign(old.begin(), old.end());
    }
  }
  return range;
}

void Media::zero(uint64_t first, uint64_t count, Durability durability) {
  const std::span<std::byte> range = change(first, count, durability);
  std::fill(range.begin(), range.end(), std::byte{0});
}

void Media::make_uncorrectable(uint64_t first, uint64_t count) {
  for (uint64_t block = first; block < first + count; ++block) uncorrectable_.insert(block);
}

bool Media::has_uncorrectable(uint64_t first, uint64_t count) const {
  if (uncorrectable_.empty()) return false;
  const auto found = uncorrectable_.lower_bound(first);
  return found != uncorrectable_.end() && *found < first + count;
}

void Media::power_cut() {
  for (const auto& [block, old] : durable_) {
    std::memcpy(bytes(block, 1).data(), old.data(), old.size());
  }
  durable_.clear();
}

void Media::format(uint32_t block_size) {
  const size_t size = size_bytes();
  release();
  options_.block_size = block_size;
  options_.block_count = std::max<uint64_t>(size / block_size, 1);
  allocate();
}

void Media::resize(uint64_t block_count) {
  BASALT_CHECK(block_count > 0, "a namespace has blocks");
  std::byte* const old = memory_;
  const size_t old_bytes = size_bytes();
  std::erase_if(durable_, [&](const auto& entry) { return entry.first >= block_count; });
  uncorrectable_.erase(uncorrectable_.lower_bound(block_count), uncorrectable_.end());
  options_.block_count = block_count;
  allocate();
  if (old == nullptr) return;
  std::memcpy(memory_, old, std::min(old_bytes, size_bytes()));
  ::munmap(old, old_bytes);
}

}  // namespace basalt::nvme::model
