// Goal: freed space is discarded in few, large commands, no faster than the rate, and no cluster is lost or
// named twice. Method: the queue alone, with times made up.
#include "blob/discard_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace basalt::blob {
namespace {

using std::chrono::milliseconds;
constexpr uint64_t kCluster = 65536;

TEST(DiscardQueue, JoinsNeighboursWhateverTheirOrder) {
  DiscardQueue queue(kCluster, 0);
  for (const uint64_t first : {40, 10, 20, 0, 30}) queue.add(first, 10);
  queue.add(60, 1);
  EXPECT_EQ(queue.take({}), (RangeSet::Range{0, 50}));
  EXPECT_EQ(queue.take({}), (RangeSet::Range{60, 1}));
  EXPECT_EQ(queue.take({}), std::nullopt);
  EXPECT_TRUE(queue.empty());
}

TEST(DiscardQueue, SplitsWhatIsTooLongForOneCommand) {
  DiscardQueue queue(kCluster, 0);
  constexpr uint64_t kMost = DiscardQueue::kMaxCommandBytes / kCluster;
  queue.add(7, kMost + 1);
  EXPECT_EQ(queue.take({}), (RangeSet::Range{7, kMost}));
  EXPECT_EQ(queue.take({}), (RangeSet::Range{7 + kMost, 1}));
}

TEST(DiscardQueue, KeepsTheRate) {
  DiscardQueue queue(kCluster, 100 * kCluster);  // 100 clusters per second
  queue.add(0, 50);
  queue.add(100, 1);
  EXPECT_TRUE(queue.take(milliseconds(0)));
  EXPECT_FALSE(queue.take(milliseconds(499)));
  EXPECT_EQ(queue.wait_time(milliseconds(499)), milliseconds(1));
  EXPECT_TRUE(queue.take(milliseconds(500)));
  EXPECT_EQ(queue.wait_time(milliseconds(600)), milliseconds(0));
  EXPECT_TRUE(queue.empty());
  // A pause is not saved up.
  queue.add(200, 50);
  queue.add(300, 50);
  EXPECT_TRUE(queue.take(milliseconds(9000)));
  EXPECT_FALSE(queue.take(milliseconds(9001)));
}

TEST(DiscardQueue, EveryClusterLeavesOnce) {
  std::mt19937_64 random(5);
  DiscardQueue queue(kCluster, 0);
  std::multiset<uint64_t> added, left;
  const auto note = [&](const std::optional<RangeSet::Range>& range) {
    for (uint64_t i = 0; range && i < range->count; ++i) left.insert(range->first + i);
  };
  for (int i = 0; i < 2000; ++i) {
    const uint64_t cluster = static_cast<uint64_t>(i) * 7919 % 2003;
    added.insert(cluster);
    queue.add(cluster, 1);
    if (random() % 5 == 0) note(queue.take({}));
    if (random() % 50 == 0) note(queue.give_up());
  }
  while (!queue.empty()) note(queue.take({}));
  EXPECT_EQ(queue.give_up(), std::nullopt);
  EXPECT_EQ(added, left);
}

}  // namespace
}  // namespace basalt::blob
