// The host's side of DH-HMAC-CHAP on one queue, before it is used for anything else.
//
// NVM Express base specification 2.0, §8.13.5. The host proves that it knows its secret; with a secret of the
// controller's, the controller proves the same. Threads: any.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "wire/nvme/auth/secret.h"

namespace basalt::nvme {

struct Credentials {
  std::optional<auth::Secret> host;        // none: a target that asks for authentication is refused
  std::optional<auth::Secret> controller;  // given: it has to prove itself too
};

// How messages travel; the queue's Authentication Send and Receive.
class AuthenticationChannel {
 public:
  virtual ~AuthenticationChannel() = default;
  virtual Status send(std::span<const std::byte> message) = 0;
  // Fills the front of `message`; the rest is of no meaning.
  virtual Status receive(std::span<std::byte> message) = 0;
};

// Errors: permission_denied (one side does not know its secret), unsupported (no hash or group in common),
// corruption (messages out of order or malformed), and the channel's.
Status authenticate(AuthenticationChannel& channel, const Credentials& credentials,
                    const std::string& host_nqn, const std::string& subsystem_nqn,
                    uint16_t transaction);

}  // namespace basalt::nvme
