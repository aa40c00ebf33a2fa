// basalt bench: random and sequential I/O on any device URI, with queue depth and latencies.
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/try.h"
#include "blob/blob_store.h"
#include "tool/bench_runner.h"
#include "tool/command.h"
#include "tool/progress.h"
#include "tool/session.h"
#include "tool/text.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;

struct BenchArguments {
  std::string uri;
  std::string workload = "randread";
  uint64_t block_bytes = 4096;
  uint64_t region_bytes = 0;  // 0: the whole device
  unsigned mix_read_percent = 70;
  double seconds = 10;
  BenchPlan plan;
  bool force = false;
  bool json = false;

  bool writes() const { return workload != "randread" && workload != "read"; }
};

Result<BenchPlan> make_plan(const BenchArguments& arguments, const DeviceInfo& info) {
  BenchPlan plan = arguments.plan;
  const uint64_t device_bytes = info.block_count.value * info.block_size;
  if (arguments.block_bytes == 0 || arguments.block_bytes % info.block_size != 0 ||
      arguments.block_bytes > (uint64_t{1} << 30)) {
    return error(StatusCode::invalid_argument, "--block " + std::to_string(arguments.block_bytes) +
                                                   ": must be a multiple of the device's block (" +
                                                   std::to_string(info.block_size) +
                                                   " B), at most 1 GiB");
  }
  plan.block_bytes = static_cast<uint32_t>(arguments.block_bytes);
  plan.region_bytes = arguments.region_bytes == 0 ? device_bytes : arguments.region_bytes;
  if (plan.region_bytes > device_bytes) {
    return error(StatusCode::invalid_argument, "--region " + size_text(plan.region_bytes) +
                                                   ": the device has only " +
                                                   size_text(device_bytes));
  }
  if (plan.region_bytes / plan.block_bytes < plan.threads) {
    return error(StatusCode::invalid_argument, "the region is smaller than one block per thread");
  }
  const bool mixed = arguments.workload == "randrw" || arguments.workload == "rw";
  plan.read_percent = mixed ? arguments.mix_read_percent : arguments.writes() ? 0 : 100;
  plan.sequential = !arguments.workload.starts_with("rand");
  plan.runtime =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(arguments.seconds));
  return plan;
}

