// Asymmetric namespace access (ANA): how well, or whether at all, a namespace is reached through one controller.
//
// NVM Express base specification 2.0: ANA reporting (§8.1), the log page (§5.16.1.13), its states (§8.1.3).
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

enum class AccessState : uint8_t {
  optimized = 0x1,
  non_optimized = 0x2,
  inaccessible = 0x3,
  persistent_loss = 0x4,
  change = 0xf,  // from one state to another; commands are refused meanwhile
};

// LogPage::asymmetric_access: this, then a group and its namespaces' ids, again and again.
struct AccessLogHeader {
  le64 change_count;
  le16 groups;
  uint8_t reserved10[6];
};
struct AccessGroup {
  le32 id;
  le32 namespaces;  // ids that follow, of 32 bits
  le64 change_count;
  uint8_t state;  // bits 3:0: AccessState
  uint8_t reserved17[15];
};
static_assert(sizeof(AccessLogHeader) == 16 && sizeof(AccessGroup) == 32 &&
              std::has_unique_object_representations_v<AccessGroup>);

// IdentifyController::multipath (CMIC).
inline constexpr uint8_t kReportsAccess = 1 << 3;
// IdentifyNamespace::multipath (NMIC): more than one controller may have it.
inline constexpr uint8_t kSharedNamespace = 1 << 0;

}  // namespace basalt::nvme
