// What the sync seam costs outside a simulation, beside the std types it wraps; and what a step of
// a simulation costs.
#include <benchmark/benchmark.h>

#include <mutex>

#include "base/sim_scheduler.h"
#include "base/sync.h"

namespace {

template <typename Lock>
void lock_unlock(benchmark::State& state) {
  Lock mutex;
  for (auto _ : state) {
    mutex.lock();
    benchmark::ClobberMemory();
    mutex.unlock();
  }
}
BENCHMARK(lock_unlock<std::mutex>);
BENCHMARK(lock_unlock<basalt::Mutex>);
BENCHMARK(lock_unlock<std::shared_mutex>);
BENCHMARK(lock_unlock<basalt::SharedMutex>);

void simulated_switches(benchmark::State& state) {
  basalt::sim::Scheduler scheduler({.max_steps = ~uint64_t{0}});
  const basalt::Status status = scheduler.run([&state] {
    bool stop = false;
    basalt::Thread other("other", [&stop] {
      while (!stop) basalt::yield_thread();
    });
    for (auto _ : state) basalt::yield_thread();
    stop = true;
    other.join();
  });
  if (!status.ok()) state.SkipWithError("the simulation failed");
}
BENCHMARK(simulated_switches);

}  // namespace

BENCHMARK_MAIN();
