// Context: owns the defaults of everything that would otherwise be global.
#include <basalt/context.h>
#include <sys/random.h>
#include <time.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "base/check.h"
#include "base/try.h"
#include "bdev/executor.h"
#include "bdev/scheme_table.h"
#include "mem/memory_map.h"

namespace basalt {
namespace {

constexpr const char* kBootIdFile = "/proc/sys/kernel/random/boot_id";

// Warnings and errors, one line each.
class StderrLog final : public LogSink {
 public:
  void log(LogLevel level, std::string_view module, std::string_view line) override {
    if (level < LogLevel::warning) return;
    const char* name = level == LogLevel::warning ? "warning" : "error";
    std::fprintf(stderr, "basalt: %s: %.*s: %.*s\n", name, static_cast<int>(module.size()),
                 module.data(), static_cast<int>(line.size()), line.data());
  }
};

class SystemClock final : public Clock {
 public:
  Duration now() override { return read(CLOCK_MONOTONIC); }
  Duration wall_now() override { return read(CLOCK_REALTIME); }

 private:
  static Duration read(clockid_t id) {
    timespec time{};
    clock_gettime(id, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
};

class SystemRandom final : public RandomSource {
 public:
  void fill(std::span<std::byte> out) override {
    while (!out.empty()) {
      const ssize_t got = getrandom(out.data(), out.size(), 0);
      BASALT_CHECK(got > 0 || errno == EINTR, "getrandom(2) failed");
      if (got > 0) out = out.subspan(static_cast<size_t>(got));
    }
  }
};

Result<std::string> read_boot_id() {
  std::ifstream file(kBootIdFile);
  std::string id;
  if (!std::getline(file, id) || id.empty()) {
    return error(StatusCode::io_error, std::string("context: cannot read ") + kBootIdFile + ": " +
                                           std::strerror(errno) +
                                           "; give ContextOptions::boot_id instead");
  }
  return id;
}

}  // namespace

struct Context::Impl {
  explicit Impl(const ContextOptions& options)
      : log(options.log != nullptr ? *options.log : default_log),
        clock(options.clock != nullptr ? *options.clock : default_clock),
        random(options.random != nullptr ? *options.random : default_random),
        boot_id(options.boot_id),
        shared_memory_dir(options.shared_memory_dir.empty() ? "/dev/shm"
                                                            : options.shared_memory_dir),
        bounce_bytes(options.bounce_bytes_per_channel),
        memory(clock),
        default_executor(clock),
        executor(options.executor != nullptr ? *options.executor : default_executor) {}

  StderrLog default_log;
  SystemClock default_clock;
  SystemRandom default_random;
  LogSink& log;
  Clock& clock;
  RandomSource& random;
  std::string boot_id;
  const std::string shared_memory_dir;
  const size_t bounce_bytes;
  MemoryMap memory;
  SchemeTable schemes;
  ThreadExecutor default_executor;
  Executor& executor;
};

Result<std::unique_ptr<Context>> Context::create(const ContextOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  if (impl->boot_id.empty()) {
    BASALT_TRY_ASSIGN(impl->boot_id, read_boot_id());
  }
  return std::unique_ptr<Context>(new Context(std::move(impl)));
}

Context::Context(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Context::~Context() = default;

LogSink& Context::log() { return impl_->log; }
Clock& Context::clock() { return impl_->clock; }
RandomSource& Context::random() { return impl_->random; }
Executor& Context::executor() { return impl_->executor; }
MemoryMap& Context::memory() { return impl_->memory; }
SchemeTable& Context::schemes() { return impl_->schemes; }
const std::string& Context::boot_id() const { return impl_->boot_id; }
const std::string& Context::shared_memory_dir() const { return impl_->shared_memory_dir; }
size_t Context::bounce_bytes_per_channel() const { return impl_->bounce_bytes; }

}  // namespace basalt
