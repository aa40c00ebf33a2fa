// FrozenDisk: a disk at one moment, and every state in which power loss may leave it.
//
// What is durable survives. Of the unflushed writes each atomic unit survives or not, each on its own; of
// several that hit the same blocks, the one executed last wins among those that do. A state is a
// *selection*: one bit per unit, in order of execution. `hash` tells states apart by the bytes of the
// whole disk; hashes of several frozen disks of one size may be compared.
// Copies share their bytes. Made by SimDisk; immutable; one thread at a time, as SimImage.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/sim_image.h"

namespace basalt::sim {

class FrozenDisk {
 public:
  using Selection = std::vector<bool>;
  // The part of an unflushed write that survives or is lost as a whole.
  struct Unit {
    uint64_t write = 0;   // which of the unflushed writes
    uint64_t offset = 0;  // on the disk, in bytes
    uint64_t begin = 0;   // in the write's bytes
    uint64_t length = 0;
    std::shared_ptr<const std::vector<std::byte>> bytes;
  };

  FrozenDisk(SimImage durable, uint32_t block_bytes, std::vector<Unit> units);

  const std::vector<Unit>& units() const { return units_; }
  // How many unflushed writes there are, each of one unit or more.
  size_t write_count() const { return units_.empty() ? 0 : units_.back().write + 1; }
  // A selection of whole writes: bit w of `kept_writes`, or all beyond 64 lost.
  Selection select_writes(uint64_t kept_writes) const;

  SimImage survivor(const Selection& kept) const;
  uint64_t hash(const Selection& kept) const;

 private:
  uint64_t block_hash(uint64_t offset, std::span<const std::byte> bytes) const;

  SimImage durable_;
  const uint32_t block_bytes_;
  const std::vector<Unit> units_;
  uint64_t durable_hash_ =
      0;  // the sum over all blocks, so that one block's change is a difference
};

}  // namespace basalt::sim
