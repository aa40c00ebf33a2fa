// NamespaceInfo: what the driver's users want to know of a namespace, from its identify data.
//
// NVM command set specification 1.0, §4.1.5 (identify), §2.1.4 (atomic writes). Pure functions: the data is
// the controller's and is checked, not believed.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "wire/nvme/identify.h"
#include "wire/nvme/zoned.h"

namespace basalt::nvme {

struct NamespaceInfo {
  uint32_t nsid = 0;
  CommandSet command_set = CommandSet::nvm;
  uint64_t zone_blocks = 0;       // of a zoned namespace: from one zone's first block to the next's
  uint32_t max_active_zones = 0;  // 0: no limit, as with the next
  uint32_t max_open_zones = 0;
  uint64_t block_count = 0;
  uint32_t block_bytes = 0;
  uint32_t metadata_bytes = 0;        // per block
  bool metadata_interleaved = false;  // it follows each block's data instead of lying apart
  uint8_t protection_type = 0;        // end-to-end protection: 0 none, 1 … 3
  // All of the metadata is protection information, which the controller can make and check by itself.
  bool only_protection() const {
    constexpr uint32_t kSmallest = 8;  // with a guard of 16 bits; the longer ones take 16 B
    return protection_type >= 1 && protection_type <= 3 && metadata_bytes == kSmallest;
  }
  uint32_t atomic_write_blocks = 1;  // that power loss does not tear, wherever they lie …
  uint32_t atomic_boundary_blocks =
      0;  // … unless they cross a multiple of this; 0: no such boundary
  uint32_t compare_and_write_blocks =
      0;                            // that a fused compare and write does at once; 0: not at all
  uint32_t optimal_io_blocks = 0;   // reads and writes are better off not crossing it; 0: not said
  std::array<uint8_t, 16> nguid{};  // zero: none
  std::array<uint8_t, 8> eui64{};   // zero: none
  std::array<uint8_t, 16> uuid{};   // zero: none
};

// Whether they are one namespace, whatever its size.
bool has_same_identity(const NamespaceInfo& before, const NamespaceInfo& now);
// Whether `now`, found under the same number, is the namespace that `before` was, with all the blocks it had.
bool is_same_namespace(const NamespaceInfo& before, const NamespaceInfo& now);

// Adds what a namespace's list of descriptors (IdentifyKind::namespace_descriptors) says: its command set, nvm unless one
// of them says otherwise, and its UUID. corruption: a descriptor that does not fit.
Status add_descriptors(NamespaceInfo& info, std::span<const std::byte> descriptors);
// Adds what a zoned namespace says of its zones. corruption: zones of no blocks, or more than the namespace has.
Status add_zones(NamespaceInfo& info, const IdentifyNamespace& data,
                 const IdentifyZonedNamespace& zoned);

// not_found for a namespace that is not active; corruption for data that makes no sense, naming the field.
Result<NamespaceInfo> namespace_info(uint32_t nsid, const IdentifyController& controller,
                                     const IdentifyNamespace& data);

}  // namespace basalt::nvme
