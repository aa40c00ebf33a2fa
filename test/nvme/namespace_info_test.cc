// NamespaceInfo from identify data as controllers send it: right, inherited from the controller, and nonsense.
#include "nvme/namespace_info.h"

#include <gtest/gtest.h>

#include <vector>

#include "nvme/commands.h"

namespace basalt::nvme {
namespace {

IdentifyNamespace plain() {
  IdentifyNamespace data{};
  data.size = data.capacity = 1000;
  data.format_count = 1;  // two
  data.formats[0].data_shift = 9;
  data.formats[1].data_shift = 12;
  data.formats[1].metadata_bytes = 8;
  return data;
}

TEST(NamespaceInfo, ReadsTheFormatInUse) {
  IdentifyNamespace data = plain();
  auto info = namespace_info(3, {}, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->nsid, 3u);
  EXPECT_EQ(info->block_count, 1000u);
  EXPECT_EQ(info->block_bytes, 512u);
  EXPECT_EQ(info->metadata_bytes, 0u);
  data.format = 0x11;
  info = namespace_info(3, {}, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->block_bytes, 4096u);
  EXPECT_EQ(info->metadata_bytes, 8u);
  EXPECT_TRUE(info->metadata_interleaved);
}

TEST(NamespaceInfo, TakesFormatsBeyondSixteenFromTheUpperBits) {
  IdentifyNamespace data = plain();
  data.format_count = 40;
  data.formats[0x25].data_shift = 12;
  data.format = 0x45;  // index 5 below, 2 above
  const auto info = namespace_info(1, {}, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->block_bytes, 4096u);
}

TEST(NamespaceInfo, InheritsAtomicityFromTheController) {
  IdentifyController controller{};
  controller.atomic_write_unit_power_fail = 7;
  IdentifyNamespace data = plain();
  data.atomic_write_unit_power_fail = 31;
  data.atomic_boundary_power_fail = 63;
  auto info = namespace_info(1, controller, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->atomic_write_blocks, 8u) << "without NSFEAT its own fields do not count";
  EXPECT_EQ(info->atomic_boundary_blocks, 0u);
  data.features = kNamespaceAtomicity;
  info = namespace_info(1, controller, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->atomic_write_blocks, 32u);
  EXPECT_EQ(info->atomic_boundary_blocks, 64u);
  data.atomic_boundary_offset = 1;
  info = namespace_info(1, controller, data);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->atomic_write_blocks, 1u) << "boundaries that no aligned write avoids";
}

TEST(NamespaceInfo, SaysWhatAFusedCompareAndWriteTakes) {
  IdentifyController controller{};
  controller.atomic_compare_and_write_unit = 7;
  IdentifyNamespace data = plain();
  data.atomic_compare_and_write_unit = 3;
  EXPECT_EQ(namespace_info(1, controller, data)->compare_and_write_blocks, 0u) << "without FUSES";
  controller.fused_operations = kFusesCompareAndWrite;
  EXPECT_EQ(namespace_info(1, controller, data)->compare_and_write_blocks, 8u);
  data.features = kNamespaceAtomicity;
  EXPECT_EQ(namespace_info(1, controller, data)->compare_and_write_blocks, 4u);
  data.atomic_compare_and_write_unit = 0;
  EXPECT_EQ(namespace_info(1, controller, data)->compare_and_write_blocks, 8u)
      << "0: as the controller's";
  data.atomic_boundary_size = 15;
  EXPECT_EQ(namespace_info(1, controller, data)->compare_and_write_blocks, 1u)
      << "crosses no boundary";
}

TEST(NamespaceInfo, RefusesNonsense) {
  IdentifyNamespace data = plain();
  data.size = 0;
  EXPECT_EQ(namespace_info(1, {}, data).error().code(), StatusCode::not_found);
  data = plain();
  data.format = 2;
  EXPECT_EQ(namespace_info(1, {}, data).error().code(), StatusCode::corruption);
  for (const uint8_t shift : {0, 8, 17, 64, 255}) {
    data = plain();
    data.formats[0].data_shift = shift;
    EXPECT_EQ(namespace_info(1, {}, data).error().code(), StatusCode::unsupported) << int{shift};
  }
  data = plain();
  data.size = uint64_t{1} << 56;
  EXPECT_EQ(namespace_info(1, {}, data).error().code(), StatusCode::corruption);
}

// Format NVM, command word 10: bits 3:0 and 13:12 the format, 11:9 what is erased; bits 8:4 are metadata's.
TEST(FormatCommand, HighFormatsStayOutOfOtherFields) {
  EXPECT_EQ(format_command(1, 1).cdw10, 0x1u);
  EXPECT_EQ(format_command(1, 15, SecureErase::cryptographic).cdw10, 0x40fu);
  EXPECT_EQ(format_command(1, 63, SecureErase::user_data).cdw10, 0x320fu);
}

std::vector<std::byte> descriptors(std::initializer_list<int> bytes) {
  std::vector<std::byte> list(64);
  size_t at = 0;
  for (const int byte : bytes) list[at++] = static_cast<std::byte>(byte);
  return list;
}

TEST(NamespaceInfo, FindsCommandSetAndUuidAmongTheDescriptors) {
  const auto read = [](std::initializer_list<int> bytes) {
    NamespaceInfo info;
    EXPECT_TRUE(add_descriptors(info, descriptors(bytes)).ok());
    return info;
  };
  EXPECT_EQ(read({}).command_set, CommandSet::nvm);
  EXPECT_EQ(read({4, 1, 0, 0, 2}).command_set, CommandSet::zoned);
  const NamespaceInfo both =
      read({3, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 4, 1, 0, 0, 2});
  EXPECT_EQ(both.command_set, CommandSet::zoned);
  EXPECT_EQ(both.uuid[0], 1);
  EXPECT_EQ(both.uuid[15], 16);
  NamespaceInfo info;
  EXPECT_TRUE(add_descriptors(info, {}).ok());
  for (const auto& wrong :
       {descriptors({4, 0, 0, 0, 2}), descriptors({1, 61}), descriptors({3, 8})}) {
    EXPECT_EQ(add_descriptors(info, wrong).code(), StatusCode::corruption);
  }
}

TEST(NamespaceInfo, KnowsWhetherItIsTheSame) {
  const NamespaceInfo before = *namespace_info(3, {}, plain());
  NamespaceInfo now = before;
  EXPECT_TRUE(is_same_namespace(before, now));
  now.block_count += 1;
  EXPECT_TRUE(is_same_namespace(before, now));
  now.block_count -= 2;
  EXPECT_FALSE(is_same_namespace(before, now));
  now = before;
  now.uuid[3] = 1;
  EXPECT_FALSE(is_same_namespace(before, now));
  now = before;
  now.block_bytes = 4096;
  EXPECT_FALSE(is_same_namespace(before, now));
}

TEST(NamespaceInfo, KnowsItsZones) {
  IdentifyNamespace data = plain();
  NamespaceInfo info = *namespace_info(3, {}, data);
  IdentifyZonedNamespace zoned{};
  zoned.formats[0].zone_blocks = 100;
  zoned.max_active = 13;
  zoned.max_open = kNoZoneLimit;
  ASSERT_TRUE(add_zones(info, data, zoned).ok());
  EXPECT_EQ(info.zone_blocks, 100u);
  EXPECT_EQ(info.max_active_zones, 14u);
  EXPECT_EQ(info.max_open_zones, 0u);
  for (const uint64_t blocks : {uint64_t{0}, uint64_t{1001}, ~uint64_t{0}}) {
    zoned.formats[0].zone_blocks = blocks;
    const Status status = add_zones(info, data, zoned);
    EXPECT_EQ(status.code(), StatusCode::corruption);
    EXPECT_NE(status.to_string().find("namespace 3"), std::string::npos);
  }
}

}  // namespace
}  // namespace basalt::nvme
