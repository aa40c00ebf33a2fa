// Context: everything that would otherwise be global.
//
// A Context carries the clock, randomness, boot id, log, memory map, background executor and the
// table of device URI schemes. Devices, stores and file systems are opened with one and must be
// destroyed before it. Several Contexts in one process know nothing of each other.
//
//   auto context = basalt::Context::create();
//   if (!context) return fail(context.error());
//   basalt::register_standard_schemes(**context);            // <basalt/devices.h>
//   auto device = basalt::open_device(**context, "ram:64M");  // <basalt/device.h>
//
// Thread rules: every member may be called from any thread.
#pragma once

#include <basalt/status.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace basalt {

using Duration = std::chrono::nanoseconds;

enum class LogLevel : uint8_t { debug, info, warning, error };

// Receives one structured line per event; called from any thread, must not call back into Basalt.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void log(LogLevel level, std::string_view module, std::string_view line) = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;
  // Monotonic time since an arbitrary start.
  virtual Duration now() = 0;
  // Wall clock, since 1970-01-01 UTC.
  virtual Duration wall_now() = 0;
};

class RandomSource {
 public:
  virtual ~RandomSource() = default;
  // Fills `out` with unpredictable bytes (store UUIDs, open ids).
  virtual void fill(std::span<std::byte> out) = 0;
};

// A unit of background work; owned by whoever posts it, which must call Executor::cancel() before
// destroying it. `run` may post itself again, and may block for a bounded time.
struct BackgroundTask {
  std::function<void()> run;
  // Private to the executor.
  enum class State : uint8_t { idle, queued, running, running_requeued } state = State::idle;
  Duration due{};
  BackgroundTask* next = nullptr;
};

// Runs background progress (checkpoints, write-behind, discards, keep-alive, reconnect) while no
// caller polls. The default is one sleeping thread per Context, started by the first post().
class Executor {
 public:
  virtual ~Executor() = default;
  // Runs the task once, not before `delay` has passed. Posting a queued task keeps the earlier time.
  virtual void post(BackgroundTask& task, Duration delay = Duration::zero()) = 0;
  // Takes the task back; returns when it is neither queued nor running. Not from the task itself.
  virtual void cancel(BackgroundTask& task) = 0;
};

class MemoryMap;    // src/mem/memory_map.h
class SchemeTable;  // src/bdev/scheme_table.h

struct ContextOptions {
  // Objects given here stay the caller's and must outlive the Context; null takes the default.
  LogSink* log = nullptr;          // default: warnings and errors to stderr
  Clock* clock = nullptr;          // default: CLOCK_MONOTONIC and CLOCK_REALTIME
  RandomSource* random = nullptr;  // default: getrandom(2)
  Executor* executor = nullptr;    // default: one sleeping thread
  // Identifies this boot of the machine; empty reads /proc/sys/kernel/random/boot_id. Shared-memory
  // tails (see docs/format/tail.md) are replayed only under the boot id they were written under.
  std::string boot_id;
  // Where shared-memory tails live; empty takes /dev/shm. Tests simulate power loss with their own.
  std::string shared_memory_dir;
  // Upper bound on memory for bouncing buffers a device cannot use as they are, per channel.
  size_t bounce_bytes_per_channel = size_t{4} << 20;
};

class Context {
 public:
  static Result<std::unique_ptr<Context>> create(const ContextOptions& options = {});
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  LogSink& log();
  Clock& clock();
  RandomSource& random();
  Executor& executor();
  MemoryMap& memory();
  SchemeTable& schemes();
  const std::string& boot_id() const;
  const std::string& shared_memory_dir() const;
  size_t bounce_bytes_per_channel() const;

 private:
  struct Impl;
  explicit Context(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace basalt
