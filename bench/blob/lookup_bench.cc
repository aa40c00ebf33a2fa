// Look-ups and changes in memory: extents of a blob, the catalog's tree, the choice of free space.
#include <benchmark/benchmark.h>

#include "bench_store.h"
#include "blob/page_store.h"
#include "blob/space_map.h"
#include "blob/tree.h"

#include <random>

namespace basalt::blob {
namespace {

void extent_find(benchmark::State& state) {
  const auto extents = static_cast<uint64_t>(state.range(0));
  ExtentMap map;
  for (uint64_t i = 0; i < extents; ++i) map.set({i * 16, i * 48, 16, ExtentState::written});
  std::mt19937_64 random(1);
  for (auto _ : state) benchmark::DoNotOptimize(map.find(random() % (extents * 16)));
}
BENCHMARK(extent_find)->Arg(1)->Arg(1000)->Arg(100000);

// 4 KiB through BlobStore::read: gate, lease, look-up, command, copy.
void blob_read_4k(benchmark::State& state) {
  const auto extents = static_cast<uint64_t>(state.range(0));
  BenchStore own("ram:16G");
  BlobStore& store = *own.store;
  const BlobId ids[2] = {store.new_blob_id(), store.new_blob_id()};
  Transaction make;
  for (const BlobId id : ids) make.create_blob(id, {});
  must(store.apply(make));
  for (uint64_t i = 0; i < extents; ++i) {  // two blobs in turn, so that extents do not merge
    for (const BlobId id : ids) {
      Transaction txn;
      must(store.allocate(txn, id, {i * 16, 16}));
      must(store.apply(txn));
    }
  }
  BlobRef blob = must(store.open_blob(ids[0]));
  std::vector<std::byte> buffer(4096 + 4096);
  auto* aligned = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(buffer.data()) + 4095) &
                                               ~uintptr_t{4095});
  std::mt19937_64 random(1);
  for (auto _ : state) {
    must(store.read(*blob, random() % (extents * 16) * 4096, {aligned, 4096}, Unwritten::raw));
  }
  state.counters["extents"] = static_cast<double>(store.extents(*blob, {0, extents * 16}).size());
}
BENCHMARK(blob_read_4k)->Arg(1)->Arg(1000)->Arg(100000);

// A tree of `keys` entries in a cache that holds them all.
struct BenchTree {
  explicit BenchTree(uint64_t keys) {
    context = must(Context::create());
    register_standard_schemes(*context);
    device = must(open_device(*context, "ram:4G"));
    pool = std::make_unique<ChannelPool>(*device, 2);
    pages = std::make_unique<PageStore>(*context, *pool, Uuid{}, uint64_t{1} << 30);
    MetadataRun run{};
    run.first_block[1] = 1 << 18;
    run.page_count = 1 << 18;
    pages->set_runs({run});
    pages->map().reset(run.page_count);
    tree = std::make_unique<Tree>(*pages, TreeId::catalog);
    std::mt19937_64 random(7);
    for (uint64_t i = 0; i < keys; ++i)
      must(tree->put(key(random() % (keys * 4)), "0123456789abcdef"));
  }
  static std::string key(uint64_t n) {
    std::string text = std::to_string(n);
    return "directory/" + std::string(12 - text.size(), '0') + text;
  }
  std::unique_ptr<Context> context;
  std::unique_ptr<Device> device;
  std::unique_ptr<ChannelPool> pool;
  std::unique_ptr<PageStore> pages;
  std::unique_ptr<Tree> tree;
};

void tree_get(benchmark::State& state) {
  const auto keys = static_cast<uint64_t>(state.range(0));
  BenchTree own(keys);
  std::mt19937_64 random(1);
  for (auto _ : state)
    benchmark::DoNotOptimize(own.tree->get(BenchTree::key(random() % (keys * 4))));
}
BENCHMARK(tree_get)->Arg(100)->Arg(10000)->Arg(1000000);

void tree_put(benchmark::State& state) {
  const auto keys = static_cast<uint64_t>(state.range(0));
  BenchTree own(keys);
  std::mt19937_64 random(1);
  for (auto _ : state) {
    must(own.tree->put(BenchTree::key(random() % (keys * 4)), "0123456789abcdef"));
  }
}
BENCHMARK(tree_put)->Arg(100)->Arg(10000)->Arg(1000000);

// `runs` free runs of 1 … 8 clusters; wanted: `range(1)` clusters at once.
void allocate_fragmented(benchmark::State& state) {
  BenchTree own(0);
  SpaceMap space(*own.pages);
  std::mt19937_64 random(3);
  uint64_t at = 0;
  for (int64_t i = 0; i < state.range(0); ++i) {
    const uint64_t count = 1 + random() % 8;
    must(space.give(at, count));
    at += count + 1 + random() % 8;
  }
  const auto wanted = static_cast<uint64_t>(state.range(1));
  uint64_t pieces = 0;
  for (auto _ : state) {
    const auto taken = must(space.reserve(wanted, random() % at));
    pieces += taken.size();
    for (const auto& piece : taken) space.excluded().remove(piece.first_cluster, piece.count);
  }
  state.counters["pieces"] = static_cast<double>(pieces) / static_cast<double>(state.iterations());
}
BENCHMARK(allocate_fragmented)
    ->Args({1, 1})
    ->Args({100000, 1})
    ->Args({100000, 8})
    ->Args({100000, 64});

}  // namespace
}  // namespace basalt::blob
