// Mounting what a killed process left, on real files: a child process makes the state and is ended with
// SIGKILL, then this process is timed from opening the device to the mounted file system, with the
// replay of the shared memory the child left. The target is 200 ms with 100 000 files, whatever the
// device's size and however much metadata there is.
//
// The files lie in BASALT_BENCH_DIR (default: the system's folder for temporary files). They are
// sparse; for the largest the folder's file system must take files of 64 TiB, as xfs does.
#include <basalt/device.h>
#include <basalt/devices.h>
#include <basalt/file_system.h>
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blob/blob_store.h"
#include "bench/must.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace basalt {
namespace {

// A sparse image, removed in the end.
class Image {
 public:
  explicit Image(uint64_t size_gib) {
    const char* folder = std::getenv("BASALT_BENCH_DIR");
    path_ = (folder != nullptr ? std::filesystem::path(folder)
                               : std::filesystem::temp_directory_path()) /
            ("basalt-bench-" + std::to_string(::getpid()) + ".img");
    uri_ = "file:" + path_.string() + "?size=" + std::to_string(size_gib) + "G";
  }
  ~Image() { std::filesystem::remove(path_); }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  const std::string& uri() const { return uri_; }

 private:
  std::filesystem::path path_;
  std::string uri_;
};

// What one process has open; leaving is the end of the process.
struct World {
  World() : context(must(Context::create())) { register_standard_schemes(*context); }
  std::unique_ptr<Device> open(const Image& image) {
    return must(open_device(*context, image.uri()));
  }
  std::unique_ptr<Context> context;
};

// Runs `make` in a process of its own, which is killed when it returns.
template <typename Make>
void make_and_kill(Make make) {
  int ready[2];
  if (::pipe(ready) != 0) std::abort();
  const pid_t child = ::fork();
  if (child < 0) std::abort();
  if (child == 0) {
    make([&] {
      if (::write(ready[1], "", 1) != 1) std::abort();
      while (true) ::pause();
    });
    std::abort();
  }
  ::close(ready[1]);
  char byte = 0;
  const ssize_t got = ::read(ready[0], &byte, 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  if (got != 1) {
    std::fprintf(stderr, "the process that makes the state ended early\n");
    std::abort();
  }
}

void add_files(FileSystem& fs, const std::string& prefix, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    must(must(fs.create(prefix + std::to_string(i), FileKind::table, {}))->close());
  }
}

// What a process does before it is killed: makes files, and appends to a log without a sync.
struct Changes {
  int64_t files;
  int64_t log_mib;
};

void change_and_kill(const Image& image, const std::string& prefix, const Changes& changes) {
  make_and_kill([&](const auto& killed_here) {
    World world;
    const auto fs = must(FileSystem::mount(*world.context, world.open(image), {}));
    add_files(*fs, prefix, changes.files);
    const auto log = must(fs->create("/log" + prefix.substr(1), FileKind::log, {}));
    const std::vector<std::byte> piece(1 << 20, std::byte{7});
    for (int64_t i = 0; i < changes.log_mib; ++i) must(log->append(piece));
    must(log->flush());
    killed_here();
  });
}

void time_mounts(benchmark::State& state, const Image& image, const Changes& changes) {
  int64_t round = 0;
  for (auto _ : state) {
    state.PauseTiming();
    change_and_kill(image, "/c" + std::to_string(++round) + "-", changes);
    World world;
    state.ResumeTiming();
    auto fs = must(FileSystem::mount(*world.context, world.open(image), {}));
    state.PauseTiming();
    must(fs->unmount());
    fs.reset();
    state.ResumeTiming();
  }
}

void format(const Image& image, uint64_t metadata_bytes) {
  World world;
  FormatOptions options;
  options.metadata_bytes = metadata_bytes;
  must(FileSystem::format(*world.context, *world.open(image), options));
}

void mount_after_kill(benchmark::State& state) {
  const Image image(8);
  format(image, 256 << 20);
  make_and_kill([&](const auto& killed_here) {
    World world;
    const auto fs = must(FileSystem::mount(*world.context, world.open(image), {}));
    add_files(*fs, "/f", state.range(0));
    killed_here();
  });
  time_mounts(state, image, {.files = state.range(1), .log_mib = state.range(2)});
}
BENCHMARK(mount_after_kill)
    ->ArgNames({"files", "changes", "log_MiB"})
    ->Args({100000, 100, 16})
    ->Args({100000, 10000, 16})
    ->Args({100000, 100, 100})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(7);

void mount_after_kill_by_size(benchmark::State& state) {
  const Image image(static_cast<uint64_t>(state.range(0)));
  format(image, 0);
  time_mounts(state, image, {.files = 100, .log_mib = 16});
}
BENCHMARK(mount_after_kill_by_size)
    ->ArgName("GiB")
    ->Arg(8)
    ->Arg(1024)
    ->Arg(65536)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(7);

// Extents none of which touches the next, 10 000 a blob, in a store that also holds a file system.
void add_extents(blob::BlobStore& store, int64_t count) {
  constexpr int64_t kPerBlob = 10000, kPerTransaction = 50;
  for (int64_t made = 0; made < count;) {
    const BlobId id = store.new_blob_id();
    blob::Transaction create;
    create.create_blob(id, {});
    must(store.apply(create));
    for (int64_t i = 0; i < kPerBlob; i += kPerTransaction, made += kPerTransaction) {
      blob::Transaction txn;
      for (int64_t n = i; n < i + kPerTransaction; ++n) {
        must(store.allocate(txn, id, {static_cast<uint64_t>(n) * 8, 4}));
      }
      must(store.apply(txn));
    }
  }
}

void mount_after_kill_with_extents(benchmark::State& state) {
  const Image image(1024);
  {
    World world;
    FormatOptions options;
    options.cluster_bytes = 16384;
    options.metadata_bytes = uint64_t{2} << 30;
    must(FileSystem::format(*world.context, *world.open(image), options));
  }
  make_and_kill([&](const auto& killed_here) {
    World world;
    const auto device = world.open(image);
    const auto store = must(blob::BlobStore::open(*world.context, *device, {}));
    add_extents(*store, state.range(0));
    must(store->wait_durable(store->last_ticket()));
    killed_here();
  });
  time_mounts(state, image, {.files = 100, .log_mib = 16});
}
BENCHMARK(mount_after_kill_with_extents)
    ->ArgName("extents")
    ->Arg(10000)
    ->Arg(10000000)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime()
    ->Iterations(7);

}  // namespace
}  // namespace basalt

BENCHMARK_MAIN();
