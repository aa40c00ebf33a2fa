// Readahead: scans are noticed, random reads are not mistaken for them, several scans do not mix.
#include "blobfs/readahead.h"

#include <gtest/gtest.h>

#include <random>

namespace basalt::blobfs {
namespace {

TEST(Readahead, AScanIsReadAheadInGrowingWindowsWithoutGaps) {
  Readahead readahead;
  uint64_t ahead = 0, calls = 0;
  for (uint64_t at = 0; at < uint64_t{64} << 20; at += 3800) {
    const auto advice = readahead.note(at, at + 3800);
    if (advice.begin == advice.end) continue;
    ++calls;
    EXPECT_EQ(advice.touch, PageCache::Touch::scan);
    if (ahead != 0) {
      EXPECT_EQ(advice.begin, ahead);
    }
    EXPECT_GE(advice.end - advice.begin, Readahead::kMinWindow);
    EXPECT_LE(advice.end - advice.begin, Readahead::kMaxWindow);
    ahead = advice.end;
  }
  EXPECT_LT(calls, 50u) << "long windows, few calls";
  EXPECT_GT(ahead, uint64_t{64} << 20);
}

TEST(Readahead, RandomReadsAreLeftAlone) {
  Readahead readahead;
  std::mt19937_64 random(4);
  uint64_t asked = 0;
  for (int i = 0; i < 10000; ++i) {
    const uint64_t at = random() % (uint64_t{1} << 40);
    const auto advice = readahead.note(at, at + 4096);
    asked += advice.end - advice.begin;
  }
  EXPECT_EQ(asked, 0u);
}

TEST(Readahead, AccessAdviceIsHeard) {
  Readahead readahead;
  readahead.advise(File::Access::random);
  for (uint64_t at = 0; at < 1 << 20; at += 4096) {
    EXPECT_EQ(readahead.note(at, at + 4096).end, 0u);
  }
  for (const bool last : {false, true}) {
    Readahead announced;
    announced.advise(last ? File::Access::last_pass : File::Access::sequential);
    const auto advice = announced.note(0, 4096);
    EXPECT_GT(advice.end, 4096u) << "at the first read";
    EXPECT_EQ(advice.touch, last ? PageCache::Touch::last : PageCache::Touch::scan);
  }
}

TEST(Readahead, NeighbouringPrefetchesAreAScan) {
  Readahead readahead;
  readahead.advise(File::Access::random);
  EXPECT_EQ(readahead.note_prefetch(1 << 20, (1 << 20) + 8192), (1u << 20) + 8192) << "one alone";
  EXPECT_EQ(readahead.note(1 << 20, (1 << 20) + 4096).touch, PageCache::Touch::reuse);
  const uint64_t second = (1 << 20) + 8192;
  EXPECT_EQ(readahead.note_prefetch(second, second + 16384), second + 3 * 16384);
  EXPECT_EQ(readahead.note(second + 100, second + 4196).touch, PageCache::Touch::scan);
  EXPECT_EQ(readahead.note(second + 16384, second + 20480).touch, PageCache::Touch::reuse);
  EXPECT_EQ(readahead.note_prefetch(uint64_t{1} << 40, (uint64_t{1} << 40) + 1000),
            (uint64_t{1} << 40) + 1000);
  const uint64_t third = second + 16384, length = 64 << 20;
  EXPECT_EQ(readahead.note_prefetch(third, third + length), third + length + Readahead::kMaxWindow);
}

TEST(Readahead, FourScansBesideEachOther) {
  Readahead readahead;
  uint64_t ahead[4] = {};
  for (uint64_t step = 0; step < 1000; ++step) {
    for (uint64_t stream = 0; stream < 4; ++stream) {
      const uint64_t at = (stream << 32) + step * 4096;
      const auto advice = readahead.note(at, at + 4096);
      if (advice.begin < advice.end) ahead[stream] = advice.end;
    }
  }
  for (uint64_t stream = 0; stream < 4; ++stream)
    EXPECT_GT(ahead[stream], (stream << 32) + 1000 * 4096);
}

}  // namespace
}  // namespace basalt::blobfs
