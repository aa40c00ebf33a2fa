// How long the crash tests run, and how to run one again.
//
// BASALT_CRASH_ROUNDS: rounds per test, instead of the few that ctest runs. BASALT_CRASH_SEED: seed of the
// first round; the rounds take consecutive seeds. BASALT_CRASH_KEEP: a directory; a failing round leaves
// there the disk as the last crash left it, for `basalt check` and `basalt dump`. Every failure names its
// seed and the command that repeats that round alone.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace basalt::crash {

inline uint64_t setting(const char* name, uint64_t normally) {
  const char* text = std::getenv(name);
  return text == nullptr ? normally : std::strtoull(text, nullptr, 0);
}
inline uint64_t rounds(uint64_t normally) { return setting("BASALT_CRASH_ROUNDS", normally); }
inline uint64_t first_seed(uint64_t normally = 1) { return setting("BASALT_CRASH_SEED", normally); }

// For SCOPED_TRACE and messages.
inline std::string replay_hint(uint64_t seed) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  return "seed " + std::to_string(seed) +
         "; replay: BASALT_CRASH_ROUNDS=1 BASALT_CRASH_SEED=" + std::to_string(seed) +
         " build/<preset>/tests/" + program_invocation_short_name +
         " --gtest_filter=" + test->test_suite_name() + "." + test->name();
}

}  // namespace basalt::crash
