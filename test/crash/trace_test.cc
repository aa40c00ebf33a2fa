// One seed, one run: the same round makes the same trace, byte for byte: every device command with its bytes'
// checksum, in the order of execution and of completion, and every call of the file system with its answer.
// With one thread, and with four simulated ones; within a process whose memory lies differently, and in
// another process. Other seeds make other traces.
//
// crash_trace_test --print SEED THREADS writes such a trace to the standard output.
#include <gtest/gtest.h>

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

class Trace : public testing::TestWithParam<unsigned> {};

TEST_P(Trace, IsTheSameForTheSameSeed) {
  for (uint64_t i = 0; i < rounds(5); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    const std::string first = trace_of(seed, GetParam());
    const auto blocks = clutter(seed);
    const std::string second = trace_of(seed, GetParam());
    ASSERT_EQ(sim::first_difference(first, second), "");
    // A trace that says nothing would be equal too.
    EXPECT_GT(first.size(), 5'000u);
    for (const char* word :
         {"\n> ", "\n< ", " crc ", "/t0: sync", "/t0: = ok", "first mount = ok"}) {
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
