// The ANA log page: pages written out by hand, and pages that say more than they have.
#include "nvme/access_states.h"

#include <gtest/gtest.h>

#include <vector>

namespace basalt::nvme {
namespace {

struct Group {
  uint8_t state;
  std::vector<uint32_t> namespaces;
};

void put(std::vector<std::byte>& page, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) page.push_back(static_cast<std::byte>(value >> 8 * i));
}

std::vector<std::byte> page_of(const std::vector<Group>& groups) {
  std::vector<std::byte> page;
  put(page, 77, 8);  // changes
  put(page, groups.size(), 2);
  put(page, 0, 6);
  uint32_t id = 1;
  for (const Group& group : groups) {
    put(page, id++, 4);
    put(page, group.namespaces.size(), 4);
    put(page, 3, 8);
    put(page, group.state, 1);
    put(page, 0, 15);
    for (const uint32_t nsid : group.namespaces) put(page, nsid, 4);
  }
  return page;
}

TEST(AccessStates, EachNamespaceHasItsGroups) {
  const auto states = parse_access_log(
      page_of({{0x1, {1, 4}}, {0x2, {}}, {0x3, {2}}, {0x4, {3}}, {0xf, {5}}, {0x1, {9}}}));
  ASSERT_TRUE(states) << states.error().to_string();
  const AccessStates expected = {{1, AccessState::optimized},       {2, AccessState::inaccessible},
                                 {3, AccessState::persistent_loss}, {4, AccessState::optimized},
                                 {5, AccessState::change},          {9, AccessState::optimized}};
  EXPECT_EQ(*states, expected);
}

TEST(AccessStates, AnUnknownStateIsNoWayToANamespace) {
  const auto states = parse_access_log(page_of({{0x7, {1}}, {0xf2, {2}}}));
  ASSERT_TRUE(states);
  EXPECT_EQ(states->at(1), AccessState::inaccessible);
  EXPECT_EQ(states->at(2), AccessState::non_optimized) << "the upper bits are reserved";
}

TEST(AccessStates, WhatIsBehindTheGroupsIsNotRead) {
  auto page = page_of({{0x1, {1}}});
  page.resize(4096);
  const auto states = parse_access_log(page);
  ASSERT_TRUE(states);
  EXPECT_EQ(states->size(), 1u);
}

TEST(AccessStates, APageThatEndsTooEarlyIsCorrupt) {
  const auto page = page_of({{0x1, {1, 2}}, {0x2, {3}}});
  for (size_t bytes = 0; bytes < page.size(); ++bytes) {
    const auto states = parse_access_log(std::span(page).first(bytes));
    ASSERT_FALSE(states) << bytes;
    EXPECT_EQ(states.error().code(), StatusCode::corruption);
    EXPECT_NE(states.error().message().find("too short for"), std::string::npos);
  }
  auto wild = page;
  wild[16 + 7] = std::byte{0xff};  // four thousand million namespaces
  EXPECT_FALSE(parse_access_log(wild));
}

TEST(AccessStates, ThePageHasRoomForEverything) {
  IdentifyController controller{};
  controller.namespace_count = 1024;
  controller.access_groups = 3;
  EXPECT_EQ(access_log_bytes(controller), 16u + 3 * 32 + 1024 * 4);
  controller.max_allowed_namespaces = 16;
  EXPECT_EQ(access_log_bytes(controller), 16u + 3 * 32 + 16 * 4);
}

}  // namespace
}  // namespace basalt::nvme
