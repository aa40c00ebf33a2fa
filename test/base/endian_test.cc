// Goal: le<T> and be<T> have the bytes they promise, at any address, and cost no padding.
#include "base/endian.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <vector>

namespace basalt {
namespace {

template <typename T>
std::vector<int> bytes_of(const T& value) {
  unsigned char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  return {bytes, bytes + sizeof(T)};
}

TEST(Endian, LittleEndianBytes) {
  EXPECT_EQ(bytes_of(le16(0x0102)), (std::vector{2, 1}));
  EXPECT_EQ(bytes_of(le32(0x01020304)), (std::vector{4, 3, 2, 1}));
  EXPECT_EQ(bytes_of(le64(0x0102030405060708)), (std::vector{8, 7, 6, 5, 4, 3, 2, 1}));
}

TEST(Endian, BigEndianBytes) {
  EXPECT_EQ(bytes_of(be16(0x0102)), (std::vector{1, 2}));
  EXPECT_EQ(bytes_of(be32(0x01020304)), (std::vector{1, 2, 3, 4}));
  EXPECT_EQ(bytes_of(be64(0x0102030405060708)), (std::vector{1, 2, 3, 4, 5, 6, 7, 8}));
}

template <typename T>
void expect_round_trips() {
  using Limits = std::numeric_limits<T>;
  for (T value : {T{0}, T{1}, T{0x80}, T{Limits::max() / 2}, T{Limits::max() - 1}, Limits::max()}) {
    EXPECT_EQ(T(le<T>(value)), value);
    EXPECT_EQ(T(be<T>(value)), value);
    EXPECT_EQ(byte_swap(byte_swap(value)), value);
  }
}

TEST(Endian, RoundTripsAtTheEdges) {
  expect_round_trips<uint8_t>();
  expect_round_trips<uint16_t>();
  expect_round_trips<uint32_t>();
  expect_round_trips<uint64_t>();
}

TEST(Endian, StructsHaveNoPadding) {
  struct Header {
    le16 kind;
    le64 length;
    be32 port;
  };
  static_assert(sizeof(Header) == 14 && alignof(Header) == 1);
  static_assert(std::has_unique_object_representations_v<Header>);
  Header header{0x1122, 0x33, 0x44556677};
  EXPECT_EQ(bytes_of(header),
            (std::vector{0x22, 0x11, 0x33, 0, 0, 0, 0, 0, 0, 0, 0x44, 0x55, 0x66, 0x77}));
}

TEST(Endian, IsZeroUnlessSet) { EXPECT_EQ(uint64_t(le64()), 0u); }

TEST(Endian, WorksAtCompileTime) {
  static_assert(uint32_t(le32(0xdeadbeef)) == 0xdeadbeef);
  static_assert(uint32_t(be32(0xdeadbeef)) == 0xdeadbeef);
  static_assert(byte_swap(uint32_t{0x01020304}) == 0x04030201);
}

}  // namespace
}  // namespace basalt
