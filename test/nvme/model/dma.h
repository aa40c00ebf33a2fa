// DmaTable: the memory a ControllerModel can reach, by the address the device uses for it.
//
// A sorted array of mappings; a lookup tries the mapping that was hit last, then searches by halves.
// Mappings do not overlap. Two mappings whose addresses meet are not one: a piece that crosses the
// border is found in two parts. The bytes stay their owner's and must outlive the mapping.
// Thread rules: not synchronised; the model calls it under its lock, so that unmap() returns when
// nothing uses the memory any more.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace basalt::nvme::model {

class DmaTable {
 public:
  // already_exists when it overlaps another; invalid_argument when empty or beyond the 64-bit address
  // space.
  Status map(uint64_t iova, std::span<std::byte> bytes);
  // Exactly what was mapped by one map(); otherwise not_found.
  Status unmap(uint64_t iova, size_t bytes);

  // As much of [iova, iova + bytes) as lies in one mapping, from its beginning on; empty: nothing is there.
  std::span<std::byte> find(uint64_t iova, size_t bytes) const {
    if (last_hit_ >= mappings_.size() || !mappings_[last_hit_].contains(iova)) {
      if (!search(iova)) return {};
    }
    const Mapping& mapping = mappings_[last_hit_];
    const uint64_t offset = iova - mapping.iova;
    const uint64_t rest = mapping.bytes.size() - offset;
    return mapping.bytes.subspan(offset, bytes < rest ? bytes : rest);
  }
  // All of it, or null.
  std::byte* find_all(uint64_t iova, size_t bytes) const {
    const std::span<std::byte> found = find(iova, bytes);
    return found.size() == bytes ? found.data() : nullptr;
  }
  // Changes with each map() and unmap(): pointers from find() are good while it stays.
  uint64_t generation() const { return generation_; }
  size_t mapping_count() const { return mappings_.size(); }

 private:
  struct Mapping {
    uint64_t iova = 0;
    std::span<std::byte> bytes;
    bool contains(uint64_t address) const { return address - iova < bytes.size(); }
  };
  bool search(uint64_t iova) const;  // sets last_hit_

  std::vector<Mapping> mappings_;  // ascending
  mutable size_t last_hit_ = 0;
  uint64_t generation_ = 1;
};

}  // namespace basalt::nvme::model
