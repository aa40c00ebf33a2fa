#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace basalt {

namespace {

#if defined(__x86_64__)
const bool kHasAvx = [] {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx") != 0;
}();

// ISA-L's AVX routines return with the upper halves of the vector registers in use. Until somebody
// clears them every SSE instruction of this thread waits for a merge: RocksDB's XXH3 ran four times
// slower. (Intel's Optimization Reference Manual, "Mixing AVX Code with SSE Code".)
void clear_upper_halves() {
  if (!kHasAvx) return;
  asm volatile("vzeroupper" ::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
#else
void clear_upper_halves() {}
#endif

}  // namespace

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
  clear_upper_halves();
  return ~crc;
}

}  // namespace basalt
