// Scenarios: short histories, each about one thing a crash may hit, for the tests that cut the power after
// every command. All work below /s, which exists.
#pragma once

#include <span>

#include "crash/machine.h"
#include "crash/session.h"

namespace basalt::crash {

struct Scenario {
  const char* name;
  void (*run)(Session& session, Machine& machine);
  uint64_t disk_bytes = uint64_t{16} << 20;
  bool may_run_full = false;  // no_space is an answer
};

std::span<const Scenario> scenarios();

}  // namespace basalt::crash
