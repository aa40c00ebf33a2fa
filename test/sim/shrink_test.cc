// shrink(): what is left still fails, cannot lose an item, keeps its order, and took few runs.
#include "sim/shrink.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "sim/random.h"

namespace basalt::sim {
namespace {

using Items = std::vector<int>;

Items numbers(int count) {
  Items items(static_cast<size_t>(count));
  std::iota(items.begin(), items.end(), 0);
  return items;
}
bool has(const Items& items, int item) {
  return std::find(items.begin(), items.end(), item) != items.end();
}

TEST(Shrink, LeavesWhatTheFailureNeeds) {
  const auto fails = [](const Items& items) {
    return has(items, 17) && has(items, 90) && has(items, 151);
  };
  const Shrunk<int> shrunk = shrink<int>(numbers(200), fails, 1000);
  EXPECT_EQ(shrunk.items, (Items{17, 90, 151}));
  EXPECT_TRUE(shrunk.minimal);
  EXPECT_LT(shrunk.runs, 120u);
}

TEST(Shrink, OneItemOfManyAndNone) {
  EXPECT_EQ(shrink<int>(
                numbers(1000), [](const Items& items) { return has(items, 999); }, 1000)
                .items,
            Items{999});
  const Shrunk<int> nothing = shrink<int>(
      numbers(1000), [](const Items&) { return true; }, 1000);
  EXPECT_EQ(nothing.items, Items{});
  EXPECT_EQ(nothing.runs, 1u);
  EXPECT_TRUE(shrink<int>(
                  {}, [](const Items&) { return true; }, 1000)
                  .minimal);
}

TEST(Shrink, WhatIsMinimalStays) {
  const auto fails = [](const Items& items) { return items.size() == 7; };
  const Shrunk<int> shrunk = shrink<int>(numbers(7), fails, 1000);
  EXPECT_EQ(shrunk.items, numbers(7));
  EXPECT_TRUE(shrunk.minimal);
}

// Failures that do not simply come and go with single items: a pair in order, or a sum.
TEST(Shrink, NoSingleItemOfTheResultCanBeLeftOut) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Random random(seed);
    Items items(60);
    for (int& item : items) item = static_cast<int>(random.below(20));
    const int modulus = 3 + static_cast<int>(random.below(5));
    const auto fails = [&](const Items& some) {
      const int sum = std::accumulate(some.begin(), some.end(), 0);
      return !some.empty() && sum % modulus == 1 && has(some, items[30]);
    };
    const int sum = std::accumulate(items.begin(), items.end(), 0);
    items.push_back(((1 - sum) % modulus + modulus) % modulus);
    ASSERT_TRUE(fails(items));
    const Shrunk<int> shrunk = shrink<int>(items, fails, 100'000);
    ASSERT_TRUE(shrunk.minimal);
    ASSERT_TRUE(fails(shrunk.items));
    for (size_t i = 0; i < shrunk.items.size(); ++i) {
      Items less = shrunk.items;
      less.erase(less.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_FALSE(fails(less)) << "seed " << seed << " item " << i;
    }
  }
}

TEST(Shrink, KeepsToItsRunsAndStillFails) {
  for (uint64_t most = 0; most < 60; ++most) {
    const auto fails = [](const Items& items) { return has(items, 3) && has(items, 77); };
    uint64_t runs = 0;
    const auto counted = [&](const Items& items) {
      ++runs;
      return fails(items);
    };
    const Shrunk<int> shrunk = shrink<int>(numbers(100), counted, most);
    EXPECT_TRUE(fails(shrunk.items));
    EXPECT_EQ(shrunk.runs, runs);
    EXPECT_LE(runs, most);
    EXPECT_TRUE(std::is_sorted(shrunk.items.begin(), shrunk.items.end()));
  }
}

}  // namespace
}  // namespace basalt::sim
