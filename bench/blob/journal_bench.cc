// Commits: a small transaction applied and waited for, by 1, 8 and 64 threads at once; and applied
// without waiting. Counters: records (journal writes) and bytes per commit show how far commits
// share them. A RAM device completes at once, so they hardly do; on a file they must:
//
//   BASALT_BENCH_DEVICE='file:/var/tmp/bench.img?size=1G' blob_bench --benchmark_filter=commit
//
// Everything on that device is overwritten. The other benchmarks of this program use RAM.
#include <benchmark/benchmark.h>

#include "bench_store.h"

namespace basalt::blob {
namespace {

std::unique_ptr<BenchStore> bench;

std::string commit_device() {
  const char* uri = std::getenv("BASALT_BENCH_DEVICE");
  return uri != nullptr ? uri : "ram:1G";
}

void commit_and_wait(benchmark::State& state) {
  if (state.thread_index() == 0) bench = std::make_unique<BenchStore>(commit_device());
  StoreStats before;
  const std::string key = "thread" + std::to_string(state.thread_index());
  uint64_t n = 0;
  for (auto _ : state) {  // the first iteration starts when all threads are here
    if (state.thread_index() == 0 && n == 0) before = bench->store->stats();
    Transaction txn;
    txn.catalog_put(key, std::to_string(++n));
    must(bench->store->wait_durable(must(bench->store->apply(txn))));
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() != 0) return;
  const StoreStats after = bench->store->stats();
  const double commits = static_cast<double>(after.transactions - before.transactions);
  state.counters["records/commit"] = static_cast<double>(after.commits - before.commits) / commits;
  state.counters["bytes/commit"] =
      static_cast<double>(after.journal_bytes - before.journal_bytes) / commits;
  bench.reset();
}
BENCHMARK(commit_and_wait)->Threads(1)->Threads(8)->Threads(64)->UseRealTime();

void apply_only(benchmark::State& state) {
  BenchStore own("ram:1G");
  uint64_t n = 0;
  for (auto _ : state) {
    Transaction txn;
    txn.catalog_put("key", std::to_string(++n));
    must(own.store->apply(txn));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(apply_only)->UseRealTime();

// What recording a freshly written table costs: one blob created, allocated, written, recorded,
// durable.
void create_write_record(benchmark::State& state) {
  BenchStore own("ram:1G");
  BlobStore& store = *own.store;
  const std::vector<std::byte> data(256 << 10, std::byte{1});
  for (auto _ : state) {
    const BlobId id = store.new_blob_id();
    {
      Transaction make;
      make.create_blob(id, {});
      must(store.allocate(make, id, {0, 64}));
      must(store.apply(make));
    }
    {
      BlobRef blob = must(store.open_blob(id));
      must(store.write(*blob, 0, data, Unwritten::zeros));
      Transaction record;
      store.mark_written(record, *blob);
      record.set_size(id, data.size());
      must(store.wait_durable(must(store.apply(record))));
    }
    must(store.delete_blob(id));
  }
}
BENCHMARK(create_write_record)->UseRealTime();

}  // namespace
}  // namespace basalt::blob
