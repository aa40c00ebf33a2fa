// What the file system adds to its device: appends, syncs, cached and uncached reads, names.
//
//   blobfs_bench                                        # ram: (no device time: pure software)
//   BASALT_BENCH_DEVICE='file:/var/tmp/bench.img?size=2G' blobfs_bench
//   --benchmark_filter='sync|raw'
//
// The raw_* lines do the same device commands without a file system, in the same run, so that
// ratios can be taken. With a file, `raw_write_fua` against `raw_write_flush` tells which way of
// making one write durable is cheaper there. Everything on the device is overwritten.
#include <basalt/devices.h>
#include <basalt/file_system.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/sync.h"
#include "bench/must.h"

namespace basalt {
namespace {

std::unique_ptr<Context> new_context() {
  auto context = must(Context::create());
  register_standard_schemes(*context);
  return context;
}
std::unique_ptr<Device> open_bench_device(Context& context) {
  const char* uri = std::getenv("BASALT_BENCH_DEVICE");
  return must(open_device(context, uri != nullptr ? uri : "ram:1G"));
}

constexpr uint64_t kCache = uint64_t{256} << 20;

struct World {
  std::unique_ptr<Context> context = new_context();
  std::unique_ptr<FileSystem> fs;
  explicit World(uint64_t cache_bytes = kCache, bool data_checksums = false) {
    auto device = open_bench_device(*context);
    FormatOptions format;
    format.force = true;
    format.data_checksums = data_checksums;
    must(FileSystem::format(*context, *device, format));
    MountOptions mount;
    mount.cache_bytes = cache_bytes;
    fs = must(FileSystem::mount(*context, std::move(device), mount));
  }
};

// ---- One durable write, as bare as can be

void raw_write(benchmark::State& state, bool fua) {
  const auto context = new_context();
  const auto device = open_bench_device(*context);
  const auto channel = must(device->open_channel());
  const uint32_t unit = device->info().block_size;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(4096, 4096));
  std::fill_n(data, 4096, std::byte{1});
  iovec vector{data, unit};
  uint64_t lba = 0;
  for (auto _ : state) {
    Io io;
    io.op = Op::write;
    io.flags.fua = fua;
    io.lba = Lba{1000 + lba++ / 4};
    io.block_count = BlockCount{1};
    io.data = {&vector, 1};
    if (run(*channel, io) != StatusCode::ok) state.SkipWithError("write");
    if (fua) continue;
    Io flush;
    flush.op = Op::flush;
    if (run(*channel, flush) != StatusCode::ok) state.SkipWithError("flush");
  }
  std::free(data);
}
void raw_write_fua(benchmark::State& state) { raw_write(state, true); }
void raw_write_flush(benchmark::State& state) { raw_write(state, false); }
BENCHMARK(raw_write_fua)->UseRealTime();
BENCHMARK(raw_write_flush)->UseRealTime();

// ---- Logs

enum class Durable : uint8_t { process_death, power_loss };

// Records of range(0) bytes, each flushed, or flushed and synced. A new log takes over when one is
// full, as a database does, outside the time measured.
void log_append(benchmark::State& state, Durable durable) {
  constexpr uint64_t kLog = 64 << 20;
  World world;
  auto wal = must(world.fs->create("/wal", FileKind::log, {.preallocate_bytes = kLog}));
  const std::vector<std::byte> record(static_cast<size_t>(state.range(0)), std::byte{7});
  const uint64_t commits = world.fs->stats().journal_commits;
  for (auto _ : state) {
    must(wal->append(record));
    must(wal->flush());
    if (durable == Durable::power_loss) must(wal->sync());
    if (wal->size() + record.size() > kLog) {
      state.PauseTiming();
      must(wal->close());
      wal = must(world.fs->create("/wal", FileKind::log, {.preallocate_bytes = kLog}));
      state.ResumeTiming();
    }
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * state.range(0));
  state.counters["commits"] = static_cast<double>(world.fs->stats().journal_commits - commits);
  must(wal->close());
}
void log_append_sync(benchmark::State& state) { log_append(state, Durable::power_loss); }
void log_append_flush(benchmark::State& state) { log_append(state, Durable::process_death); }
BENCHMARK(log_append_sync)->Arg(100)->Arg(1000)->Arg(10000)->UseRealTime();
BENCHMARK(log_append_flush)->Arg(100)->Arg(4096)->UseRealTime();

// What the threads of a benchmark share; thread 0 makes and destroys it, outside the loop.
struct Shared {
  explicit Shared(uint64_t cache_bytes, bool data_checksums = false)
      : world(cache_bytes, data_checksums) {}
  World world;
  std::unique_ptr<File> file;
  Mutex append_mutex;  // appends to one file are serialised by the caller
  FileSystemStats before;
};
std::unique_ptr<Shared> shared;

// Threads that append 100 bytes to one log and wait for them; "writes" per sync shows the sharing.
void log_sync_shared(benchmark::State& state) {
  if (state.thread_index() == 0) {
    shared = std::make_unique<Shared>(kCache);
    shared->file =
        must(shared->world.fs->create("/wal", FileKind::log, {.preallocate_bytes = 256 << 20}));
    shared->before = shared->world.fs->stats();
  }
  const std::vector<std::byte> record(100, std::byte{1});
  for (auto _ : state) {
    {
      const MutexLock lock(shared->append_mutex);
      must(shared->file->append(record));
    }
    must(shared->file->sync());
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() != 0) return;
  const FileSystemStats after = shared->world.fs->stats();
  state.counters["writes"] =
      static_cast<double>(after.device_writes - shared->before.device_writes) /
      static_cast<double>(state.iterations() * state.threads());
  must(shared->file->close());
  shared.reset();
}
BENCHMARK(log_sync_shared)->Threads(1)->Threads(8)->Threads(64)->UseRealTime();

// ---- Tables

void write_tables(benchmark::State& state, bool data_checksums) {
  World world(kCache, data_checksums);
  const std::vector<std::byte> piece(static_cast<size_t>(state.range(0)), std::byte{7});
  constexpr uint64_t kTable = 64 << 20;
  for (auto _ : state) {
    const auto table =
        must(world.fs->create("/sst", FileKind::table, {.preallocate_bytes = kTable}));
    for (uint64_t at = 0; at < kTable; at += piece.size()) must(table->append(piece));
    must(table->sync());
    must(table->close());
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kTable));
}
void table_write(benchmark::State& state) { write_tables(state, false); }
void table_write_checksums(benchmark::State& state) { write_tables(state, true); }
BENCHMARK(table_write)->Arg(943 << 10)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(table_write_checksums)->Arg(943 << 10)->UseRealTime()->Unit(benchmark::kMillisecond);

