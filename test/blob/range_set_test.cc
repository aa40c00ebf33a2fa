// Goal: RangeSet behaves as a set of positions. Method: random ranges against std::set, and the borders.
#include "blob/range_set.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace basalt::blob {
namespace {

TEST(RangeSet, NeighboursMerge) {
  RangeSet set;
  set.add(10, 5);
  set.add(20, 5);
  EXPECT_EQ(set.end_of_range_at(14), 15u);
  set.add(15, 5);
  EXPECT_EQ(set.end_of_range_at(10), 25u);
  EXPECT_EQ(set.total(), 15u);
  EXPECT_EQ(set.front(), (RangeSet::Range{10, 15}));
  set.remove(12, 1);
  EXPECT_EQ(set.end_of_range_at(10), 12u);
  EXPECT_EQ(set.end_of_range_at(12), 0u);
  EXPECT_EQ(set.next_range_after(12), 13u);
  EXPECT_EQ(set.next_range_after(13), ~uint64_t{0});
}

TEST(RangeSet, EmptyRangesChangeNothing) {
  RangeSet set;
  set.add(5, 0);
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.front(), std::nullopt);
  set.add(5, 2);
  set.remove(6, 0);
  EXPECT_EQ(set.total(), 2u);
}

TEST(RangeSet, MatchesASetOfPositions) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    RangeSet set;
    std::set<uint64_t> model;
    for (int step = 0; step < 500; ++step) {
      const uint64_t first = random() % 200, count = random() % 20;
      const bool add = random() % 2 == 0;
      add ? set.add(first, count) : set.remove(first, count);
      for (uint64_t at = first; at < first + count; ++at) {
        add ? static_cast<void>(model.insert(at)) : static_cast<void>(model.erase(at));
      }
      ASSERT_EQ(set.total(), model.size());
      for (uint64_t at = 0; at < 230; ++at) {
        uint64_t end = at;
        while (model.contains(end)) ++end;
        ASSERT_EQ(set.end_of_range_at(at), end == at ? 0 : end) << "seed " << seed << " at " << at;
        auto next = model.upper_bound(at);
        while (next != model.end() && model.contains(*next - 1)) ++next;
        ASSERT_EQ(set.next_range_after(at), next == model.end() ? ~uint64_t{0} : *next);
      }
    }
  }
}

}  // namespace
}  // namespace basalt::blob
