// hex(): a number as messages and sysfs write it, "0x7fffffffff".
#pragma once

#include <charconv>
#include <cstdint>
#include <string>

namespace basalt::nvme {

// At least `digits` of them, padded with zeroes.
inline std::string hex(uint64_t value, size_t digits = 1) {
  char text[16];
  const auto end = std::to_chars(text, text + sizeof text, value, 16).ptr;
  const auto length = static_cast<size_t>(end - text);
  return "0x" + std::string(length < digits ? digits - length : 0, '0') + std::string(text, length);
}

}  // namespace basalt::nvme