// Random reads of 4 KiB from a table of kReadTable bytes, at any byte. "hits" is the share of cache
// look-ups that found their page.
constexpr uint64_t kReadTable = 128 << 20;

void table_read(benchmark::State& state, uint64_t cache_bytes, bool data_checksums = false) {
  std::vector<std::byte> out(4096);
  if (state.thread_index() == 0) {
    shared = std::make_unique<Shared>(cache_bytes, data_checksums);
    const auto table = must(shared->world.fs->create("/sst", FileKind::table, {}));
    const std::vector<std::byte> piece(1 << 20, std::byte{7});
    for (uint64_t at = 0; at < kReadTable; at += piece.size()) must(table->append(piece));
    must(table->close());
    shared->file = must(shared->world.fs->open("/sst", OpenMode::read_only));
    shared->file->advise(File::Access::random);
    for (uint64_t at = 0; at < kReadTable; at += out.size()) must(shared->file->read(at, out));
    shared->before = shared->world.fs->stats();
  }
  uint64_t random = 88172645463325252u + static_cast<uint64_t>(state.thread_index()) * 7919;
  for (auto _ : state) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    must(shared->file->read(random % (kReadTable - out.size()), out));
  }
  state.SetItemsProcessed(state.iterations());
  if (state.thread_index() != 0) return;
  const FileSystemStats after = shared->world.fs->stats();
  const uint64_t hits = after.cache_hits - shared->before.cache_hits;
  const uint64_t lookups = hits + after.cache_misses - shared->before.cache_misses;
  if (lookups > 0) {
    state.counters["hits"] = static_cast<double>(hits) / static_cast<double>(lookups);
  }
  shared.reset();
}
// Everything in the cache; a sixteenth of it, so that pages come and go; no cache.
void table_read_hit(benchmark::State& state) { table_read(state, 2 * kReadTable); }
void table_read_miss(benchmark::State& state) { table_read(state, kReadTable / 16); }
void table_read_direct(benchmark::State& state) { table_read(state, 0); }
void table_read_miss_checksums(benchmark::State& state) {
  table_read(state, kReadTable / 16, true);
}
void table_read_direct_checksums(benchmark::State& state) { table_read(state, 0, true); }
BENCHMARK(table_read_hit)->ThreadRange(1, 8)->UseRealTime();
BENCHMARK(table_read_miss)->ThreadRange(1, 8)->UseRealTime();
BENCHMARK(table_read_direct)->ThreadRange(1, 8)->UseRealTime();
BENCHMARK(table_read_miss_checksums)->ThreadRange(1, 8)->UseRealTime();
BENCHMARK(table_read_direct_checksums)->ThreadRange(1, 8)->UseRealTime();

