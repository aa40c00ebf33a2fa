// One seed, one run: the same round makes the same trace, byte for byte: every device command with its bytes'
// checksum, in the order of execution and of completion, and every call of the file system with its answer.
// With one thread, and with four simulated ones; on another core of the machine, within a process whose memory
// lies differently, and in another process. Other seeds make other traces.
//
// crash_trace_test --print SEED THREADS writes such a trace to the standard output.
#include <gtest/gtest.h>
#include <sched.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "crash/round.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

std::string trace_of(uint64_t seed, unsigned threads) {
  RoundOptions options{.seed = seed,
                       .threads = threads,
                       .generations = 2,
                       .steps = threads == 1 ? 150u : 60u,
                       .process_death = true,
                       .scheduled = threads > 1};
  options.trace = std::make_shared<sim::SimTrace>();
  const RoundResult result = run_round(options);
  EXPECT_TRUE(result.ok()) << result.text();
  return options.trace->text();
}

std::string trace_of_another_process(uint64_t seed, unsigned threads) {
  const std::string command = "'" + sim::program_path() + "' --print " + std::to_string(seed) +
                              " " + std::to_string(threads);
  std::FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) return "popen failed";
  std::string text;
  char part[65536];
  for (size_t length; (length = std::fread(part, 1, sizeof part, output)) > 0;) {
    text.append(part, length);
  }
  EXPECT_EQ(pclose(output), 0) << command;
  return text;
}

// Memory that lies elsewhere and holds other bytes.
std::vector<std::unique_ptr<char[]>> clutter(uint64_t seed) {
  std::vector<std::unique_ptr<char[]>> blocks;
  for (uint64_t i = 0; i < 300; ++i) {
    const size_t size = 64 + (i * (seed + 7)) % 9000;
    blocks.push_back(std::make_unique<char[]>(size));
    std::memset(blocks.back().get(), static_cast<int>(i + seed), size);
    if (i % 3 == 0) blocks.back().reset();
  }
  return blocks;
}

// Keeps the thread on the first or the last of its cores: a store leases channels by the core it runs on.
class OnCore {
 public:
  enum class Which : uint8_t { first, last };
  explicit OnCore(Which which) {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (!CPU_ISSET(core, &before_) || (which == Which::first && CPU_COUNT(&one) > 0)) continue;
      CPU_ZERO(&one);
      CPU_SET(core, &one);
    }
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OnCore() { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

class Trace : public testing::TestWithParam<unsigned> {};

TEST_P(Trace, IsTheSameForTheSameSeed) {
  for (uint64_t i = 0; i < rounds(5); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    std::string first, second;
    {
      const OnCore core(OnCore::Which::first);
      first = trace_of(seed, GetParam());
    }
    {
      const OnCore core(OnCore::Which::last);
      const auto blocks = clutter(seed);
      second = trace_of(seed, GetParam());
    }
    ASSERT_EQ(sim::first_difference(first, second), "");
    // A trace that says nothing would be equal too.
    EXPECT_GT(first.size(), 5'000u);
    for (const char* word : {"\n> ", "\n< ", " crc ", ": = ", "first mount = ok"}) {
      EXPECT_NE(first.find(word), std::string::npos) << word;
    }
  }
}

TEST_P(Trace, IsTheSameInAnotherProcess) {
  for (uint64_t i = 0; i < rounds(2); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    const std::string here = trace_of(seed, GetParam());
    ASSERT_EQ(sim::first_difference(here, trace_of_another_process(seed, GetParam())), "");
  }
}

TEST_P(Trace, IsAnotherForAnotherSeed) {
  std::set<std::string> traces;
  constexpr uint64_t kSeeds = 6;
  for (uint64_t seed = first_seed(); seed < first_seed() + kSeeds; ++seed) {
    traces.insert(trace_of(seed, GetParam()));
  }
  EXPECT_EQ(traces.size(), kSeeds);
}

INSTANTIATE_TEST_SUITE_P(Threads, Trace, testing::Values(1u, 4u),
                         [](const auto& test) { return std::to_string(test.param); });

}  // namespace
}  // namespace basalt::crash

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--print") == 0) {
    const std::string text =
        basalt::crash::trace_of(std::strtoull(argv[2], nullptr, 10),
                                static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10)));
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() ? 0 : 1;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
