#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace basalt {

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous) {
  // ISA-L takes an int length and a mutable pointer it does not write through.
  constexpr size_t kStep = size_t{1} << 30;
  uint32_t crc = ~previous;
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kStep));
    crc = crc32_iscsi(reinterpret_cast<unsigned char*>(const_cast<std::byte*>(part.data())),
                      static_cast<int>(part.size()), crc);
    bytes = bytes.subspan(part.size());
  }
  return ~crc;
}

}  // namespace basalt
