// Goal: crc32c() computes CRC-32C, continues across pieces, and sees every flipped bit.
// Method: the published vectors of RFC 3720 appendix B.4 and a bit-by-bit reference.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <random>
#include <string_view>
#include <vector>

namespace basalt {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(), [](char c) { return std::byte(c); });
  return bytes;
}

uint32_t reference(std::span<const std::byte> bytes) {
  uint32_t crc = ~uint32_t{0};
  for (std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78 : 0);
  }
  return ~crc;
}

std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = std::byte(random());
  return bytes;
}

TEST(Crc32c, PublishedVectors) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xe3069283);
  EXPECT_EQ(crc32c(std::vector(32, std::byte{0})), 0x8a9136aa);
  EXPECT_EQ(crc32c(std::vector(32, std::byte{0xff})), 0x62a8ab43);
  std::vector<std::byte> rising(32);
  for (size_t i = 0; i < rising.size(); ++i) rising[i] = std::byte(i);
  EXPECT_EQ(crc32c(rising), 0x46dd794e);
}

TEST(Crc32c, NothingIsZero) { EXPECT_EQ(crc32c({}), 0u); }

TEST(Crc32c, AgreesWithReferenceAtEveryLength) {
  const auto bytes = random_bytes(4200, 1);
  for (size_t size = 0; size <= bytes.size(); size += size < 600 ? 1 : 97) {
    EXPECT_EQ(crc32c(std::span(bytes).first(size)), reference(std::span(bytes).first(size)))
        << size;
  }
}

TEST(Crc32c, AgreesAtEveryAlignment) {
  const auto bytes = random_bytes(300, 2);
  for (size_t start = 0; start < 32; ++start) {
    const auto part = std::span(bytes).subspan(start, 256);
    EXPECT_EQ(crc32c(part), reference(part)) << start;
  }
}

TEST(Crc32c, ContinuesAcrossPieces) {
  const auto bytes = random_bytes(1000, 3);
  const uint32_t whole = crc32c(bytes);
  for (size_t cut : {size_t{0}, size_t{1}, size_t{7}, size_t{512}, size_t{999}, size_t{1000}}) {
    EXPECT_EQ(crc32c(std::span(bytes).subspan(cut), crc32c(std::span(bytes).first(cut))), whole)
        << cut;
  }
}

TEST(Crc32c, SeesEveryFlippedBit) {
  auto bytes = random_bytes(64, 4);
  const uint32_t good = crc32c(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= std::byte(1u << (bit % 8));
    EXPECT_NE(crc32c(bytes), good) << bit;
    bytes[bit / 8] ^= std::byte(1u << (bit % 8));
  }
}

}  // namespace
}  // namespace basalt
