// Opening a store whose process died: of 100 000 blobs, each with a name in the catalog and one
// extent, with a journal tail of `range(0)` transactions behind the last checkpoint; of up to ten
// million extents; and on devices of up to 64 TiB. The target is 200 ms, whatever the size.
#include <benchmark/benchmark.h>

#include "bench_store.h"

namespace basalt::blob {
namespace {

constexpr unsigned kBlobs = 100000;

void open_after_crash(benchmark::State& state) {
  FormatOptions format;
  format.cluster_bytes = 16384;
  BenchStore own("ram:64G", format);
  for (unsigned i = 0; i < kBlobs; ++i) {
    Transaction txn;
    const BlobId id = own.store->new_blob_id();
    txn.create_blob(id, {});
    txn.catalog_put("db/file" + std::to_string(i), std::to_string(id.value));
    must(own.store->allocate(txn, id, {0, 4}));
    txn.set_size(id, 16384);
    must(own.store->apply(txn));
  }
  must(own.store->checkpoint());
  for (auto _ : state) {
    state.PauseTiming();
    for (int64_t i = 0; i < state.range(0); ++i) {
      Transaction txn;
      txn.catalog_put("db/file" + std::to_string(i * 7919 % kBlobs),
                      "renamed " + std::to_string(i));
      must(own.store->apply(txn));
      // Often enough that the journal holds them; seldom enough that records are shared.
      if (i % 100 == 99) must(own.store->wait_durable(own.store->last_ticket()));
    }
    own.leave();
    state.ResumeTiming();
    own.open();
  }
}
BENCHMARK(open_after_crash)
    ->Arg(0)
    ->Arg(1000)
    ->Arg(10000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(10);

// range(0) extents in blobs of 10 000 extents each, none of which touches the next.
void open_with_extents(benchmark::State& state) {
  constexpr int64_t kPerBlob = 10000, kPerTransaction = 50;
  FormatOptions format;
  format.cluster_bytes = 16384;
  format.metadata_bytes = uint64_t{2} << 30;
  BenchStore own("ram:1T", format);
  for (int64_t made = 0; made < state.range(0);) {
    const BlobId id = own.store->new_blob_id();
    Transaction create;
    create.create_blob(id, {});
    must(own.store->apply(create));
    for (int64_t i = 0; i < kPerBlob; i += kPerTransaction, made += kPerTransaction) {
      Transaction txn;
      for (int64_t n = i; n < i + kPerTransaction; ++n) {
        must(own.store->allocate(txn, id, {static_cast<uint64_t>(n) * 8, 4}));
      }
      must(own.store->apply(txn));
    }
  }
  must(own.store->checkpoint());
  for (auto _ : state) {
    state.PauseTiming();
    Transaction txn;
    txn.catalog_put("last", "not in the checkpoint");
    must(own.store->apply(txn));
    must(own.store->wait_durable(own.store->last_ticket()));
    own.leave();
    state.ResumeTiming();
    own.open();
  }
  const StoreSpace space = own.store->space();
  state.counters["metadata_MiB"] =
      static_cast<double>(space.metadata_pages - space.free_metadata_pages) / 256;
}
BENCHMARK(open_with_extents)
    ->Arg(10000)
    ->Arg(1000000)
    ->Arg(10000000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(5);

void open_by_size(benchmark::State& state) {
  BenchStore own("ram:" + std::to_string(state.range(0)) + "G");
  for (auto _ : state) {
    state.PauseTiming();
    own.leave();
    state.ResumeTiming();
    own.open();
  }
}
BENCHMARK(open_by_size)
    ->Arg(8)
    ->Arg(1024)
    ->Arg(65536)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(10);

// How long everything the catalog says takes to read for the first time after that.
void first_scan(benchmark::State& state) {
  FormatOptions format;
  format.cluster_bytes = 16384;
  BenchStore own("ram:64G", format);
  for (unsigned i = 0; i < kBlobs; ++i) {
    Transaction txn;
    txn.catalog_put("db/file" + std::to_string(i), std::to_string(i));
    must(own.store->apply(txn));
  }
  must(own.store->checkpoint());
  for (auto _ : state) {
    state.PauseTiming();
    own.leave();
    own.open();
    state.ResumeTiming();
    uint64_t entries = 0;
    must(own.store->catalog_scan(
        "", [&](std::string_view, std::string_view) { return ++entries > 0; }));
    if (entries != kBlobs) std::abort();
  }
}
BENCHMARK(first_scan)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(10);

}  // namespace
}  // namespace basalt::blob
