// See pattern.h.
#include "crash/pattern.h"

#include <cstdio>

namespace basalt::crash {

std::string pattern(uint64_t file, uint64_t write, uint64_t offset, size_t length) {
  constexpr uint64_t kCell = 16;
  std::string cells;
  const uint64_t first = offset / kCell;
  const uint64_t last = (offset + length + kCell - 1) / kCell;
  cells.reserve((last - first) * kCell);
  for (uint64_t cell = first; cell < last; ++cell) {
    char text[kCell + 1];
    std::snprintf(text, sizeof(text), "F%04xW%04x@%04x\n", static_cast<unsigned>(file & 0xffff),
                  static_cast<unsigned>(write & 0xffff), static_cast<unsigned>(cell & 0xffff));
    cells.append(text, kCell);
  }
  return cells.substr(offset - first * kCell, length);
}

std::string printable(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    size_t zeros = 0;
    while (i + zeros < bytes.size() && bytes[i + zeros] == '\0') ++zeros;
    if (zeros > 0) {
      out += "<" + std::to_string(zeros) + " zeros>";
      i += zeros;
      continue;
    }
    const auto byte = static_cast<unsigned char>(bytes[i++]);
    char text[8];
    std::snprintf(text, sizeof(text), byte >= 32 && byte < 127 ? "%c" : "\\x%02x", byte);
    out += text;
  }
  return out;
}

}  // namespace basalt::crash
