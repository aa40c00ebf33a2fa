// What was done by reading, by writing and otherwise: how often, how much, what failed, how long it took.
//
// IoCounters is written by one thread, a reactor's, on the way of each command, and read by any other at any time: each number is
// an atomic by itself that is loaded and stored without order and never added to by two, so nobody waits for anybody and
// nothing is allocated. Numbers read together may be of slightly different moments; none of them ever becomes smaller, but
// `outstanding`. IoTotals is a copy, to be added up.
#pragma once

#include <basalt/device.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "wire/nvme/command.h"

namespace basalt::nvmf {

enum class IoKind : uint8_t { read, write, other };
inline constexpr size_t kIoKinds = 3;
const char* to_string(IoKind kind);
// Of an I/O command: all but Read and Write are `other`.
IoKind io_kind(const nvme::Command& command) noexcept;

void add(LatencyHistogram& sum, const LatencyHistogram& more);
// The sum of a histogram's samples in nanoseconds, each taken for the middle of its bucket: within an eighth, for samples between
// 16 ns and 69 s.
uint64_t estimated_sum(const LatencyHistogram& histogram);

class IoCounters {
 public:
  // ---- The writer's thread
  void begin() noexcept { change(outstanding_, uint64_t{1}); }
  // The command has its answer. `bytes`: read or written.
  void end(IoKind kind, bool ok, uint64_t bytes, Duration latency) noexcept;
  // It will not get one.
  void abandon() noexcept { change(outstanding_, ~uint64_t{0}); }
  uint64_t outstanding() const noexcept { return outstanding_.load(std::memory_order_relaxed); }

 private:
  friend struct IoTotals;
  using Counter = std::atomic<uint64_t>;
  struct Kind {
    Counter errors{0}, bytes{0}, nanoseconds{0};
    std::array<Counter, LatencyHistogram::kBuckets> latency{};
  };
  static void change(Counter& counter, uint64_t by) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  Counter outstanding_{0};
  std::array<Kind, kIoKinds> kinds_;
};

struct IoTotals {
  struct Kind {
    uint64_t errors = 0;       // answered with a status that is not good
    uint64_t bytes = 0;        // of those that went well
    uint64_t nanoseconds = 0;  // of all together, from arrival to answer
    LatencyHistogram latency;  // of all, errors too
    uint64_t operations() const { return latency.count(); }
  };
  std::array<Kind, kIoKinds> kinds;
  uint64_t outstanding = 0;

  const Kind& of(IoKind kind) const { return kinds[static_cast<size_t>(kind)]; }
  void add(const IoCounters& counters);
  void add(const IoTotals& other);
};

// What is counted of one thing by several reactors: counters for each.
class ReactorCounters {
 public:
  explicit ReactorCounters(size_t reactors) : count_(reactors), each_(new IoCounters[reactors]) {}
  IoCounters& of(size_t reactor) { return each_[reactor]; }
  IoTotals total() const;

 private:
  const size_t count_;
  const std::unique_ptr<IoCounters[]> each_;
};

}  // namespace basalt::nvmf
