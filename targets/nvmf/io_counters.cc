// See io_counters.h.
#include "targets/nvmf/io_counters.h"

#include "bdev/latency.h"

namespace basalt::nvmf {

const char* to_string(IoKind kind) {
  switch (kind) {
    case IoKind::read: return "read";
    case IoKind::write: return "write";
    case IoKind::other: break;
  }
  return "other";
}

IoKind io_kind(const nvme::Command& command) noexcept {
  switch (static_cast<nvme::IoOpcode>(command.opcode)) {
    case nvme::IoOpcode::read: return IoKind::read;
    case nvme::IoOpcode::write: return IoKind::write;
    default: return IoKind::other;
  }
}

void add(LatencyHistogram& sum, const LatencyHistogram& more) {
  for (size_t i = 0; i < sum.buckets.size(); ++i) sum.buckets[i] += more.buckets[i];
}

uint64_t estimated_sum(const LatencyHistogram& histogram) {
  uint64_t sum = 0, begin = uint64_t{1} << kLatencyLowestLog2;
  for (unsigned i = 0; i < LatencyHistogram::kBuckets; ++i) {
    const uint64_t end = latency_bucket_end(i);
    sum += histogram.buckets[i] * ((begin + end) / 2);
    begin = end;
  }
  return sum;
}

void IoCounters::end(IoKind kind, bool ok, uint64_t bytes, Duration latency) noexcept {
  abandon();  // it is outstanding no more
  Kind& of = kinds_[static_cast<size_t>(kind)];
  const auto nanoseconds = static_cast<uint64_t>(latency.count());
  change(of.latency[latency_bucket(nanoseconds)], 1);
  change(of.nanoseconds, nanoseconds);
  if (ok) {
    change(of.bytes, bytes);
  } else {
    change(of.errors, 1);
  }
}

void IoTotals::add(const IoCounters& counters) {
  const auto load = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  outstanding += load(counters.outstanding_);
  for (size_t i = 0; i < kIoKinds; ++i) {
    const IoCounters::Kind& from = counters.kinds_[i];
    kinds[i].errors += load(from.errors);
    kinds[i].bytes += load(from.bytes);
    kinds[i].nanoseconds += load(from.nanoseconds);
    for (size_t bucket = 0; bucket < LatencyHistogram::kBuckets; ++bucket) {
      kinds[i].latency.buckets[bucket] += load(from.latency[bucket]);
    }
  }
}

void IoTotals::add(const IoTotals& other) {
  outstanding += other.outstanding;
  for (size_t i = 0; i < kIoKinds; ++i) {
    kinds[i].errors += other.kinds[i].errors;
    kinds[i].bytes += other.kinds[i].bytes;
    kinds[i].nanoseconds += other.kinds[i].nanoseconds;
    nvmf::add(kinds[i].latency, other.kinds[i].latency);
  }
}

IoTotals ReactorCounters::total() const {
  IoTotals sum;
  for (size_t i = 0; i < count_; ++i) sum.add(each_[i]);
  return sum;
}

}  // namespace basalt::nvmf
