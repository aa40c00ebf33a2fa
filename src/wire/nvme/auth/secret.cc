// See secret.h.
#include "wire/nvme/auth/secret.h"

#include <openssl/evp.h>

#include <algorithm>

namespace basalt::nvme::auth {

namespace {

constexpr std::string_view kPrefix = "DHHC-1:0";
constexpr size_t kCheckBytes = 4;

// CRC-32 (IEEE 802.3), which is not the CRC of data digests.
uint32_t crc32(View data) {
  uint32_t crc = 0xffff'ffff;
  for (const uint8_t byte : data) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb8'8320 : 0);
  }
  return ~crc;
}

}  // namespace

Result<Secret> Secret::parse(std::string_view text) {
  const auto wrong = [](const char* what) {
    return error(StatusCode::invalid_argument,
                 std::string("a DH-HMAC-CHAP secret ") + what +
                     "; one looks like DHHC-1:00:<base64>: (nvme gen-dhchap-key makes them)");
  };
  if (!text.starts_with(kPrefix) || text.size() < kPrefix.size() + 3 || !text.ends_with(':')) {
    return wrong("begins with DHHC-1:0 and ends with a colon");
  }
  Secret secret;
  const char transform = text[kPrefix.size()];
  if (transform < '0' || transform > '3' || text[kPrefix.size() + 1] != ':') {
    return wrong("has 00, 01, 02 or 03 between its first two colons");
  }
  secret.transform_ = static_cast<uint8_t>(transform - '0');
  const std::string_view base64 = text.substr(kPrefix.size() + 2, text.size() - kPrefix.size() - 3);
  Bytes decoded(base64.size() + 3);
  const int length =
      EVP_DecodeBlock(decoded.data(), view_of(base64).data(), static_cast<int>(base64.size()));
  const auto padding = static_cast<int>(std::count(base64.begin(), base64.end(), '='));
  if (base64.size() % 4 != 0 || length < padding || padding > 2) return wrong("is in base64");
  decoded.resize(static_cast<size_t>(length - padding));
  const size_t bytes = decoded.size() < kCheckBytes ? 0 : decoded.size() - kCheckBytes;
  if (bytes != 32 && bytes != 48 && bytes != 64) return wrong("has 32, 48 or 64 bytes");
  const uint32_t told = decoded[bytes] | uint32_t{decoded[bytes + 1]} << 8 |
                        uint32_t{decoded[bytes + 2]} << 16 | uint32_t{decoded[bytes + 3]} << 24;
  decoded.resize(bytes);
  if (told != crc32(decoded)) return wrong("has a check sum, which is wrong in this one");
  secret.secret_ = std::move(decoded);
  return secret;
}

Bytes Secret::key_of(std::string_view nqn) const {
  if (transform_ == 0) return secret_;
  return hmac(static_cast<Hash>(transform_), secret_, {view_of(nqn), view_of("NVMe-over-Fabrics")});
}

}  // namespace basalt::nvme::auth
