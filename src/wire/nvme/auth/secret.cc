// See secret.h.
#include "wire/nvme/auth/secret.h"

#include <utility>

#include "base/try.h"
#include "wire/nvme/auth/key_text.h"

namespace basalt::nvme::auth {

Result<Secret> Secret::parse(std::string_view text) {
  constexpr KeyFormat kFormat{.prefix = "DHHC-1:",
                              .last_transform = 3,
                              .what = "DH-HMAC-CHAP secret",
                              .example = "DHHC-1:00:<base64>: (nvme gen-dhchap-key makes them)"};
  BASALT_TRY_ASSIGN(KeyText parsed, parse_key_text(kFormat, text));
  Secret secret;
  secret.transform_ = parsed.transform;
  secret.secret_ = std::move(parsed.key);
  return secret;
}

Bytes Secret::key_of(std::string_view nqn) const {
  if (transform_ == 0) return secret_;
  return hmac(static_cast<Hash>(transform_), secret_, {view_of(nqn), view_of("NVMe-over-Fabrics")});
}

}  // namespace basalt::nvme::auth
