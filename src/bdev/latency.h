// The buckets of LatencyHistogram: four per power of two, from 16 ns to 69 s; the first also holds
// what is below, the last what is above.
#pragma once

#include <basalt/device.h>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace basalt {

inline constexpr unsigned kLatencyLowestLog2 = 4;

inline unsigned latency_bucket(uint64_t nanoseconds) noexcept {
  const uint64_t value = std::max(nanoseconds, uint64_t{1} << kLatencyLowestLog2);
  const unsigned log2 = static_cast<unsigned>(std::bit_width(value)) - 1;
  const unsigned quarter = static_cast<unsigned>(value >> (log2 - 2)) & 3;
  return std::min((log2 - kLatencyLowestLog2) * 4 + quarter, LatencyHistogram::kBuckets - 1);
}

// The value at which the bucket ends: it holds values below this.
inline uint64_t latency_bucket_end(unsigned bucket) noexcept {
  const unsigned log2 = kLatencyLowestLog2 + bucket / 4;
  return uint64_t{4 + bucket % 4 + 1} << (log2 - 2);
}

}  // namespace basalt
