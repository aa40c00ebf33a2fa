// Identifiers as text.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace basalt {

// "8-4-4-4-12" hexadecimal digits (RFC 9562, §4). Errors: invalid_argument.
Result<std::array<uint8_t, 16>> parse_uuid(std::string_view text);
std::string format_uuid(const std::array<uint8_t, 16>& uuid);
// As many bytes as `out` has, two digits each, nothing between. `what`: for the message. Errors: invalid_argument.
Status parse_hex(std::string_view text, std::span<uint8_t> out, const std::string& what);
std::string format_hex(std::span<const uint8_t> bytes);

}  // namespace basalt
