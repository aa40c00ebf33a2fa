// Runs one I/O pattern on a device through Channels, and counts.
//
// Each thread has a channel of its own and keeps `queue_depth` Ios in flight: an Io's completion
// chooses its next position and submits it again. Latencies come from the channel's own histograms,
// so that measuring adds no clock call per I/O.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>

#include <cstdint>
#include <functional>

namespace basalt::tool {

struct BenchPlan {
  uint64_t first_byte = 0;  // the region worked on; whole blocks of block_bytes
  uint64_t region_bytes = 0;
  uint32_t block_bytes = 4096;
  unsigned queue_depth = 32;  // per thread
  unsigned threads = 1;
  unsigned read_percent = 100;  // 0: writes only
  bool sequential = false;   // each thread runs through its own part of the region, round and round
  bool fua = false;          // writes are durable when they complete
  unsigned flush_every = 0;  // a flush after so many writes of a thread; 0: none
  bool busy_poll = false;    // never sleep while waiting
  uint64_t seed = 1;
  Duration runtime = std::chrono::seconds(10);
};

struct BenchResult {
  uint64_t reads = 0, writes = 0, flushes = 0, errors = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t bounced = 0;
  Duration elapsed{};
  LatencyHistogram read_latency, write_latency, flush_latency;
  StatusCode first_error = StatusCode::ok;
};

// `progress` is called now and then from the calling thread with the fraction of the run time
// passed.
Result<BenchResult> run_bench(Context& context, Device& device, const BenchPlan& plan,
                              const std::function<void(double)>& progress);

}  // namespace basalt::tool
