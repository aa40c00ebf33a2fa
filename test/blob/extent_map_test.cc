// Goal: ExtentMap maps each block as the last change said and keeps itself in the fewest extents.
// Method: random changes against an array with one entry per block; borders; look-ups.
#include "blob/extent_map.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

namespace basalt::blob {
namespace {

struct ModelBlock {
  uint64_t physical = 0;  // 0: unmapped
  ExtentState state = ExtentState::unwritten;
};
constexpr uint64_t kBlocks = 120;
using Model = std::array<ModelBlock, kBlocks>;

void expect_same(const ExtentMap& map, const Model& model) {
  uint64_t mapped = 0, previous_end = 0;
  const Extent* before = nullptr;
  for (const Extent& extent : map.all()) {
    ASSERT_GT(extent.count, 0u);
    ASSERT_GE(extent.logical, previous_end);
    if (before != nullptr && before->end() == extent.logical && before->state == extent.state) {
      ASSERT_NE(before->physical + before->count, extent.physical) << "not merged";
    }
    previous_end = extent.end();
    before = &extent;
    mapped += extent.count;
  }
  ASSERT_EQ(map.mapped_blocks(), mapped);
  for (uint64_t block = 0; block < kBlocks; ++block) {
    const Extent* found = map.find(block);
    ASSERT_EQ(found != nullptr, model[block].physical != 0) << "block " << block;
    if (found == nullptr) continue;
    ASSERT_EQ(found->physical + (block - found->logical), model[block].physical);
    ASSERT_EQ(found->state, model[block].state);
  }
}

TEST(ExtentMap, MatchesABlockArray) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    ExtentMap map;
    Model model{};
    for (int step = 0; step < 600; ++step) {
      const BlockRange range{random() % 100, 1 + random() % 20};
      const auto state = static_cast<ExtentState>(random() % 3);
      const unsigned kind = random() % 5;
      if (kind < 2) {
        // Often where it continues its neighbour, so that merging is tried.
        const uint64_t physical = random() % 2 == 0 ? 1000 + range.first : 5000 + random() % 1000;
        map.set({range.first, physical, range.count, state});
        for (uint64_t i = 0; i < range.count; ++i) model[range.first + i] = {physical + i, state};
      } else if (kind == 2) {
        map.erase(range);
        for (uint64_t i = 0; i < range.count; ++i) model[range.first + i] = {};
      } else {
        std::optional<ExtentState> only;
        if (kind == 4) only = static_cast<ExtentState>(random() % 3);
        map.set_state(range, state, only);
        for (uint64_t i = 0; i < range.count; ++i) {
          ModelBlock& block = model[range.first + i];
          if (block.physical != 0 && (!only || block.state == *only)) block.state = state;
        }
      }
      expect_same(map, model);
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << " step " << step;
    }
  }
}

TEST(ExtentMap, LowerFindsTheFirstThatEndsBeyond) {
  ExtentMap map;
  map.set({10, 100, 5});
  map.set({20, 200, 5});
  EXPECT_EQ(map.lower(0)->logical, 10u);
  EXPECT_EQ(map.lower(14)->logical, 10u);
  EXPECT_EQ(map.lower(15)->logical, 20u);
  EXPECT_EQ(map.lower(25), map.end());
  EXPECT_EQ(map.find(15), nullptr);
  EXPECT_EQ(map.find(24)->physical, 200u);
}

TEST(ExtentMap, EmptyRangesChangeNothing) {
  ExtentMap map;
  map.set({10, 100, 0});
  EXPECT_TRUE(map.empty());
  map.set({10, 100, 4});
  map.erase({11, 0});
  map.set_state({11, 0}, ExtentState::written);
  ASSERT_EQ(map.all().size(), 1u);
  EXPECT_EQ(map.all()[0], (Extent{10, 100, 4, ExtentState::unwritten}));
}

TEST(ExtentMap, WithinBlobKnowsTheLimits) {
  EXPECT_TRUE(within_blob({0, kMaxBlobBlocks}));
  EXPECT_TRUE(within_blob({kMaxBlobBlocks - 1, 1}));
  EXPECT_FALSE(within_blob({kMaxBlobBlocks, 1}));
  EXPECT_FALSE(within_blob({kMaxBlobBlocks - 1, 2}));
  EXPECT_FALSE(within_blob({1, ~uint64_t{0}}));
  EXPECT_FALSE(within_blob({0, 0}));
}

}  // namespace
}  // namespace basalt::blob
