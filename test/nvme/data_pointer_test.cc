// PRP entries and SGL descriptors against tables worked out by hand from the specification's rules: what a
// command names must be exactly the pages, or bytes, that its data lies in, in order.
#include "nvme/data_pointer.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <vector>

namespace basalt::nvme {
namespace {

constexpr uint32_t kPage = 4096;
constexpr uint64_t kListIova = 0x7000'0000;

struct Piece {
  uint64_t iova;
  size_t bytes;
};

// Lists of `bytes`, filled with what must not be left in them.
class List {
 public:
  explicit List(size_t bytes) : memory_(bytes, std::byte{0xee}) {}
  ListMemory memory() { return {memory_, kListIova}; }
  uint64_t entry(size_t index) const {
    le64 value;
    std::memcpy(&value, memory_.data() + index * sizeof value, sizeof value);
    return value;
  }
  SglDescriptor descriptor(size_t index) const {
    SglDescriptor value;
    std::memcpy(&value, memory_.data() + index * sizeof value, sizeof value);
    return value;
  }

 private:
  std::vector<std::byte> memory_;
};

struct Built {
  bool ok;
  DataPointer pointer;
};
Built build_prps(List& list, const std::vector<Piece>& pieces) {
  PrpBuilder builder(list.memory(), kPage);
  for (const Piece& piece : pieces) {
    if (!builder.add(piece.iova, piece.bytes)) return {false, {}};
  }
  return {true, builder.finish()};
}

TEST(Prp, NothingIsZero) {
  List list(kPage);
  const Built built = build_prps(list, {});
  EXPECT_TRUE(built.ok);
  EXPECT_EQ(built.pointer.prp1, 0u);
  EXPECT_EQ(built.pointer.prp2, 0u);
}

struct Small {
  const char* name;
  std::vector<Piece> pieces;
  uint64_t prp1, prp2;  // what at most two pages must give
};
class SmallPrp : public testing::TestWithParam<Small> {};
INSTANTIATE_TEST_SUITE_P(
    Tables, SmallPrp,
    testing::Values(
        Small{"one_block", {{0x10000, 512}}, 0x10000, 0},
        Small{"inside_a_page", {{0x10200, 512}}, 0x10200, 0},
        Small{"to_the_end_of_its_page", {{0x10e00, 512}}, 0x10e00, 0},
        Small{"one_page", {{0x10000, 4096}}, 0x10000, 0},
        Small{"one_byte_into_the_next", {{0x10000, 4100}}, 0x10000, 0x11000},
        Small{"across_a_boundary", {{0x10e00, 1024}}, 0x10e00, 0x11000},
        Small{"two_pages", {{0x10000, 8192}}, 0x10000, 0x11000},
        Small{"offset_of_the_first_page", {{0x10ffc, 8}}, 0x10ffc, 0x11000},
        Small{"two_pieces", {{0x10000, 4096}, {0x90000, 4096}}, 0x10000, 0x90000},
        Small{"last_piece_ends_early", {{0x10000, 4096}, {0x90000, 512}}, 0x10000, 0x90000},
        Small{"first_piece_begins_late", {{0x10c00, 1024}, {0x90000, 4096}}, 0x10c00, 0x90000},
        Small{"pieces_that_touch", {{0x10000, 512}, {0x10200, 3584}}, 0x10000, 0},
        Small{"touching_across_a_page", {{0x10000, 512}, {0x10200, 4096}}, 0x10000, 0x11000},
        Small{"an_empty_piece", {{0x10000, 4096}, {0x123, 0}, {0x20000, 512}}, 0x10000, 0x20000}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

TEST_P(SmallPrp, NeedsNoList) {
  List list(0);
  const Built built = build_prps(list, GetParam().pieces);
  ASSERT_TRUE(built.ok);
  EXPECT_EQ(built.pointer.prp1, GetParam().prp1);
  EXPECT_EQ(built.pointer.prp2, GetParam().prp2);
}

TEST(Prp, PiecesThatPagesCannotName) {
  List list(kPage);
  EXPECT_FALSE(build_prps(list, {{0x10000, 512}, {0x20000, 512}}).ok) << "a gap inside a page";
  EXPECT_FALSE(build_prps(list, {{0x10000, 4096}, {0x20200, 512}}).ok) << "a late second piece";
  EXPECT_FALSE(build_prps(list, {{0x10000, 4096}, {0x20000, 512}, {0x30000, 4096}}).ok)
      << "an early end before the last";
  EXPECT_FALSE(build_prps(list, {{0x10002, 512}}).ok) << "not at a dword";
}

// `pages` whole pages from 0x100000 on; the list must name all but the first, and chain where it has to.
class LongPrp : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Pages, LongPrp,
                         testing::Values(3, 4, 512, 513, 514, 1023, 1024, 1025, 1535, 1536));

TEST_P(LongPrp, NamesEveryPageOnce) {
  const size_t pages = GetParam();
  List list(4 * kPage);
  const Built built = build_prps(list, {{0x100000, pages * kPage}});
  ASSERT_TRUE(built.ok);
  EXPECT_EQ(built.pointer.prp1, 0x100000u);
  ASSERT_EQ(built.pointer.prp2, kListIova);
  // Read as the controller does: a list page's last entry is a page of data only if no more follow.
  size_t left = pages - 1;
  uint64_t expected = 0x101000;
  size_t index = 0;
  while (left > 0) {
    if (index % 512 == 511 && left > 1) {
      ASSERT_EQ(list.entry(index), kListIova + (index + 1) * 8) << "the next list page";
      ++index;
      continue;
    }
    ASSERT_EQ(list.entry(index), expected) << "entry " << index;
    expected += kPage;
    ++index;
    --left;
  }
}

TEST(Prp, AListThatIsFullIsSaid) {
  List list(16 * sizeof(uint64_t));
  EXPECT_TRUE(build_prps(list, {{0x100000, 17 * kPage}}).ok);
  EXPECT_FALSE(build_prps(list, {{0x100000, 18 * kPage}}).ok);
  List page(kPage);
  EXPECT_TRUE(build_prps(page, {{0x100000, 513 * kPage}}).ok);
  EXPECT_FALSE(build_prps(page, {{0x100000, 514 * kPage}}).ok);
}

TEST(Prp, PagesFromManyPieces) {
  List list(kPage);
  const Built built = build_prps(
      list, {{0x10800, 2048}, {0x40000, 8192}, {0x42000, 4096}, {0x90000, 4096}, {0xa0000, 100}});
  ASSERT_TRUE(built.ok);
  EXPECT_EQ(built.pointer.prp1, 0x10800u);
  EXPECT_EQ(built.pointer.prp2, kListIova);
  const std::vector<uint64_t> expected{0x40000, 0x41000, 0x42000, 0x90000, 0xa0000};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(list.entry(i), expected[i]) << i;
}

TEST(Sgl, OnePieceIsInTheCommand) {
  List list(0);
  SglBuilder builder(list.memory());
  ASSERT_TRUE(builder.add(0x12345, 777));
  const auto descriptor = std::bit_cast<SglDescriptor>(builder.finish());
  EXPECT_EQ(descriptor.address, 0x12345u);
  EXPECT_EQ(descriptor.length, 777u);
  EXPECT_EQ(descriptor.type, 0x00);
}

TEST(Sgl, MorePiecesAreASegment) {
  List list(3 * sizeof(SglDescriptor));
  SglBuilder builder(list.memory());
  ASSERT_TRUE(builder.add(0x1001, 3));
  ASSERT_TRUE(builder.add(0x5000, 0)) << "nothing is nothing";
  ASSERT_TRUE(builder.add(0x2002, 5));
  ASSERT_TRUE(builder.add(0x3003, 7));
  EXPECT_FALSE(builder.add(0x4004, 9)) << "the list is full";
  const auto segment = std::bit_cast<SglDescriptor>(builder.finish());
  EXPECT_EQ(segment.address, kListIova);
  EXPECT_EQ(segment.length, 48u);
  EXPECT_EQ(segment.type, 0x30) << "last segment";
  EXPECT_EQ(list.descriptor(0).address, 0x1001u);
  EXPECT_EQ(list.descriptor(1).length, 5u);
  EXPECT_EQ(list.descriptor(2).address, 0x3003u);
  EXPECT_EQ(list.descriptor(2).type, 0x00);
}

TEST(Sgl, WithoutAListThereIsOnePiece) {
  List list(0);
  SglBuilder builder(list.memory());
  ASSERT_TRUE(builder.add(0x1000, 512));
  EXPECT_FALSE(builder.add(0x3000, 512));
}

}  // namespace
}  // namespace basalt::nvme
