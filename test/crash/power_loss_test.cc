// Power loss and process death under random histories: after each crash the store must hold a state that
// the contract in <basalt/file_system.h> allows, check clean, and lose no space. See round.h. A failing history
// is shown shrunk (shrunk_round.h).
#include <gtest/gtest.h>

#include "crash/round.h"
#include "crash/settings.h"
#include "crash/shrunk_round.h"

namespace basalt::crash {
namespace {

void run_rounds(uint64_t count, RoundOptions options) {
  for (uint64_t i = 0; i < count; ++i) {
    options.seed = first_seed() + i;
    const RoundResult result = run_round(options);
    ASSERT_TRUE(result.ok()) << replay_hint(options.seed) << "\n"
                             << result.text() << shrunk_text(options, result);
  }
}

TEST(PowerLoss, OneThread) { run_rounds(rounds(40), {}); }

TEST(PowerLoss, OneThreadManyCrashes) { run_rounds(rounds(10), {.generations = 12, .steps = 60}); }

TEST(PowerLoss, ThreeThreads) {
  run_rounds(rounds(10), {.threads = 3, .generations = 3, .steps = 200});
}

// As above, but the seed decides which thread goes on at every lock and wait: a failure repeats
// exactly.
TEST(PowerLoss, FourScheduledThreads) {
  run_rounds(rounds(15), {.threads = 4, .steps = 120, .scheduled = true});
}

TEST(ProcessDeath, OneThread) {
  run_rounds(rounds(40), {.power_loss = false, .process_death = true});
}

TEST(ProcessDeath, ThreeThreads) {
  run_rounds(rounds(10), {.threads = 3, .steps = 200, .power_loss = false, .process_death = true});
}

TEST(ProcessDeath, FourScheduledThreads) {
  run_rounds(
      rounds(15),
      {.threads = 4, .steps = 120, .power_loss = false, .process_death = true, .scheduled = true});
}

TEST(ProcessDeath, MixedWithPowerLoss) {
  run_rounds(rounds(20), {.generations = 6, .steps = 120, .process_death = true});
}

// The harness must be able to fail: on a disk that answers a flush without doing it, synced data is lost
// and some round has to say so.
TEST(Harness, FindsASyncWithoutFlush) {
  unsigned caught = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    if (!run_round({.seed = seed, .ignore_flush = true}).ok()) ++caught;
  }
  EXPECT_GE(caught, 5u);
}

}  // namespace
}  // namespace basalt::crash