void table_scan(benchmark::State& state) {
  World world;
  constexpr uint64_t kTable = 64 << 20;
  {
    const auto table = must(world.fs->create("/sst", FileKind::table, {}));
    const std::vector<std::byte> piece(1 << 20, std::byte{7});
    for (uint64_t at = 0; at < kTable; at += piece.size()) must(table->append(piece));
    must(table->close());
  }
  std::vector<std::byte> out(3800);
  for (auto _ : state) {
    const auto table = must(world.fs->open("/sst", OpenMode::read_only));
    for (uint64_t at = 0; at < kTable; at += out.size()) must(table->read(at, out));
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * kTable));
}
BENCHMARK(table_scan)->UseRealTime()->Unit(benchmark::kMillisecond);

// ---- Names

void create_and_remove(benchmark::State& state) {
  World world;
  must(world.fs->make_directory("/db"));
  for (auto _ : state) {
    must(must(world.fs->create("/db/000001.log", FileKind::log, {}))->close());
    must(world.fs->remove("/db/000001.log"));
  }
}
BENCHMARK(create_and_remove)->UseRealTime();

void stat_a_name(benchmark::State& state) {
  World world;
  must(world.fs->make_directory("/db"));
  for (int i = 0; i < 10000; ++i) {
    must(must(world.fs->create("/db/" + std::to_string(i), FileKind::table, {}))->close());
  }
  uint64_t n = 0;
  for (auto _ : state) {
    must(world.fs->stat("/db/" + std::to_string(n++ * 7919 % 10000)));
  }
}
BENCHMARK(stat_a_name)->UseRealTime();

// Mounting a store of range(0) files after a clean unmount, from a sparse image that the page cache
// of the system holds. (bench/blob measures the opening after a crash.)
void mount_many_files(benchmark::State& state) {
  const auto context = new_context();
  const std::string image = std::filesystem::temp_directory_path() / "basalt-bench-mount.img";
  std::filesystem::remove(image);
  const std::string uri = "file:" + image + "?size=4G";
  {
    auto device = must(open_device(*context, uri));
    FormatOptions format;
    format.metadata_bytes = 256 << 20;
    must(FileSystem::format(*context, *device, format));
    auto fs = must(FileSystem::mount(*context, std::move(device), {}));
    for (int64_t i = 0; i < state.range(0); ++i) {
      must(must(fs->create("/f" + std::to_string(i), FileKind::table, {}))->close());
    }
    must(fs->unmount());
  }
  for (auto _ : state) {
    auto device = must(open_device(*context, uri));
    auto fs = must(FileSystem::mount(*context, std::move(device), {}));
    state.PauseTiming();
    must(fs->unmount());
    fs.reset();
    state.ResumeTiming();
  }
  std::filesystem::remove(image);
}
BENCHMARK(mount_many_files)
    ->Arg(100000)
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5);

}  // namespace
}  // namespace basalt

BENCHMARK_MAIN();
