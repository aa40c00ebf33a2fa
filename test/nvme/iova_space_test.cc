// IovaSpace: which addresses are handed out, and that what is handed out never overlaps.
// Method: tables at the edges of ranges, then random allocation and freeing against a plain list.
#include "nvme/vfio/iova_space.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

namespace basalt::nvme {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHuge = uint64_t{2} << 20;
constexpr uint64_t kHeap = 0x7f12'3456'7000;  // where a 64-bit process has its memory

// What QEMU's IOMMU and most of Intel's say: 39 or 48 bits, without the interrupt addresses.
std::vector<IovaRange> intel(unsigned bits) {
  return {{0, 0xfedf'ffff}, {0xfef0'0000, (uint64_t{1} << bits) - 1}};
}

TEST(IovaSpace, KeepsTheAddressWhereItCan) {
  IovaSpace space(intel(48), kPage);
  const auto iova = space.allocate(kHeap, kPage);
  ASSERT_TRUE(iova) << iova.error().to_string();
  EXPECT_EQ(*iova, kHeap);
  EXPECT_EQ(space.allocated_bytes(), kPage);
  EXPECT_EQ(space.allocated_count(), 1u);
}

// Goal: identity needs the whole buffer inside one range, to the byte.
TEST(IovaSpace, IdentityEndsWithTheRange) {
  const struct {
    uint64_t address, bytes;
    bool identity;
  } cases[] = {
      {0x10000, 0x10000, true},
      {0x10000, 0x11000, false},
      {0xf000, 0x1000, false},
      {0x1f000, 0x1000, true},
      {0x1f000, 0x2000, false},
      {0x20000, 0x1000, false},
      {0xffff'ffff'ffff'f000, kPage, false},
  };
  for (const auto& c : cases) {
    IovaSpace space({{0x10000, 0x1ffff}, {0x100'0000, 0x1ff'ffff}}, kPage);
    const auto iova = space.allocate(c.address, c.bytes);
    ASSERT_TRUE(iova) << iova.error().to_string();
    EXPECT_EQ(*iova == c.address, c.identity) << std::hex << c.address << " + " << c.bytes;
  }
}

TEST(IovaSpace, ReachesTheLastAddress) {
  IovaSpace space({{0x1000, ~uint64_t{0}}}, kPage);
  const auto last = space.allocate(~uint64_t{0} - (kPage - 1), kPage);
  ASSERT_TRUE(last);
  EXPECT_EQ(*last, ~uint64_t{0} - (kPage - 1));
  const auto again = space.allocate(~uint64_t{0} - (kPage - 1), kPage);
  ASSERT_TRUE(again) << "and what is taken goes elsewhere";
  EXPECT_EQ(*again, 0x1000u);
}

// Goal: a 39-bit IOMMU cannot say a process's addresses; the lowest free ones are used, and never 0.
TEST(IovaSpace, UsesTheLowestFreeAddress) {
  IovaSpace space(intel(39), kPage);
  EXPECT_EQ(*space.allocate(kHeap, kPage), kPage);
  EXPECT_EQ(*space.allocate(kHeap + kPage, 2 * kPage), 2 * kPage);
  ASSERT_TRUE(space.free(kPage, kPage).ok());
  EXPECT_EQ(*space.allocate(kHeap + 8 * kPage, 2 * kPage), 4 * kPage) << "the hole is too small";
  EXPECT_EQ(*space.allocate(kHeap + 16 * kPage, kPage), kPage) << "and is used for what fits";
}

// Goal: memory in hugepages keeps its place within them, so that the IOMMU can use large pages.
TEST(IovaSpace, KeepsThePlaceWithinHugepages) {
  IovaSpace space(intel(39), kPage);
  EXPECT_EQ(*space.allocate(0x7f00'0000'0000, kHuge), kHuge);
  EXPECT_EQ(*space.allocate(0x7f00'1000'3000, kHuge) % kHuge, 0x3000u);
  EXPECT_EQ(*space.allocate(0x7f00'2000'0000, kHuge - kPage), kPage) << "smaller: any page";
}

TEST(IovaSpace, TakesAnyPageWhenThereIsNoAlignedRoom) {
  IovaSpace space({{kPage, kHuge + 2 * kPage}}, kPage);
  EXPECT_EQ(*space.allocate(0x7f00'0000'0000, kHuge), kPage);
}

// Goal: first fit steps over what has its own address, and identity gives way to what came first.
TEST(IovaSpace, MixesIdentityAndFirstFit) {
  IovaSpace space({{0, 0xffff}}, kPage);
  EXPECT_EQ(*space.allocate(0x2000, 0x2000), 0x2000u);
  EXPECT_EQ(*space.allocate(kHeap, 0x1000), 0x1000u);
  EXPECT_EQ(*space.allocate(kHeap, 0x1000), 0x4000u);
  EXPECT_EQ(*space.allocate(0x3000, 0x2000), 0x5000u) << "overlaps both";
  EXPECT_EQ(*space.allocate(0, 0x1000), 0x7000u) << "address 0 is nobody's";
}

TEST(IovaSpace, JoinsRangesThatTouch) {
  IovaSpace space({{0x3000, 0x4fff}, {0x1000, 0x2fff}, {0x2000, 0x3fff}, {0x9000, 0x8000}}, kPage);
  EXPECT_EQ(space.ranges(), "0x1000-0x4fff");
  EXPECT_EQ(*space.allocate(kHeap, 0x4000), 0x1000u);
}

// Goal: running out says how much was wanted, what there is and how much is in use.
TEST(IovaSpace, SaysWhyThereIsNoSpace) {
  IovaSpace space({{0, 0x2fff}, {0x8000, 0x8fff}}, kPage);
  const auto big = space.allocate(kHeap, 0x3000);
  ASSERT_FALSE(big) << "page 0 does not count";
  EXPECT_EQ(big.error().code(), StatusCode::no_space);
  EXPECT_THAT(std::string(big.error().message()), HasSubstr("12288 B"));
  EXPECT_THAT(std::string(big.error().message()), HasSubstr("0x0-0x2fff, 0x8000-0x8fff"));
  ASSERT_TRUE(space.allocate(kHeap, 0x2000));
  ASSERT_TRUE(space.allocate(kHeap, 0x1000));
  const auto full = space.allocate(kHeap, 0x1000);
  ASSERT_FALSE(full);
  EXPECT_THAT(std::string(full.error().message()), HasSubstr("12288 B in 2 mappings"));
  const auto none = IovaSpace({}, kPage).allocate(kHeap, kPage);
  ASSERT_FALSE(none);
  EXPECT_THAT(std::string(none.error().message()), HasSubstr("accepts none"));
}

TEST(IovaSpace, RefusesWhatIsNoWholePage) {
  IovaSpace space(intel(48), kPage);
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, kPage - 1, kPage + 1, ~uint64_t{0}}) {
    EXPECT_EQ(space.allocate(kHeap, bytes).error().code(), StatusCode::invalid_argument) << bytes;
  }
  EXPECT_EQ(space.allocate(kHeap + 512, kPage).error().code(), StatusCode::invalid_argument);
  EXPECT_EQ(space.allocate(~uint64_t{0} - (kPage - 1), 2 * kPage).error().code(),
            StatusCode::invalid_argument)
      << "beyond the end of all addresses";
  EXPECT_EQ(IovaSpace(intel(48), 1 << 16).allocate(kHeap, kPage).error().code(),
            StatusCode::invalid_argument)
      << "an IOMMU with larger pages";
}

