// The power goes after every device command of small scenarios, mount and unmount included, and of what it
// may leave of the unflushed writes every subset is looked at where there are few, many where there are
// more (explorer.h); crashes during recovery included. And the other way round: each flush is left out in
// turn, and some state must show it.
//
// BASALT_CRASH_STATES: distinct states (by the hash of the whole disk) wanted per case. ctest's normal
// count makes 210 000 over all cases; `./dev crash --long` asks for ten times as many.
// BASALT_CRASH_SEED, BASALT_CRASH_COMMAND: one run, one moment of it.
#include <gtest/gtest.h>

#include <malloc.h>

#include <algorithm>
#include <iostream>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "crash/explorer.h"
#include "crash/scenarios.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

// A store's buffers come and go with every state: kept by the process, they cost nothing.
[[maybe_unused]] const int kKeepsMemory =
    mallopt(M_MMAP_THRESHOLD, 64 << 20) + mallopt(M_TRIM_THRESHOLD, 256 << 20);

constexpr const char* kDisks[] = {"512", "4096", "512FuaAtomic4096"};

MachineOptions options_for(unsigned disk) {
  MachineOptions options;
  options.disk.block_bytes = disk == 1 ? 4096 : 512;
  options.disk.atomic_blocks = disk == 2 ? 8 : 1;
  options.disk.native_fua = disk == 2;
  options.disk.max_delay_polls = 1;
  options.format.journal_bytes = uint64_t{1} << 20;
  options.format.data_checksums = disk == 2;
  options.mount.tail_bytes = uint64_t{1} << 20;
  return options;
}

using Case = std::tuple<unsigned, unsigned>;
std::string name_of(const testing::TestParamInfo<Case>& info) {
  return std::string(scenarios()[std::get<0>(info.param)].name) + "_" +
         kDisks[std::get<1>(info.param)];
}
const auto kAllCases =
    testing::Combine(testing::Range(0u, static_cast<unsigned>(scenarios().size())),
                     testing::Range(0u, static_cast<unsigned>(std::size(kDisks))));

class EveryState : public testing::TestWithParam<Case> {
 protected:
  EveryState()
      : explorer_(scenarios()[std::get<0>(GetParam())], options_for(std::get<1>(GetParam()))) {}
  Explorer explorer_;
};

// Runs with other orders of execution until so many distinct states were seen; the first run looks at all
// moments, whatever it takes.
TEST_P(EveryState, IsLegal) {
  const uint64_t wanted = setting("BASALT_CRASH_STATES", 5000);
  const uint64_t only = setting("BASALT_CRASH_COMMAND", 0);
  const uint64_t first = first_seed();
  const uint64_t moments = explorer_.count_commands(1);  // the same for every first seed
  ASSERT_GE(moments, 20u);
  std::unordered_set<uint64_t> seen;
  Exploration sum;
  uint64_t seed = first;
  for (; seed == first || (seen.size() < wanted && only == 0); ++seed) {
    const size_t before = seen.size();
    const ExplorerOptions options{
        .seed = seed,
        .states_per_moment = std::clamp<uint64_t>(wanted / moments, 4, 64),
        .only_command = only};
    const Exploration found = explorer_.run(options, seen);
    ASSERT_EQ(found.problem, "") << replay_hint(
        seed, "BASALT_CRASH_STATES=" + std::to_string(wanted) +
                  " BASALT_CRASH_COMMAND=" + std::to_string(found.commands));
    sum.states += found.states;
    sum.in_recovery += found.in_recovery;
    sum.emptied += found.emptied;
    sum.without_newest += found.without_newest;
    ASSERT_GT(seen.size(), before) << "there are no more than " << before << " states to be seen";
  }
  std::cout << "crash states: " << seen.size() << " distinct, " << sum.states << " looked at ("
            << sum.in_recovery << " in recovery, " << sum.emptied << " emptied, "
            << sum.without_newest << " without the newer superblock), " << moments
            << " moments, seeds " << first << " to " << seed - 1 << "\n";
}

INSTANTIATE_TEST_SUITE_P(Scenarios, EveryState, kAllCases, name_of);

// Not every flush can be missed: those of mounting and unmounting a store that is in order, and those of
// what nobody has asked to be durable. Of the others half must be, and the last line tells which were not.
class EveryFlush : public EveryState {};

TEST_P(EveryFlush, IsMissed) {
  constexpr uint64_t kOfMountAndUnmount = 6;
  std::unordered_set<uint64_t> ignored;
  const Exploration honest = explorer_.run({.states_per_moment = 0}, ignored);
  std::string unnoticed;
  uint64_t noticed = 0;
  for (uint64_t flush = 0; flush < honest.flushes; ++flush) {
    const Exploration found =
        explorer_.run({.states_per_moment = 16, .ignored_flush = flush}, ignored);
    if (found.problem.empty()) {
      unnoticed += " " + std::to_string(flush);
    } else {
      ++noticed;
    }
  }
  std::cout << "flushes left out: " << noticed << " of " << honest.flushes
            << " noticed; not:" << unnoticed << "\n";
  ASSERT_GT(honest.flushes, kOfMountAndUnmount);
  EXPECT_GE(2 * noticed, honest.flushes - kOfMountAndUnmount);
}

// One disk, and no scenario of hundreds of flushes.
std::vector<unsigned> short_scenarios() {
  std::vector<unsigned> chosen;
  for (unsigned i = 0; i < scenarios().size(); ++i) {
    if (!std::string_view(scenarios()[i].name).starts_with("journal_")) chosen.push_back(i);
  }
  return chosen;
}
INSTANTIATE_TEST_SUITE_P(Scenarios, EveryFlush,
                         testing::Combine(testing::ValuesIn(short_scenarios()),
                                          testing::Values(2u)),
                         name_of);

}  // namespace
}  // namespace basalt::crash
