// MemoryMap: finding, overlap, listeners, and that unregistering waits for those who may have found
// it.
#include "mem/memory_map.h"
#include "test/mem/steady_clock.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace basalt {
namespace {

using namespace std::chrono_literals;

class MemoryMapTest : public testing::Test {
 protected:
  std::span<std::byte> part(size_t offset, size_t bytes) {
    return std::span(memory_).subspan(offset, bytes);
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(1 << 20);
  SteadyClock clock_;
  MemoryMap map_{clock_};
};

struct Heard final : MemoryListener {
  void region_added(const MemoryRegion& region) override { present.push_back(region.index); }
  void region_removed(const MemoryRegion& region) override { std::erase(present, region.index); }
  std::vector<uint32_t> present;
};

TEST_F(MemoryMapTest, FindsWhatLiesWhollyInside) {
  const auto region = map_.register_region(part(4096, 4096));
  ASSERT_TRUE(region);
  const std::byte* base = memory_.data();
  EXPECT_EQ(map_.find(base + 4096, 4096), *region);
  EXPECT_EQ(map_.find(base + 4096, 1), *region);
  EXPECT_EQ(map_.find(base + 8191, 1), *region);
  for (const auto& [offset, bytes] : {std::pair<size_t, size_t>{4095, 1},
                                      {4095, 2},
                                      {8191, 2},
                                      {8192, 1},
                                      {4096, 4097},
                                      {4097, ~size_t{0}}}) {
    EXPECT_EQ(map_.find(base + offset, bytes), MemoryMap::kNotFound) << offset << " " << bytes;
  }
  EXPECT_TRUE(map_.unregister_region(*region).ok());
  EXPECT_EQ(map_.find(base + 4096, 1), MemoryMap::kNotFound);
}

TEST_F(MemoryMapTest, RefusesOverlapEmptyAndTooMany) {
  ASSERT_TRUE(map_.register_region(part(4096, 4096)));
  for (const auto& [offset, bytes] :
       {std::pair<size_t, size_t>{4096, 4096}, {0, 4097}, {8191, 9}, {5000, 1}, {0, 1 << 20}}) {
    EXPECT_EQ(map_.register_region(part(offset, bytes)).error().code(), StatusCode::already_exists);
  }
  EXPECT_EQ(map_.register_region({}).error().code(), StatusCode::invalid_argument);
  EXPECT_EQ(map_.unregister_region(7).code(), StatusCode::not_found);
  EXPECT_EQ(map_.unregister_region(~0u).code(), StatusCode::not_found);
  for (uint32_t i = 1; i < MemoryMap::kMaxRegions; ++i) {
    ASSERT_TRUE(map_.register_region(part(8192 + i * 64, 64))) << i;
  }
  EXPECT_EQ(map_.register_region(part(0, 64)).error().code(), StatusCode::no_space);
  ASSERT_TRUE(map_.unregister_region(100).ok());
  EXPECT_EQ(map_.register_region(part(0, 64)), 100u) << "an index is used again";
}

// Goal: a listener hears of regions from before and after it came, and of their end when it leaves.
TEST_F(MemoryMapTest, TellsListeners) {
  const auto before = map_.register_region(part(0, 64));
  Heard heard;
  map_.add_listener(heard);
  EXPECT_EQ(heard.present, std::vector{*before});
  const auto after = map_.register_region(part(64, 64));
  EXPECT_EQ(heard.present, (std::vector{*before, *after}));
  ASSERT_TRUE(map_.unregister_region(*before).ok());
  EXPECT_EQ(heard.present, std::vector{*after});
  map_.remove_listener(heard);
  EXPECT_TRUE(heard.present.empty());
  map_.remove_listener(heard);
}

// Goal: unregistering waits for whoever is inside, not for whoever comes later; the region is
// hidden meanwhile, and back after a timeout.
TEST_F(MemoryMapTest, WaitsForUsers) {
  const auto region = map_.register_region(part(0, 4096));
  MemoryUser user(map_);
  const unsigned phase = user.enter();
  EXPECT_EQ(map_.unregister_region(*region, 5ms).code(), StatusCode::timed_out);
  EXPECT_EQ(map_.find(memory_.data(), 1), *region) << "registered as before";
  std::atomic<bool> gone{false};
  std::thread unregistering([&] {
    EXPECT_TRUE(map_.unregister_region(*region).ok());
    gone = true;
  });
  while (map_.find(memory_.data(), 1) != MemoryMap::kNotFound) std::this_thread::yield();
  std::this_thread::sleep_for(5ms);
  EXPECT_FALSE(gone);
  user.leave(phase);
  unregistering.join();
  EXPECT_TRUE(gone);
}

// Goal: under constant use by several threads, nobody finds a region whose listener has been told
// of its end, and unregistering is not starved.
TEST_F(MemoryMapTest, IsSafeUnderUse) {
  struct Alive final : MemoryListener {
    void region_added(const MemoryRegion& region) override { alive[region.index] = true; }
    void region_removed(const MemoryRegion& region) override { alive[region.index] = false; }
    std::array<std::atomic<bool>, MemoryMap::kMaxRegions> alive{};
  } listener;
  map_.add_listener(listener);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> found{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      MemoryUser user(map_);
      unsigned overlapping = user.enter();
      while (!stop) {
        const unsigned phase = user.enter();
        const uint32_t region = map_.find(memory_.data() + 100, 8);
        if (region != MemoryMap::kNotFound) {
          ++found;
          ASSERT_TRUE(listener.alive[region]);
        }
        user.leave(overlapping);  // always somebody inside
        overlapping = phase;
      }
      user.leave(overlapping);
    });
  }
  // At least 300 rounds, and as many as it takes for the users to have had a core meanwhile.
  const auto deadline = std::chrono::steady_clock::now() + 30s;
  for (int round = 0; round < 300 || (found == 0 && std::chrono::steady_clock::now() < deadline);
       ++round) {
    const auto region = map_.register_region(part(0, 4096));
    ASSERT_TRUE(region);
    std::this_thread::yield();
    ASSERT_TRUE(map_.unregister_region(*region).ok());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(found, 0u);
  map_.remove_listener(listener);
}

}  // namespace
}  // namespace basalt
