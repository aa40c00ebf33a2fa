// CRC-32C (Castagnoli; RFC 3720 appendix B.4), by ISA-L, which picks the processor's instructions
// at run time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace basalt {

// The checksum of `bytes`, continuing from `previous` (0 to start). crc32c("123456789") =
// 0xE3069283.
uint32_t crc32c(std::span<const std::byte> bytes, uint32_t previous = 0);

}  // namespace basalt
