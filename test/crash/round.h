// One round of a crash test: a machine, some histories, crashes, recoveries, comparisons, all from a seed. With one
// thread, or scheduled ones, the same options give the same round, command by command (trace_test.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crash/machine.h"
#include "crash/operation.h"

namespace basalt::crash {

struct RoundOptions {
  uint64_t seed = 1;
  unsigned threads = 1;      // each with a history below a directory of its own
  unsigned generations = 3;  // crashes, each followed by recovery and comparison
  unsigned steps = 250;      // operations per history and generation, unless cut short
  bool power_loss = true;    // which crashes may happen
  bool process_death = false;
  bool ignore_flush = false;  // a dishonest disk
  // A disk that drops every flush, but not what is written with FUA, once the store is made.
  bool drop_flushes = false;
  // Threads that take turns as the seed decides (base/sim_scheduler.h), instead of real ones.
  bool scheduled = false;
  std::shared_ptr<sim::SimTrace> trace{};  // gets every command, operation and answer
  // The histories to run, as RoundResult has them, instead of those that the seed makes.
  const std::vector<History>* histories = nullptr;

  bool repeats_exactly() const { return threads == 1 || scheduled; }
};

struct RoundResult {
  std::vector<std::string> problems;
  // What led to them: the last operations of each history, and the log.
  std::string history;
  std::vector<History> histories;  // that were run: of each generation, thread by thread
  uint64_t cuts_in_recovery = 0;
  bool ok() const { return problems.empty(); }
  std::string text() const;
};

RoundResult run_round(const RoundOptions& options);

// The machine a seed stands for: block size, atomic unit, write cache, FUA, journal size, caches, …
MachineOptions machine_options(uint64_t seed);

// Everything below `directory` removed.
Status remove_all(FileSystem& fs, const std::string& directory);

}  // namespace basalt::crash
