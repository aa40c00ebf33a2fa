// StepClock: time that passes by being asked for, a microsecond each time; the date stands still. What a run
// does and what it leaves on the disk then depends on what was done alone.
//
// Thread rules: any thread.
#pragma once

#include <basalt/context.h>

#include <atomic>

namespace basalt::sim {

class StepClock final : public Clock {
 public:
  Duration now() override { return std::chrono::microseconds(++asked_); }
  Duration wall_now() override { return std::chrono::hours(24 * 365 * 50); }

 private:
  std::atomic<int64_t> asked_{0};
};

}  // namespace basalt::sim
