// Goal: a metadata page is given out again only when no superblock leads to it any more; the saved form
// says the same as the one in memory.
// Method: the two-checkpoint life of a page step by step; random lives against a model of two snapshots;
// save and load at sizes around the borders of a leaf.
#include "blob/page_map.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace basalt::blob {
namespace {

std::vector<std::vector<std::byte>> save(const PageMap& map) {
  std::vector<std::vector<std::byte>> leaves(map.leaf_count());
  for (uint64_t leaf = 0; leaf < leaves.size(); ++leaf) {
    leaves[leaf].resize(2 * kPageMapBytesPerPlane);
    map.save_leaf(leaf, leaves[leaf].data());
  }
  return leaves;
}

void load(PageMap& map, const std::vector<std::vector<std::byte>>& leaves, uint64_t pages) {
  map.reset(pages);
  for (uint64_t leaf = 0; leaf < leaves.size(); ++leaf) {
    ASSERT_TRUE(map.load_leaf(leaf, leaves[leaf].data())) << "leaf " << leaf;
  }
}

TEST(PageMap, GivesOutEveryPageOnce) {
  for (const uint64_t pages : {1, 63, 64, 65, 100, 16128, 16129}) {
    PageMap map;
    map.reset(pages);
    std::set<uint64_t> given;
    while (const auto page = map.allocate()) {
      ASSERT_LT(*page, pages);
      ASSERT_TRUE(given.insert(*page).second);
    }
    EXPECT_EQ(given.size(), pages);
    EXPECT_EQ(map.free_count(), 0u);
    map.release(pages / 2);
    EXPECT_EQ(map.allocate(), pages / 2);
    EXPECT_FALSE(map.allocate());
  }
}

TEST(PageMap, AFreedPageWaitsForTwoFlips) {
  PageMap map;
  map.reset(10);
  const uint64_t page = *map.allocate();
  map.freeze();
  map.flipped();
  ASSERT_TRUE(map.free(page));  // while the next checkpoint is built
  EXPECT_EQ(map.free_count(), 9u);
  map.freeze();
  map.flipped();  // the checkpoint before still leads to it
  EXPECT_TRUE(map.used(page));
  map.freeze();
  map.flipped();
  EXPECT_FALSE(map.used(page));
  EXPECT_EQ(map.free_count(), 10u);
}

TEST(PageMap, ATwinFlipLetsGoOfWhatOnlyTheOlderNeeded) {
  PageMap map;
  map.reset(10);
  const uint64_t old_page = *map.allocate(), new_page = *map.allocate();
  map.freeze();
  map.flipped();
  ASSERT_TRUE(map.free(old_page));
  map.freeze();
  map.flipped();
  ASSERT_TRUE(map.free(new_page));  // after the freeze: both superblocks will lead to it
  map.flipped_again();
  EXPECT_FALSE(map.used(old_page));
  EXPECT_TRUE(map.used(new_page));
  map.freeze();
  map.flipped();
  EXPECT_TRUE(map.used(new_page));
  map.freeze();
  map.flipped();
  EXPECT_FALSE(map.used(new_page));
}

TEST(PageMap, WhatItDoesNotKnowCannotBeFreed) {
  PageMap map;
  map.reset(10);
  EXPECT_FALSE(map.free(3));
  EXPECT_FALSE(map.free(10));
  EXPECT_FALSE(map.free(~uint64_t{0}));
}

TEST(PageMap, ImpossibleBitsAreRefused) {
  PageMap map;
  map.reset(100);
  std::vector<std::byte> payload(2 * kPageMapBytesPerPlane);
  payload[kPageMapBytesPerPlane] = std::byte{1};  // leaving, not used
  EXPECT_FALSE(map.load_leaf(0, payload.data()));
  payload.assign(payload.size(), {});
  payload[100 / 8] = std::byte{1 << (100 % 8)};  // beyond the last page
  map.reset(100);
  EXPECT_FALSE(map.load_leaf(0, payload.data()));
}

// The model: the pages each of the two superblocks leads to, and those in use now. A page may be given out
// only if it is in none of the three. After each flip the saved form is loaded and compared.
TEST(PageMap, NothingASuperblockLeadsToIsGivenOut) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    const uint64_t pages = 40 + random() % 100;
    PageMap map;
    map.reset(pages);
    std::set<uint64_t> now, newest, older;
    std::set<uint64_t> fresh;  // allocated since the last freeze
    for (int step = 0; step < 2000; ++step) {
      const unsigned kind = random() % 10;
      if (kind < 5) {
        const auto page = map.allocate();
        if (!page) continue;
        ASSERT_FALSE(now.contains(*page) || newest.contains(*page) || older.contains(*page));
        now.insert(*page);
        fresh.insert(*page);
      } else if (kind < 9 && !now.empty()) {
        auto at = now.begin();
        std::advance(at, static_cast<long>(random() % now.size()));
        if (fresh.erase(*at) > 0) {
          map.release(*at);
        } else {
          ASSERT_TRUE(map.free(*at));
        }
        now.erase(at);
      } else if (kind == 9) {
        map.freeze();
        const auto saved = save(map);
        const std::set<uint64_t> frozen = now;
        fresh.clear();
        map.flipped();
        older = newest;
        newest = frozen;
        // Recovery from here: what either superblock leads to is in use.
        PageMap loaded;
        load(loaded, saved, pages);
        for (uint64_t page = 0; page < pages; ++page) {
          ASSERT_EQ(loaded.used(page), newest.contains(page) || older.contains(page))
              << "seed " << seed << " step " << step << " page " << page;
        }
        loaded.freeze();
        loaded.flipped();
        for (uint64_t page = 0; page < pages; ++page) {
          ASSERT_EQ(loaded.used(page), newest.contains(page));
        }
        if (random() % 3 == 0) {
          map.flipped_again();
          older = newest;
        }
      }
      uint64_t used = 0;
      for (uint64_t page = 0; page < pages; ++page) used += map.used(page);
      ASSERT_EQ(map.free_count(), pages - used);
    }
  }
}

TEST(PageMap, SavesAndLoadsAcrossLeaves) {
  for (const uint64_t pages : {16127, 16128, 16129, 40000}) {
    PageMap map;
    map.reset(pages);
    std::mt19937 random(static_cast<uint32_t>(pages));
    for (uint64_t i = 0; i < pages; ++i) ASSERT_TRUE(map.allocate());
    for (uint64_t i = 0; i < pages; ++i) {
      if (random() % 3 == 0) map.release(i);
    }
    map.freeze();
    PageMap loaded;
    load(loaded, save(map), pages);
    EXPECT_EQ(loaded.free_count(), map.free_count());
    for (uint64_t i = 0; i < pages; ++i) ASSERT_EQ(loaded.used(i), map.used(i));
  }
}

}  // namespace
}  // namespace basalt::blob
