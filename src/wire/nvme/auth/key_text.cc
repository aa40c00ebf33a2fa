// See key_text.h.
#include "wire/nvme/auth/key_text.h"

#include <openssl/evp.h>

#include <algorithm>
#include <string>

namespace basalt::nvme::auth {

namespace {

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

Status key_error(const KeyFormat& format, std::string_view what) {
  return {StatusCode::invalid_argument, "a " + std::string(format.what) + " " + std::string(what) +
                                            "; one looks like " + std::string(format.example)};
}

Result<KeyText> parse_key_text(const KeyFormat& format, std::string_view text) {
  const auto wrong = [&](const std::string& what) { return error(key_error(format, what)); };
  const size_t begin = format.prefix.size();
  if (!text.starts_with(format.prefix) || text.size() < begin + 4 || !text.ends_with(':')) {
    return wrong("begins with " + std::string(format.prefix) + " and ends with a colon");
  }
  KeyText parsed;
  const char last = static_cast<char>('0' + format.last_transform);
  if (text[begin] != '0' || text[begin + 1] < '0' || text[begin + 1] > last ||
      text[begin + 2] != ':') {
    return wrong(std::string("has 00 to 0") + last + " between its first two colons");
  }
  parsed.transform = static_cast<uint8_t>(text[begin + 1] - '0');
  const std::string_view encoded = text.substr(begin + 3, text.size() - begin - 4);
  Bytes decoded(encoded.size() + 3);
  const int length =
      EVP_DecodeBlock(decoded.data(), view_of(encoded).data(), static_cast<int>(encoded.size()));
  const auto padding = static_cast<int>(std::count(encoded.begin(), encoded.end(), '='));
  if (encoded.size() % 4 != 0 || length < padding || padding > 2) return wrong("is in base64");
  decoded.resize(static_cast<size_t>(length - padding));
  const size_t bytes = decoded.size() < kCheckBytes ? 0 : decoded.size() - kCheckBytes;
  if (bytes != 32 && bytes != 48 && bytes != 64) return wrong("has 32, 48 or 64 bytes");
  const uint32_t told = decoded[bytes] | uint32_t{decoded[bytes + 1]} << 8 |
                        uint32_t{decoded[bytes + 2]} << 16 | uint32_t{decoded[bytes + 3]} << 24;
  decoded.resize(bytes);
  if (told != crc32(decoded)) return wrong("has a check sum, which is wrong in this one");
  parsed.key = std::move(decoded);
  return parsed;
}

}  // namespace basalt::nvme::auth
