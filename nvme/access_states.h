// What a controller's ANA log page says of each namespace. The page is the controller's: checked, not believed.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>

#include "wire/nvme/asymmetric_access.h"
#include "wire/nvme/identify.h"

namespace basalt::nvme {

using AccessStates = std::map<uint32_t, AccessState>;  // by namespace

// Bytes the page has at most, a multiple of four.
uint64_t access_log_bytes(const IdentifyController& controller);
// Namespaces with a state no specification knows are taken for inaccessible. corruption: the page says it has more
// than it has.
Result<AccessStates> parse_access_log(std::span<const std::byte> page);

}  // namespace basalt::nvme
