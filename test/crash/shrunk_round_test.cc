// A failing history of hundreds of operations shrinks to the handful that matter, and these fail by themselves.
// The failure is planted: a disk that drops flushes, under which synced bytes and names are lost.
// And every part of a history is one: operations whose file is missing do nothing.
#include "crash/shrunk_round.h"

#include <gtest/gtest.h>

#include <iostream>

#include "crash/settings.h"
#include "sim/random.h"

namespace basalt::crash {
namespace {

RoundOptions dishonest(uint64_t seed) {
  return {.seed = seed, .generations = 1, .steps = 200, .drop_flushes = true};
}

TEST(ShrunkRound, TwoHundredOperationsBecomeAHandful) {
  unsigned failed = 0;
  for (uint64_t seed = first_seed(); failed < 2; ++seed) {
    SCOPED_TRACE(replay_hint(seed));
    const RoundResult result = run_round(dishonest(seed));
    if (result.ok()) continue;
    ++failed;
    const ShrunkRound shrunk = shrink_round(dishonest(seed), result.histories, 2000);
    EXPECT_GE(shrunk.operations_before, 200u);
    EXPECT_TRUE(shrunk.minimal);
    EXPECT_GE(shrunk.operations, 2u) << "something, and a sync of it\n" << shrunk.text;
    EXPECT_LE(shrunk.operations, 8u) << shrunk.text;
    std::cout << "seed " << seed << ": " << shrunk.text << "\n";
    RoundOptions again = dishonest(seed);
    again.histories = &shrunk.histories;
    EXPECT_FALSE(run_round(again).ok()) << shrunk.text;
    again.drop_flushes = false;
    const RoundResult honest = run_round(again);
    EXPECT_TRUE(honest.ok()) << "on an honest disk nothing is wrong with it\n" << honest.text();
    ASSERT_LE(seed, first_seed() + 20) << "the harness does not notice a dishonest disk";
  }
}

TEST(ShrunkRound, AnyPartOfAHistoryRuns) {
  for (uint64_t i = 0; i < rounds(20); ++i) {
    const uint64_t seed = first_seed() + i;
    SCOPED_TRACE(replay_hint(seed));
    RoundOptions options{.seed = seed, .generations = 2, .steps = 100};
    const RoundResult whole = run_round(options);
    ASSERT_TRUE(whole.ok()) << whole.text();
    sim::Random random(seed);
    std::vector<History> part(whole.histories.size());
    const unsigned percent = 10 + static_cast<unsigned>(random.below(80));
    for (size_t h = 0; h < part.size(); ++h) {
      for (const Operation& operation : whole.histories[h]) {
        if (random.chance(percent)) part[h].push_back(operation);
      }
    }
    options.histories = &part;
    const RoundResult result = run_round(options);
    EXPECT_TRUE(result.ok()) << result.text();
  }
}

TEST(Operations, AreReadable) {
  Operation create{.kind = Operation::Kind::create, .opening = 3, .path = "/t0/f1"};
  create.file_kind = FileKind::log;
  EXPECT_EQ(to_string(create), "create #3 /t0/f1 log");
  EXPECT_EQ(to_string({.kind = Operation::Kind::rename, .path = "/t0/a", .to = "/t0/b"}),
            "rename /t0/a to /t0/b");
  EXPECT_EQ(to_string({.kind = Operation::Kind::write,
                       .opening = 7,
                       .path = "/t0/f1",
                       .offset = 4096,
                       .length = 513}),
            "write #7 /t0/f1 4096+513");
  EXPECT_EQ(to_string({.kind = Operation::Kind::sync_all}), "sync_all");
}

}  // namespace
}  // namespace basalt::crash
