// The two superblocks: reading, judging, writing.
//
// A flip writes the slot that holds the older of the two, so a complete starting point always exists.
// parse() is pure and treats its input as foreign bytes.
#pragma once

#include <basalt/device.h>
#include <basalt/status.h>

#include "blob/format.h"

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace basalt::blob {

// Validates 4096 bytes read from slot `slot` of a device of `device_bytes`.
Result<Superblock> parse_superblock(std::span<const std::byte> bytes, unsigned slot,
                                    uint64_t device_bytes);

struct SuperblockPair {
  std::array<std::optional<Superblock>, 2> slots;
  std::array<Status, 2> problems;  // why a slot is not usable
  // The slot to start from, by generation; none when neither is usable.
  std::optional<unsigned> newest() const;
};
// A superblock whose generation is not the one before the newest is not usable: it is left from an earlier
// flip, and what it needs may be gone.
Result<SuperblockPair> read_superblocks(Channel& channel, const DeviceInfo& info);

// Clusters that are neither free nor any blob's.
struct FixedRegion {
  const char* name;
  uint64_t first_cluster, count;
};
std::vector<FixedRegion> fixed_regions(const Superblock& superblock);

// Writes `superblock` (its checksum is filled in) durably to the slot of its generation.
Status write_superblock(Channel& channel, const DeviceInfo& info, Superblock& superblock);

}  // namespace basalt::blob