TEST(IovaSpace, FreesOnlyWhatItHandedOut) {
  IovaSpace space(intel(48), kPage);
  ASSERT_TRUE(space.allocate(kHeap, 2 * kPage));
  for (const auto& [iova, bytes] :
       {std::pair{kHeap, kPage}, std::pair{kHeap + kPage, kPage}, std::pair{kHeap, 3 * kPage},
        std::pair{kHeap, uint64_t{0}}, std::pair{uint64_t{0}, kPage}}) {
    EXPECT_EQ(space.free(iova, bytes).code(), StatusCode::invalid_argument);
  }
  EXPECT_TRUE(space.free(kHeap, 2 * kPage).ok());
  EXPECT_EQ(space.free(kHeap, 2 * kPage).code(), StatusCode::invalid_argument) << "twice";
  EXPECT_EQ(space.allocated_bytes(), 0u);
}

// Goal: the invariants, in any order of allocating and freeing. Method: a small space, so that identity, first
// fit and no_space all happen; everything handed out is kept beside it and compared.
TEST(IovaSpace, NeverOverlaps) {
  const std::vector<IovaRange> usable{{0, 0x3f'ffff}, {0x50'0000, 0xcf'ffff}};
  std::mt19937_64 random(1);
  IovaSpace space(usable, kPage);
  std::map<uint64_t, uint64_t> held;
  size_t identical = 0, moved = 0, full = 0;
  for (int round = 0; round < 20'000; ++round) {
    if (!held.empty() && random() % 5 < 2) {
      const auto at = std::next(held.begin(), static_cast<ptrdiff_t>(random() % held.size()));
      ASSERT_TRUE(space.free(at->first, at->second).ok());
      held.erase(at);
      continue;
    }
    const uint64_t bytes = (1 + random() % (random() % 8 == 0 ? 600 : 40)) * kPage;
    const uint64_t address = random() % 0x2000 * kPage;
    const auto iova = space.allocate(address, bytes);
    if (!iova) {
      ASSERT_EQ(iova.error().code(), StatusCode::no_space);
      ++full;
      continue;
    }
    (*iova == address ? identical : moved) += 1;
    ASSERT_NE(*iova, 0u);
    ASSERT_EQ(*iova % kPage, 0u);
    ASSERT_TRUE((*iova >= usable[0].first && *iova + bytes - 1 <= usable[0].last) ||
                (*iova >= usable[1].first && *iova + bytes - 1 <= usable[1].last));
    const auto after = held.lower_bound(*iova);
    ASSERT_TRUE(after == held.end() || *iova + bytes <= after->first);
    ASSERT_TRUE(after == held.begin() ||
                std::prev(after)->first + std::prev(after)->second <= *iova);
    held.emplace(*iova, bytes);
  }
  EXPECT_GT(identical, 100u);
  EXPECT_GT(moved, 100u);
  EXPECT_GT(full, 100u);
}

}  // namespace
}  // namespace basalt::nvme
