// What VFIO answers: capability chains, and answers that lead out of themselves.
// Method: answers put together here, as linux/vfio.h lays them out.
#include "nvme/vfio/vfio_info.h"

#include <gmock/gmock.h>
#include <linux/vfio.h>

#include <cstring>

namespace basalt::nvme {
namespace {

template <typename T>
void append(std::vector<std::byte>& bytes, const T& value) {
  bytes.resize(bytes.size() + sizeof(T));
  std::memcpy(bytes.data() + bytes.size() - sizeof(T), &value, sizeof(T));
}

vfio_info_cap_header head(uint16_t id, uint32_t next) {
  return {.id = id, .version = 1, .next = next};
}

// An IOMMU's answer with a capability this driver does not know, the ranges, and the mappings left.
std::vector<std::byte> iommu_answer(uint32_t nr_iovas) {
  vfio_iommu_type1_info info{};
  info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
  info.iova_pgsizes = 0x40201000;
  info.cap_offset = sizeof info;
  std::vector<std::byte> bytes;
  append(bytes, info);
  append(bytes, head(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, sizeof info + 8));
  const auto ranges = static_cast<uint32_t>(bytes.size());
  const uint32_t left = ranges + 16 + 2 * sizeof(vfio_iova_range);
  append(bytes, head(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, left));
  append(bytes, nr_iovas);
  append(bytes, uint32_t{0});
  append(bytes, vfio_iova_range{0, 0xfedf'ffff});
  append(bytes, vfio_iova_range{0xfef0'0000, 0xffff'ffff'ffff});
  append(bytes, head(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 0));
  append(bytes, uint32_t{65535});
  return bytes;
}

TEST(IommuInfo, ReadsEveryCapability) {
  const IommuInfo info = parse_iommu_info(iommu_answer(2));
  EXPECT_EQ(info.page_sizes, 0x40201000u);
  EXPECT_EQ(info.granule(), 4096u);
  ASSERT_EQ(info.usable.size(), 2u);
  EXPECT_EQ(info.usable[0].last, 0xfedf'ffffu);
  EXPECT_EQ(info.usable[1].first, 0xfef0'0000u);
  EXPECT_EQ(info.usable[1].last, 0xffff'ffff'ffffu);
  EXPECT_EQ(info.mappings_left, 65535u);
}

// Goal: a kernel that names no ranges gets what every x86 IOMMU has.
TEST(IommuInfo, OldKernelsNameNothing) {
  vfio_iommu_type1_info fixed{};
  std::vector<std::byte> bytes;
  append(bytes, fixed);
  const IommuInfo info = parse_iommu_info(bytes);
  EXPECT_EQ(info.granule(), 4096u);
  ASSERT_EQ(info.usable.size(), 2u);
  EXPECT_EQ(info.usable[1].last, 0x7f'ffff'ffffu);
  EXPECT_FALSE(info.mappings_left.has_value());
}

// Goal: no cut and no false count reads outside the answer (the sanitizer watches), or goes round for ever.
TEST(IommuInfo, BelievesNothingOutsideTheAnswer) {
  const auto whole = iommu_answer(2);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_LE(parse_iommu_info(cut).usable.size(), 2u);
  }
  const auto greedy = iommu_answer(~uint32_t{0});
  EXPECT_LT(parse_iommu_info(greedy).usable.size(), greedy.size());

  auto round = iommu_answer(2);
  const uint32_t back =
      sizeof(vfio_iommu_type1_info);  // the first capability names itself as the next
  std::memcpy(round.data() + back + 4, &back, sizeof back);
  EXPECT_FALSE(parse_iommu_info(round).mappings_left.has_value());
}

std::vector<std::byte> region_answer(uint32_t flags,
                                     const std::vector<vfio_region_sparse_mmap_area>& areas) {
  vfio_region_info info{};
  info.flags = flags;
  info.size = 0x4000;
  info.offset = uint64_t{1} << 40;
  info.cap_offset = sizeof info;
  std::vector<std::byte> bytes;
  append(bytes, info);
  const uint16_t id =
      areas.empty() ? VFIO_REGION_INFO_CAP_MSIX_MAPPABLE : VFIO_REGION_INFO_CAP_SPARSE_MMAP;
  append(bytes, head(id, 0));
  if (areas.empty()) return bytes;
  append(bytes, static_cast<uint32_t>(areas.size()));
  append(bytes, uint32_t{0});
  for (const auto& area : areas) append(bytes, area);
  return bytes;
}

constexpr uint32_t kMappable = VFIO_REGION_INFO_FLAG_MMAP;
constexpr uint32_t kCapabilities = VFIO_REGION_INFO_FLAG_CAPS;

TEST(RegionInfo, MapsAllOfIt) {
  for (const uint32_t flags : {kMappable, kMappable | kCapabilities}) {
    const RegionInfo info = parse_region_info(region_answer(flags, {}));
    EXPECT_EQ(info.bytes, 0x4000u);
    EXPECT_EQ(info.file_offset, uint64_t{1} << 40);
    ASSERT_EQ(info.mappable.size(), 1u);
    EXPECT_EQ(info.mappable[0].offset, 0u);
    EXPECT_EQ(info.mappable[0].bytes, 0x4000u);
  }
}

TEST(RegionInfo, MapsNothingOfIt) {
  EXPECT_TRUE(parse_region_info(region_answer(kCapabilities, {})).mappable.empty());
}

// Goal: what an old kernel says when the MSI-X table is in the middle; areas outside the region do not count.
TEST(RegionInfo, MapsTheAreasAroundTheTable) {
  const RegionInfo info =
      parse_region_info(region_answer(kMappable | kCapabilities, {{0x3000, 0x1000},
                                                                  {0, 0x2000},
                                                                  {0x3000, 0x1001},
                                                                  {0x5000, 0x1000},
                                                                  {0x1000, ~uint64_t{0}},
                                                                  {0, 0}}));
  ASSERT_EQ(info.mappable.size(), 2u);
  EXPECT_EQ(info.mappable[0].offset, 0u);
  EXPECT_EQ(info.mappable[0].bytes, 0x2000u);
  EXPECT_EQ(info.mappable[1].offset, 0x3000u);
}

}  // namespace
}  // namespace basalt::nvme
