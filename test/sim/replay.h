// How long random tests run, and the one command that runs a failed one again.
//
// BASALT_CRASH_ROUNDS: rounds per test, instead of the few that ctest runs. BASALT_CRASH_SEED: seed of the
// first round; the rounds take consecutive seeds. A test names its round by SCOPED_TRACE(replay_hint(seed)), or
// takes the seed as its parameter (seeds()) and says SCOPED_TRACE(replay_hint(GetParam())).
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace basalt::sim {

inline uint64_t setting(const char* name, uint64_t normally) {
  const char* text = std::getenv(name);
  return text == nullptr ? normally : std::strtoull(text, nullptr, 0);
}
inline uint64_t rounds(uint64_t normally) { return setting("BASALT_CRASH_ROUNDS", normally); }
inline uint64_t first_seed(uint64_t normally = 1) { return setting("BASALT_CRASH_SEED", normally); }

inline std::string program_path() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length))
                    : std::string(program_invocation_name);
}

// A line for a shell that repeats the running test with this seed alone. `more`: further settings.
inline std::string replay_command(uint64_t seed, const std::string& more = "") {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  return "BASALT_CRASH_ROUNDS=1 BASALT_CRASH_SEED=" + std::to_string(seed) + " " +
         (more.empty() ? "" : more + " ") + program_path() +
         " '--gtest_filter=" + test->test_suite_name() + "." + test->name() + "'";
}
// For SCOPED_TRACE and messages.
inline std::string replay_hint(uint64_t seed, const std::string& more = "") {
  return "seed " + std::to_string(seed) + "; replay: " + replay_command(seed, more);
}

// INSTANTIATE_TEST_SUITE_P(Seeds, …, seeds(24), name_of_seed): a case for each seed, named after it, so that
// the command's filter finds it again.
inline auto seeds(uint64_t normally) {
  return testing::Range(first_seed(), first_seed() + rounds(normally));
}
inline std::string name_of_seed(const testing::TestParamInfo<uint64_t>& info) {
  return std::to_string(info.param);
}

}  // namespace basalt::sim