// A benchmark that writes destroys what is on the device.
Status refuse_known_contents(Device& device) {
  BASALT_TRY_ASSIGN(auto channel, device.open_channel());
  BASALT_TRY_ASSIGN(const auto known, blob::probe(*channel, device.info()));
  if (!known) return {};
  return Status(StatusCode::already_exists, device.info().uri + " holds " + *known +
                                                "; writing would destroy it (--force does so)");
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

constexpr std::array kPercentiles = {0.5, 0.9, 0.99, 0.999, 0.9999};

Json latency_json(const LatencyHistogram& histogram) {
  return {{"p50_us", histogram.percentile(0.5) / 1e3},
          {"p90_us", histogram.percentile(0.9) / 1e3},
          {"p99_us", histogram.percentile(0.99) / 1e3},
          {"p99_9_us", histogram.percentile(0.999) / 1e3},
          {"p99_99_us", histogram.percentile(0.9999) / 1e3},
          {"max_us", histogram.percentile(1) / 1e3}};
}

Json kind_json(uint64_t count, uint64_t bytes, Duration elapsed,
               const LatencyHistogram& histogram) {
  return {{"count", count},
          {"iops", static_cast<double>(count) / seconds(elapsed)},
          {"bytes_per_second", static_cast<double>(bytes) / seconds(elapsed)},
          {"latency", latency_json(histogram)}};
}

void print_json(const BenchArguments& arguments, const BenchPlan& plan, const DeviceInfo& info,
                const BenchResult& result) {
  const Json out = {
      {"device", info.uri},
      {"workload", arguments.workload},
      {"block_bytes", plan.block_bytes},
      {"queue_depth", plan.queue_depth},
      {"threads", plan.threads},
      {"seconds", seconds(result.elapsed)},
      {"read", kind_json(result.reads, result.read_bytes, result.elapsed, result.read_latency)},
      {"write",
       kind_json(result.writes, result.written_bytes, result.elapsed, result.write_latency)},
      {"flush", kind_json(result.flushes, 0, result.elapsed, result.flush_latency)},
      {"bounced", result.bounced},
      {"errors", result.errors}};
  std::printf("%s\n", out.dump(2).c_str());
}

void print_kind(const char* name, uint64_t count, uint64_t bytes, Duration elapsed,
                const LatencyHistogram& histogram) {
  if (count == 0) return;
  std::printf(
      "%-6s %12s IOPS", name,
      grouped(static_cast<uint64_t>(static_cast<double>(count) / seconds(elapsed))).c_str());
  if (bytes > 0) {
    std::printf(
        " %12s/s",
        size_text(static_cast<uint64_t>(static_cast<double>(bytes) / seconds(elapsed))).c_str());
  }
  std::printf("\n       latency in us:");
  for (double fraction : kPercentiles) {
    std::printf("  %g %% %.1f", fraction * 100,
                static_cast<double>(histogram.percentile(fraction)) / 1e3);
  }
  std::printf("  max %.1f\n", static_cast<double>(histogram.percentile(1)) / 1e3);
}

void print_text(const BenchArguments& arguments, const BenchPlan& plan, const DeviceInfo& info,
                const BenchResult& result) {
  std::printf("%s of %s on %s, depth %u, %u thread%s, %.1f s\n", arguments.workload.c_str(),
              size_text(plan.block_bytes).c_str(), info.uri.c_str(), plan.queue_depth, plan.threads,
              plan.threads == 1 ? "" : "s", seconds(result.elapsed));
  print_kind("read", result.reads, result.read_bytes, result.elapsed, result.read_latency);
  print_kind("write", result.writes, result.written_bytes, result.elapsed, result.write_latency);
  print_kind("flush", result.flushes, 0, result.elapsed, result.flush_latency);
  if (result.bounced > 0)
    std::printf("%s buffers had to be copied\n", grouped(result.bounced).c_str());
}

Result<int> bench(const BenchArguments& arguments) {
  const OpenMode mode = arguments.writes() ? OpenMode::read_write : OpenMode::read_only;
  BASALT_TRY_ASSIGN(Session session, Session::open_device(arguments.uri, mode));
  Device& device = session.device();
  BASALT_TRY_ASSIGN(const BenchPlan plan, make_plan(arguments, device.info()));
  BASALT_TRY_ASSIGN(const Claim claim, device.claim(arguments.writes() ? ClaimMode::exclusive_writer
                                                                       : ClaimMode::read_only,
                                                    "basalt bench"));
  if (arguments.writes() && !arguments.force) BASALT_TRY(refuse_known_contents(device));
  std::optional<Progress> progress(std::in_place, arguments.workload);
  BASALT_TRY_ASSIGN(const BenchResult result,
                    run_bench(session.context(), device, plan,
                              [&progress](double fraction) { progress->show(fraction); }));
  progress.reset();
  if (arguments.json) {
    print_json(arguments, plan, device.info(), result);
  } else {
    print_text(arguments, plan, device.info(), result);
  }
  if (result.errors > 0) {
    return error(result.first_error,
                 std::to_string(result.errors) + " commands failed on " + device.info().uri);
  }
  return kDone;
}

}  // namespace

void add_bench_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App* command = app.add_subcommand("bench", "measure a device: IOPS, bandwidth, latencies");
  command->add_option("device", arguments->uri, "device URI")->required();
  command
      ->add_option("workload", arguments->workload,
                   "randread (default), randwrite, randrw, read, write, rw")
      ->check(CLI::IsMember({"randread", "randwrite", "randrw", "read", "write", "rw"}));
  add_size_option(*command, "-b,--block", arguments->block_bytes, "bytes per I/O (default 4K)");
  add_size_option(*command, "--region", arguments->region_bytes,
                  "only the first so many bytes (default: the whole device)");
  command
      ->add_option("-q,--depth", arguments->plan.queue_depth,
                   "I/Os in flight per thread (default 32)")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("-t,--threads", arguments->plan.threads, "threads, a channel each (default 1)")
      ->check(CLI::Range(1, 1024));
  command->add_option("-s,--seconds", arguments->seconds, "run time (default 10)")
      ->check(CLI::Range(0.01, 1e6));
  command
      ->add_option("--read-percent", arguments->mix_read_percent,
                   "share of reads in randrw and rw (default 70)")
      ->check(CLI::Range(0, 100));
  command->add_option("--flush-every", arguments->plan.flush_every, "a flush after so many writes");
  command->add_option("--seed", arguments->plan.seed, "of positions and data");
  command->add_flag("--fua", arguments->plan.fua, "writes are durable when they complete");
  command->add_flag("--poll", arguments->plan.busy_poll, "never sleep while waiting");
  command->add_flag("--force", arguments->force,
                    "write also to a device that holds something known");
  command->add_flag("--json", arguments->json, "for scripts");
  command->callback([arguments, &action] { action = [arguments] { return bench(*arguments); }; });
}

}  // namespace basalt::tool
