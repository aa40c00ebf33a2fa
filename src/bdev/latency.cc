#include "bdev/latency.h"

#include <cmath>

namespace basalt {

void LatencyHistogram::add(uint64_t nanoseconds, uint64_t count) {
  buckets[latency_bucket(nanoseconds)] += count;
}

uint64_t LatencyHistogram::count() const {
  uint64_t total = 0;
  for (const uint64_t bucket : buckets) total += bucket;
  return total;
}

uint64_t LatencyHistogram::percentile(double fraction) const {
  const uint64_t total = count();
  if (total == 0) return 0;
  const double wanted = std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(total));
  uint64_t seen = 0;
  for (unsigned bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets[bucket];
    if (seen != 0 && static_cast<double>(seen) >= wanted) return latency_bucket_end(bucket);
  }
  return latency_bucket_end(kBuckets - 1);
}

}  // namespace basalt
