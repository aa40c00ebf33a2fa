// Who this host says it is: its NQN and its id, which targets use for access control and reservations.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace basalt::nvme {

struct HostIdentity {
  std::string nqn;
  std::array<uint8_t, 16> id{};  // a UUID's bytes

  // What /etc/nvme/hostnqn and /etc/nvme/hostid say, as nvme-cli does; where there are none, made up anew for this
  // process. `directory` stands for /etc/nvme.
  static Result<HostIdentity> of_this_host(const std::string& directory = "/etc/nvme");
};

// invalid_argument unless it may be an NQN: "nqn.", at most 223 bytes, no control characters.
Status check_nqn(std::string_view nqn);
// From the 8-4-4-4-12 digits of a UUID.
Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text);

}  // namespace basalt::nvme
