// See access_states.h.
#include "nvme/access_states.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace basalt::nvme {

namespace {

AccessState known(uint8_t state) {
  const auto value = static_cast<AccessState>(state & 0xf);
  switch (value) {
    case AccessState::optimized:
    case AccessState::non_optimized:
    case AccessState::persistent_loss:
    case AccessState::change: return value;
    default: return AccessState::inaccessible;
  }
}

}  // namespace

uint64_t access_log_bytes(const IdentifyController& controller) {
  const uint64_t most = controller.max_allowed_namespaces != 0 ? controller.max_allowed_namespaces
                                                               : controller.namespace_count;
  return sizeof(AccessLogHeader) + controller.access_groups * uint64_t{sizeof(AccessGroup)} +
         most * sizeof(le32);
}

Result<AccessStates> parse_access_log(std::span<const std::byte> page) {
  const auto too_short = [&](const std::string& what) {
    return error(StatusCode::corruption, "the ANA log page of " + std::to_string(page.size()) +
                                             " B is too short for " + what);
  };
  AccessLogHeader header;
  if (page.size() < sizeof header) return too_short("its header");
  std::memcpy(static_cast<void*>(&header), page.data(), sizeof header);
  std::span<const std::byte> rest = page.subspan(sizeof header);
  AccessStates states;
  for (unsigned i = 0; i < header.groups; ++i) {
    AccessGroup group;
    if (rest.size() < sizeof group) {
      return too_short(std::to_string(header.groups) + " groups");
    }
    std::memcpy(static_cast<void*>(&group), rest.data(), sizeof group);
    rest = rest.subspan(sizeof group);
    if (group.namespaces > rest.size() / sizeof(le32)) {
      return too_short("the " + std::to_string(group.namespaces) + " namespaces of group " +
                       std::to_string(group.id));
    }
    for (uint32_t n = 0; n < group.namespaces; ++n) {
      le32 nsid;
      std::memcpy(static_cast<void*>(&nsid), rest.data() + n * sizeof nsid, sizeof nsid);
      states[nsid] = known(group.state);
    }
    rest = rest.subspan(group.namespaces * sizeof(le32));
  }
  return states;
}

}  // namespace basalt::nvme
