// What the block core itself costs per I/O: 4 KiB random reads of a device that does nothing, one
// thread, queue depth 128, through 0, 1 and 3 virtual layers.
//
//   block_core_bench --benchmark_repetitions=9 --benchmark_report_aggregates_only=true
//
// items_per_second is I/O per second. `allocations` counts every operator new of the thread while
// I/O ran, and must be 0: the program says so and fails otherwise.
#include <basalt/device.h>
#include <benchmark/benchmark.h>

#include <cstdio>
#include <vector>

#include "bdev/null/null_device.h"
#include "bdev/part/part_device.h"
#include "bdev/ram/ram_device.h"
#include "test/bdev/count_allocations.h"

namespace basalt {
namespace {

bool failed = false;
constexpr size_t kDepth = 128;
constexpr size_t kBytes = 4096;

// Keeps kDepth Ios at random positions outstanding: each completion submits its Io again.
struct Load {
  Channel& channel;
  uint64_t positions;  // how many I/O-sized places the device has; a power of two
  uint64_t blocks;     // per I/O
  uint64_t random = 88172645463325252u;
  uint64_t completed = 0;
  uint64_t errors = 0;
  bool stopping = false;

  void aim(Io& io) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    io.lba = Lba{(random & (positions - 1)) * blocks};
  }
  static void done(Io& io) {
    Load& load = *static_cast<Load*>(io.user);
    ++load.completed;
    load.errors += io.status != StatusCode::ok;
    if (load.stopping) return;
    load.aim(io);
    load.channel.submit(io);
  }
};

// Memory that was never written is one page of zeroes, and would be measured as such.
void touch(Channel& channel, const DeviceInfo& info) {
  std::vector<std::byte> ones(info.block_count.value * info.block_size, std::byte{1});
  const iovec vector{ones.data(), ones.size()};
  Io io;
  io.op = Op::write;
  io.block_count = info.block_count;
  io.data = {&vector, 1};
  failed |= run(channel, io) != StatusCode::ok;
}

void run_load(benchmark::State& state, const char* uri, Op op) {
  auto context = Context::create();
  register_null_scheme(**context);
  register_part_scheme(**context);
  register_ram_scheme(**context);
  auto device = open_device(**context, uri);
  auto channel = device ? (*device)->open_channel() : error(device.error());
  if (!channel) {
    failed = true;
    return state.SkipWithError(channel.error().to_string().c_str());
  }
  const DeviceInfo& info = (*device)->info();
  Load load{**channel, info.block_count.value * info.block_size / kBytes, kBytes / info.block_size};
  if (info.native.has(Op::compare)) touch(**channel, info);
  std::vector<std::byte> memory(kDepth * kBytes);
  std::vector<iovec> vectors(kDepth);
  std::vector<Io> ios(kDepth);
  for (size_t i = 0; i < kDepth; ++i) {
    vectors[i] = {memory.data() + i * kBytes, kBytes};
    ios[i].op = op;
    ios[i].block_count = BlockCount{load.blocks};
    ios[i].data = {&vectors[i], 1};
    ios[i].done = &Load::done;
    ios[i].user = &load;
    load.aim(ios[i]);
    (*channel)->submit(ios[i]);
  }
  const uint64_t before = allocations_so_far();
  for (auto _ : state) (*channel)->poll();
  const uint64_t allocated = allocations_so_far() - before;
  state.SetItemsProcessed(static_cast<int64_t>(load.completed));
  state.counters["allocations"] = static_cast<double>(allocated);
  load.stopping = true;
  while ((*channel)->stats().outstanding != 0) (*channel)->poll();
  if (allocated != 0 || load.errors != 0) {
    failed = true;
    state.SkipWithError(allocated != 0 ? "the data path allocated memory" : "I/O failed");
  }
}

BENCHMARK_CAPTURE(run_load, null_read, "null:1T", Op::read);
BENCHMARK_CAPTURE(run_load, one_layer_read, "part:(null:1T)", Op::read);
BENCHMARK_CAPTURE(run_load, three_layers_read, "part:(part:(part:(null:1T)))", Op::read);
BENCHMARK_CAPTURE(run_load, one_layer_write, "part:(null:1T)", Op::write);
BENCHMARK_CAPTURE(run_load, ram_read, "ram:64M", Op::read);
BENCHMARK_CAPTURE(run_load, ram_write, "ram:64M", Op::write);

}  // namespace
}  // namespace basalt

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  if (basalt::failed) std::fprintf(stderr, "block_core_bench: failed, see above\n");
  return basalt::failed ? 1 : 0;
}
