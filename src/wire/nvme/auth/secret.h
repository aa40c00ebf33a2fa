// Secrets of DH-HMAC-CHAP, as people keep them: "DHHC-1:00:<base64>:".
//
// NVM Express base specification 2.0, §8.13.5.8 (secret representation): after the format's version come the hash that
// transforms the secret (00: none) and, in base64, the secret and its CRC-32.
#pragma once

#include <basalt/status.h>

#include <string>
#include <string_view>

#include "wire/nvme/auth/crypto.h"

namespace basalt::nvme::auth {

class Secret {
 public:
  // Errors: invalid_argument, which does not repeat the text.
  static Result<Secret> parse(std::string_view text);

  // The key that the owner named `nqn` answers challenges with.
  Bytes key_of(std::string_view nqn) const;
  size_t bytes() const { return secret_.size(); }

 private:
  Bytes secret_;           // 32, 48 or 64
  uint8_t transform_ = 0;  // Hash; 0: none
};

}  // namespace basalt::nvme::auth
