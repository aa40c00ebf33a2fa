// What a command costs the NVMe/TCP target: random 4 KiB reads of a null device over loopback, by Basalt's own host. The
// host polls on core 0, the target has core 1 (where the machine has two). Argument: queue depth.
//
// `target_busy` is the share of the time that the target's reactor had work, `host_idle` that of the host's looks that found
// nothing: reads per second are the target's figure only where it is busy and the host is not.
// BASALT_BENCH_TARGET: the URI of another target's null namespace, to be measured by the same host instead.
#include <basalt/devices.h>
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sched.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/must.h"
#include "mem/arena.h"
#include "reactor/reactor.h"
#include "targets/nvmf/target.h"

namespace basalt {
namespace {

constexpr const char* kNqn = "nqn.2014-08.org.example:null";

class Target {
 public:
  Target() : context_(must(Context::create())) {
    register_standard_schemes(*context_);
    ReactorOptions options;
    options.core = std::thread::hardware_concurrency() > 1 ? 1 : -1;
    reactor_ = must(Reactor::create(context_->clock(), options));
    target_ = std::make_unique<nvmf::Target>(*context_, std::vector<Reactor*>{reactor_.get()},
                                             nvmf::TargetOptions{});
    must(target_->create_subsystem({.nqn = kNqn, .allow_any_host = true}));
    must(target_->add_namespace(kNqn, must(open_device(*context_, "null:64G?block=4096"))));
    uri_ = "nvme:tcp:" + must(target_->add_listener(kNqn, {"127.0.0.1", "0"})).to_string() + "/" +
           kNqn + "/1";
  }
  const std::string& uri() const { return uri_; }
  Duration busy() const { return reactor_->stats().busy; }

 private:
  std::unique_ptr<Context> context_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<nvmf::Target> target_;
  std::string uri_;
};

// This thread on core 0, for as long as this is there.
class OnCore0 {
 public:
  OnCore0() {
    ::pthread_getaffinity_np(::pthread_self(), sizeof before_, &before_);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(0, &cores);
    ::pthread_setaffinity_np(::pthread_self(), sizeof cores, &cores);
  }
  ~OnCore0() { ::pthread_setaffinity_np(::pthread_self(), sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

struct Reader {
  Io io;
  iovec piece{};
  Channel* channel = nullptr;
  uint64_t* count = nullptr;
  uint64_t random = 0;
  uint64_t blocks = 0;
  bool* stop = nullptr;
};

void nvmf_reads(benchmark::State& state) {
  const auto depth = static_cast<unsigned>(state.range(0));
  const char* const other = std::getenv("BASALT_BENCH_TARGET");
  const std::unique_ptr<Target> target = other == nullptr ? std::make_unique<Target>() : nullptr;
  const OnCore0 here;
  const auto context = must(Context::create());
  register_standard_schemes(*context);
  const auto device = must(open_device(*context, target ? target->uri() : other));
  const auto arena =
      must(Arena::create({.bytes = depth * size_t{4096}, .map = &context->memory()}));
  const auto channel = must(device->open_channel());
  const uint32_t per_read = 4096 / device->info().block_size;
  uint64_t count = 0, looks = 0, empty = 0;
  bool stop = false;
  std::vector<Reader> readers(depth);
  for (unsigned i = 0; i < depth; ++i) {
    Reader& reader = readers[i];
    reader.piece = {arena->memory().data() + i * size_t{4096}, 4096};
    reader.channel = channel.get();
    reader.count = &count;
    reader.random = i * 0x9e3779b97f4a7c15;
    reader.blocks = device->info().block_count.value / per_read;
    reader.stop = &stop;
    reader.io.block_count = BlockCount{per_read};
    reader.io.data = {&reader.piece, 1};
    reader.io.user = &reader;
    reader.io.done = [](Io& io) {
      auto& self = *static_cast<Reader*>(io.user);
      if (io.status != StatusCode::ok) std::abort();
      ++*self.count;
      if (*self.stop) return;
      self.random = self.random * 6364136223846793005 + 1442695040888963407;
      io.lba = Lba{(self.random >> 20) % self.blocks * io.block_count.value};
      self.channel->submit(io);
    };
    channel->submit(reader.io);
  }
  const auto poll_until = [&](uint64_t wanted) {
    while (count < wanted) {
      ++looks;
      if (channel->poll() == 0) ++empty;
    }
  };
  poll_until(20'000);
  looks = empty = 0;
  const uint64_t before = count;
  const Duration busy_before = target ? target->busy() : Duration();
  const Duration begin = context->clock().now();
  for (auto _ : state) poll_until(count + 1000);
  const Duration time = context->clock().now() - begin;
  state.SetItemsProcessed(static_cast<int64_t>(count - before));
  state.counters["host_idle"] = static_cast<double>(empty) / static_cast<double>(looks);
  if (target) {
    state.counters["target_busy"] = static_cast<double>((target->busy() - busy_before).count()) /
                                    static_cast<double>(time.count());
  }
  stop = true;
  while (channel->stats().outstanding > 0) channel->poll();
}
BENCHMARK(nvmf_reads)->ArgName("depth")->Arg(1)->Arg(32)->Arg(127)->UseRealTime();

}  // namespace
}  // namespace basalt

BENCHMARK_MAIN();
