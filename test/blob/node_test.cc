// Goal: a Node keeps its cells in order within one page, and well_formed() refuses bytes that would lead
// outside the page or let cells spoil each other.
// Method: random insertions, replacements and erasures against a vector of pairs, at cell sizes up to the
// limits; each field of a good page forged in turn.
#include "blob/node.h"

#include <gtest/gtest.h>

#include "blob/aligned_buffer.h"
#include "blob/transaction.h"

#include <algorithm>
#include <random>
#include <vector>

namespace basalt::blob {
namespace {

TEST(Node, MatchesASortedVector) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    std::mt19937 random(seed);
    AlignedBuffer page(kBlockBytes);
    Node node(page.data());
    node.initialise(TreeId::catalog, 0);
    std::vector<std::pair<std::string, std::string>> model;
    for (int step = 0; step < 2000; ++step) {
      const std::string key(1 + random() % (random() % 8 == 0 ? 300 : 6),
                            static_cast<char>('a' + random() % 26));
      const std::string value(random() % (random() % 8 == 0 ? 513 : 20),
                              static_cast<char>('A' + random() % 26));
      bool exact = false;
      const unsigned at = node.lower_bound(key, exact);
      const auto place =
          std::lower_bound(model.begin(), model.end(), std::pair{key, std::string()});
      ASSERT_EQ(at, static_cast<unsigned>(place - model.begin()));
      ASSERT_EQ(exact, place != model.end() && place->first == key);
      size_t used = 0;
      for (const auto& [k, v] : model) used += Node::cell_bytes(k, v);
      ASSERT_EQ(node.used_bytes(), used);
      if (exact && random() % 2 == 0) {
        node.erase(at);
        model.erase(place);
      } else if (exact) {
        const bool fits = used - place->second.size() + value.size() <= Node::kCapacity;
        ASSERT_EQ(node.replace(at, value), fits);
        if (fits) place->second = value;
      } else {
        const bool fits = used + Node::cell_bytes(key, value) <= Node::kCapacity;
        ASSERT_EQ(node.insert(at, key, value), fits);
        if (fits) model.insert(place, {key, value});
      }
      ASSERT_EQ(node.count(), model.size());
      for (unsigned i = 0; i < node.count(); ++i) {
        ASSERT_EQ(node.key(i), model[i].first);
        ASSERT_EQ(node.value(i), model[i].second);
      }
      ASSERT_EQ(node.well_formed(), !model.empty());
    }
  }
}

class ForgedNode : public testing::Test {
 protected:
  ForgedNode() : node_(page_.data()) {
    node_.initialise(TreeId::catalog, 0);
    for (unsigned i = 0; i < 5; ++i) {
      EXPECT_TRUE(
          node_.insert(i, std::string(1, static_cast<char>('a' + i)), std::string(40, 'v')));
    }
    EXPECT_TRUE(node_.well_formed());
  }
  le16* slots() { return reinterpret_cast<le16*>(page_.data() + sizeof(PageHeader)); }
  le16* lengths(unsigned i) { return reinterpret_cast<le16*>(page_.data() + slots()[i]); }
  AlignedBuffer page_{kBlockBytes};
  Node node_;
};

TEST_F(ForgedNode, CountAndBordersAreChecked) {
  node_.header().cell_count = 0;
  EXPECT_FALSE(node_.well_formed());
  node_.header().cell_count = 65535;
  EXPECT_FALSE(node_.well_formed());
  node_.header().cell_count = 4;  // live_bytes says five
  EXPECT_FALSE(node_.well_formed());
  node_.header().cell_count = 5;
  node_.header().cell_start = 60;  // inside the slots
  EXPECT_FALSE(node_.well_formed());
  node_.header().cell_start = 4097;
  EXPECT_FALSE(node_.well_formed());
}

TEST_F(ForgedNode, CellsStayInsideThePage) {
  slots()[2] = 4095;
  EXPECT_FALSE(node_.well_formed());
  slots()[2] = 4;
  EXPECT_FALSE(node_.well_formed());
}

TEST_F(ForgedNode, LengthsStayInsideThePage) {
  lengths(0)[1] = 5000;
  EXPECT_FALSE(node_.well_formed());
  lengths(0)[1] = 40;
  lengths(3)[0] = kMaxKeyLimit + 1;
  EXPECT_FALSE(node_.well_formed());
}

TEST_F(ForgedNode, KeysAscend) {
  std::swap(slots()[1], slots()[2]);
  EXPECT_FALSE(node_.well_formed());
}

// A cell inside another one's value: changing the outer value in place would forge the inner lengths.
TEST_F(ForgedNode, CellsDoNotOverlap) {
  std::byte* outer = page_.data() + slots()[4];  // the lowest cell: 4 + 1 + 40 bytes
  std::byte* inner = outer + 10;
  const le16 inner_lengths[2] = {1, 2};
  std::memcpy(inner, inner_lengths, 4);
  inner[4] = std::byte{'z'};
  slots()[5] = static_cast<uint16_t>(inner - page_.data());
  node_.header().cell_count = 6;
  node_.header().live_bytes = node_.header().live_bytes + 7;
  node_.header().cell_start = node_.header().cell_start - 7;  // as if there were room for both
  EXPECT_FALSE(node_.well_formed());
}

TEST_F(ForgedNode, ChildrenAreReferences) {
  node_.header().level = 1;
  EXPECT_FALSE(node_.well_formed());  // values of 40 bytes are no PageRefs
}

TEST(Node, TheFirstKeyOfAnInnerNodeSaysNothing) {
  AlignedBuffer page(kBlockBytes);
  Node node(page.data());
  node.initialise(TreeId::objects, 1);
  PageRef ref{};
  ASSERT_TRUE(node.insert(0, "m", struct_text(ref)));
  ASSERT_TRUE(node.insert(1, "c", struct_text(ref)));
  ASSERT_TRUE(node.insert(2, "t", struct_text(ref)));
  EXPECT_TRUE(node.well_formed());
  EXPECT_EQ(node.child_index("a"), 0u);
  EXPECT_EQ(node.child_index("c"), 1u);
  EXPECT_EQ(node.child_index("s"), 1u);
  EXPECT_EQ(node.child_index("t"), 2u);
}

}  // namespace
}  // namespace basalt::blob
