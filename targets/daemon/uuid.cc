// See uuid.h.
#include "targets/daemon/uuid.h"

#include "base/try.h"

namespace basalt {

namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Status parse_hex(std::string_view text, std::span<uint8_t> out, const std::string& what) {
  bool good = text.size() == 2 * out.size();
  for (size_t i = 0; good && i < out.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    good = high >= 0 && low >= 0;
    out[i] = static_cast<uint8_t>(high << 4 | low);
  }
  if (good) return {};
  return {StatusCode::invalid_argument, what + " " + std::string(text) + ": expected " +
                                            std::to_string(2 * out.size()) + " hexadecimal digits"};
}

std::string format_hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text) {
  std::string digits;
  bool dashes = text.size() == 36;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
    dashes = dashes && is_dash == (text[i] == '-');
    if (!is_dash) digits += text[i];
  }
  std::array<uint8_t, 16> uuid{};
  if (!dashes || !parse_hex(digits, uuid, "").ok()) {
    return error(
        StatusCode::invalid_argument,
        "uuid " + std::string(text) + ": expected one as ceccf520-691e-4b46-9546-34af789907c5");
  }
  return uuid;
}

std::string format_uuid(const std::array<uint8_t, 16>& uuid) {
  std::string text = format_hex(uuid);
  for (const size_t at : {8u, 13u, 18u, 23u}) text.insert(at, 1, '-');
  return text;
}

}  // namespace basalt
