// Keys as people keep them: "<name>-1:<hash>:<base64>:", where base64 holds the key and its CRC-32.
//
// NVM Express base specification 2.0, §8.13.5.8 (DHHC-1); TCP transport specification 1.0, §3.6.1.5 (NVMeTLSkey-1).
#pragma once

#include <basalt/status.h>

#include <string_view>

#include "wire/nvme/auth/crypto.h"

namespace basalt::nvme::auth {

struct KeyFormat {
  std::string_view prefix;   // up to the first colon, with it
  uint8_t last_transform;    // the greatest hash number there is
  std::string_view what;     // in messages: "a … is in base64"
  std::string_view example;  // and how one is made
};

struct KeyText {
  Bytes key;              // 32, 48 or 64
  uint8_t transform = 0;  // Hash; 0: none
};

// Errors: invalid_argument, which does not repeat the text.
Result<KeyText> parse_key_text(const KeyFormat& format, std::string_view text);
// What is wrong with a key, in the words of `format`.
Status key_error(const KeyFormat& format, std::string_view what);

}  // namespace basalt::nvme::auth
