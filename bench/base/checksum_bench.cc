// CRC-32C over the sizes the formats use.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/crc32c.h"

namespace {

void checksum(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) benchmark::DoNotOptimize(basalt::crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Arg(64)->Arg(512)->Arg(4096)->Arg(65536);

}  // namespace
