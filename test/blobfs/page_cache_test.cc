// The page cache: hits give the bytes that went in, the bound holds, scans pass, changes are not outlived.
#include "blobfs/page_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <random>

#include "base/sync.h"

namespace basalt::blobfs {
namespace {

std::vector<std::byte> page_of(uint64_t file, uint64_t page, uint64_t version = 0) {
  std::vector<std::byte> bytes(4096);
  for (size_t i = 0; i < bytes.size(); i += 8) {
    const uint64_t word = file * 1000003 + page * 4096 + i + version * 77777777777;
    std::memcpy(bytes.data() + i, &word, 8);
  }
  return bytes;
}

struct SizedCache : PageCache {
  explicit SizedCache(uint64_t bytes) { EXPECT_TRUE(reserve(bytes).ok()); }
};

class PageCacheTest : public ::testing::Test {
 protected:
  void put(PageCache& cache, uint64_t file, uint64_t page, uint64_t version = 0) {
    cache.insert(file, page, page_of(file, page, version), generation_, generation_.load());
  }
  bool get(PageCache& cache, uint64_t file, uint64_t page, uint64_t version = 0,
           PageCache::Touch touch = PageCache::Touch::reuse) {
    std::vector<std::byte> out(4096);
    if (cache.read(file, page * 4096, out, touch) != 4096) return false;
    EXPECT_EQ(out, page_of(file, page, version)) << file << ":" << page;
    return true;
  }
  std::atomic<uint64_t> generation_{0};
};

TEST_F(PageCacheTest, MoreThanTheMachineHasIsRefused) {
  PageCache cache;
  const Status status = cache.reserve(uint64_t{1} << 60);
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_NE(status.to_string().find("more than this machine's memory"), std::string::npos);
  EXPECT_FALSE(cache.enabled());
}

TEST_F(PageCacheTest, WithoutMemoryThereIsNone) {
  SizedCache cache(0);
  EXPECT_FALSE(cache.enabled());
  put(cache, 1, 1);
  EXPECT_FALSE(cache.contains(1, 1));
  cache.erase(1, 0, 100);
  EXPECT_TRUE(cache.check_invariants());
}

TEST_F(PageCacheTest, BytesAtAnyOffsetAreCopiedUpToTheFirstMissingPage) {
  SizedCache cache(1 << 20);
  for (const uint64_t page : {0, 1, 2, 4}) put(cache, 7, page);
  std::vector<std::byte> out(20000);
  EXPECT_EQ(cache.read(7, 100, out, PageCache::Touch::reuse), 3 * 4096u - 100);
  EXPECT_EQ(0, std::memcmp(out.data(), page_of(7, 0).data() + 100, 3996));
  EXPECT_EQ(0, std::memcmp(out.data() + 3996, page_of(7, 1).data(), 4096));
  EXPECT_EQ(cache.read(7, 3 * 4096, out, PageCache::Touch::reuse), 0u);
  EXPECT_EQ(cache.read(8, 0, out, PageCache::Touch::reuse), 0u);
  EXPECT_EQ(cache.read(7, 4 * 4096 + 4095, std::span(out).first(1), PageCache::Touch::reuse), 1u);
  EXPECT_GT(cache.hits(), 0u);
  EXPECT_GT(cache.misses(), 0u);
}

TEST_F(PageCacheTest, TheBoundHolds) {
  for (const uint64_t bytes : {4096ul, 8192ul, 1ul << 20, 10ul << 20}) {
    SizedCache cache(bytes);
    EXPECT_LE(cache.capacity_pages() * 4096, bytes);
    EXPECT_GE(cache.capacity_pages() * 4096 * 10, bytes * 9);
    for (uint64_t page = 0; page < 4 * cache.capacity_pages(); ++page) put(cache, 1, page);
    uint64_t present = 0;
    for (uint64_t page = 0; page < 4 * cache.capacity_pages(); ++page)
      present += cache.contains(1, page);
    EXPECT_LE(present, cache.capacity_pages());
    EXPECT_GE(present * 10, cache.capacity_pages() * 9);
    EXPECT_TRUE(cache.check_invariants());
  }
}

TEST_F(PageCacheTest, AScanDoesNotPushOutWhatIsUsed) {
  SizedCache cache(4 << 20);
  const uint64_t hot = cache.capacity_pages() / 4;
  for (uint64_t page = 0; page < hot; ++page) put(cache, 1, page);
  for (uint64_t page = 0; page < hot; ++page) EXPECT_TRUE(get(cache, 1, page));
  for (uint64_t page = 0; page < cache.capacity_pages(); ++page) {
    put(cache, 2, page);
    get(cache, 2, page, 0, PageCache::Touch::scan);
  }
  uint64_t kept = 0;
  for (uint64_t page = 0; page < hot; ++page) kept += cache.contains(1, page);
  EXPECT_GE(kept * 10, hot * 9);
}

TEST_F(PageCacheTest, ErasedPagesAreGone) {
  SizedCache cache(1 << 20);
  for (uint64_t page = 0; page < 100; ++page) put(cache, 1, page);
  for (uint64_t page = 0; page < 100; ++page) put(cache, 2, page);
  cache.erase(1, 10, 20);
  for (uint64_t page = 0; page < 100; ++page) {
    EXPECT_EQ(cache.contains(1, page), page < 10 || page >= 30);
  }
  cache.erase(2, 50, ~uint64_t{0} / 4096);
  for (uint64_t page = 0; page < 100; ++page) EXPECT_EQ(cache.contains(2, page), page < 50);
  EXPECT_TRUE(cache.check_invariants());
}

TEST_F(PageCacheTest, WhatWasReadBeforeAChangeIsRefused) {
  SizedCache cache(1 << 20);
  const uint64_t noted = generation_.load();
  generation_.fetch_add(1);
  cache.erase(1, 0, 10);
  cache.insert(1, 5, page_of(1, 5), generation_, noted);
  EXPECT_FALSE(cache.contains(1, 5));
  cache.insert(1, 5, page_of(1, 5), generation_, generation_.load());
  EXPECT_TRUE(cache.contains(1, 5));
}

TEST_F(PageCacheTest, RandomUseKeepsItsStructure) {
  SizedCache cache(300 * 4096);
  std::mt19937 random(9);
  for (int i = 0; i < 60000; ++i) {
    const uint64_t file = 1 + random() % 5, page = random() % 300;
    switch (random() % 8) {
      case 0: cache.erase(file, page, random() % 40); break;
      case 1:
      case 2: put(cache, file, page); break;
      default: get(cache, file, page); break;
    }
    if (i % 5000 == 0) {
      ASSERT_TRUE(cache.check_invariants());
    }
  }
  EXPECT_TRUE(cache.check_invariants());
}

// A writer changes pages by the protocol of the head comment while readers fill the cache from the
// "device"; once a change is complete, nobody reads the old version from the cache.
TEST_F(PageCacheTest, ConcurrentChangesAreNeverOutlived) {
  SizedCache cache(64 * 4096);
  std::atomic<uint64_t> device{0}, complete{0};
  std::atomic<bool> stop{false};
  const auto reader = [&] {
    std::vector<std::byte> out(4096);
    while (!stop.load()) {
      const uint64_t at_least = complete.load();
      uint64_t seen = 0;
      if (cache.read(1, 0, out, PageCache::Touch::reuse) == 4096) {
        std::memcpy(&seen, out.data(), 8);
        ASSERT_GE(seen, at_least);
      }
      const uint64_t noted = generation_.load();
      const uint64_t version = device.load();
      std::vector<std::byte> page(4096);
      std::memcpy(page.data(), &version, 8);
      cache.insert(1, 0, page, generation_, noted);
    }
  };
  Thread one("reader1", reader), two("reader2", reader);
  for (uint64_t version = 1; version <= 20000; ++version) {
    generation_.fetch_add(1);
    cache.erase(1, 0, 1);
    device.store(version);
    generation_.fetch_add(1);
    cache.erase(1, 0, 1);
    complete.store(version);
  }
  stop.store(true);
  one.join();
  two.join();
}

// Pages replace each other in a cache of four while threads read and scan them: what is given is the file's bytes.
TEST_F(PageCacheTest, APageReplacedUnderAReadIsNotGiven) {
  SizedCache cache(4 * 4096);
  constexpr uint64_t kPages = 8;
  std::vector<std::byte> file;
  for (uint64_t page = 0; page < kPages; ++page) {
    const std::vector<std::byte> bytes = page_of(1, page);
    file.insert(file.end(), bytes.begin(), bytes.end());
  }
  std::atomic<bool> stop{false};
  std::array<std::atomic<uint64_t>, 3> given{};
  const auto reader = [&](PageCache::Touch touch) {
    std::mt19937_64 random(static_cast<uint64_t>(touch));
    std::vector<std::byte> out(12000);
    while (!stop.load()) {
      const uint64_t offset = random() % (file.size() - out.size());
      const size_t count = cache.read(1, offset, out, touch);
      ASSERT_EQ(0, std::memcmp(out.data(), file.data() + offset, count)) << offset;
      given[static_cast<size_t>(touch)].fetch_add(count);
    }
  };
  // One to four pages at a time, some refused, some erased.
  const auto change = [&](std::mt19937_64& random) {
    const uint64_t page = random() % kPages,
                   count = 1 + random() % std::min<uint64_t>(4, kPages - page);
    const uint64_t noted = generation_.load();
    if (random() % 8 == 0) generation_.fetch_add(1);
    cache.insert(1, page, std::span(file).subspan(page * 4096, count * 4096), generation_, noted);
    if (random() % 16 == 0) cache.erase(1, random() % kPages, 2);
  };
  const auto writer = [&] {
    std::mt19937_64 random(18);
    while (!stop.load()) change(random);
  };
  using enum PageCache::Touch;
  Thread one("reader", [&] { reader(reuse); }), two("scan", [&] { reader(scan); });
  Thread three("last", [&] { reader(last); }), four("writer", writer);
  const auto all_have_read = [&] {
    return std::ranges::all_of(given, [](const auto& count) { return count.load() != 0; });
  };
  std::mt19937_64 random(17);
  // The threads may take long to begin.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (int i = 0; i < 20'000 || !all_have_read(); ++i) {
    if (HasFatalFailure() || std::chrono::steady_clock::now() > deadline) break;
    change(random);
  }
  stop.store(true);
  for (Thread* thread : {&one, &two, &three, &four}) thread->join();
  EXPECT_TRUE(all_have_read());
  EXPECT_TRUE(cache.check_invariants());
}

TEST_F(PageCacheTest, WhatAScanHasReadGoesFirst) {
  SizedCache cache(1 << 20);
  const uint64_t capacity = cache.capacity_pages();
  for (uint64_t page = 0; page < capacity; ++page) put(cache, 1, page);
  for (uint64_t page = 0; page < 10; ++page) {
    EXPECT_TRUE(get(cache, 1, page, 0, PageCache::Touch::scan));
  }
  std::vector<std::byte> part(100);  // not to its end: not spent
  EXPECT_EQ(cache.read(1, 20 * 4096, part, PageCache::Touch::scan), 100u);
  EXPECT_TRUE(get(cache, 1, 3));  // spent, but read again since
  for (uint64_t page = 0; page < 9; ++page) put(cache, 2, page);
  for (uint64_t page = 0; page < capacity; ++page) {
    EXPECT_EQ(cache.contains(1, page), page >= 10 || page == 3) << page;
  }
  EXPECT_TRUE(cache.check_invariants());
}

TEST_F(PageCacheTest, WhatWasReadForTheLastTimeMakesRoom) {
  SizedCache cache(1 << 20);
  const uint64_t capacity = cache.capacity_pages();
  for (uint64_t page = 0; page < capacity; ++page) put(cache, 1, page);
  for (int i = 0; i < 3; ++i) {
    for (uint64_t page = 0; page < 20; ++page) EXPECT_TRUE(get(cache, 1, page));
  }
  for (uint64_t page = 0; page < 10; ++page) {
    EXPECT_TRUE(get(cache, 1, page, 0, PageCache::Touch::last));
  }
  std::vector<std::byte> part(100);  // not to its end
  EXPECT_EQ(cache.read(1, 15 * 4096, part, PageCache::Touch::last), 100u);
  EXPECT_TRUE(get(cache, 1, 3));  // somebody still reads it
  for (uint64_t page = 0; page < 9; ++page) put(cache, 2, page);
  for (uint64_t page = 0; page < capacity; ++page) {
    EXPECT_EQ(cache.contains(1, page), page >= 10 || page == 3) << page;
  }
  EXPECT_TRUE(cache.check_invariants());
}

TEST_F(PageCacheTest, ASlotUsedAgainIsNotSpent) {
  SizedCache cache(1 << 20);
  const uint64_t capacity = cache.capacity_pages();
  for (uint64_t page = 0; page < capacity; ++page) put(cache, 1, page);
  EXPECT_TRUE(get(cache, 1, 5, 0, PageCache::Touch::scan));
  cache.erase(1, 5, 1);
  put(cache, 2, 7);  // into the slot that is still in the list
  put(cache, 2, 8);
  EXPECT_TRUE(get(cache, 2, 7));
  EXPECT_TRUE(cache.check_invariants());
}

}  // namespace
}  // namespace basalt::blobfs
