// SimImage: copies share until written, file round trip.
#include "sim/sim_image.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

namespace basalt::sim {
namespace {

std::vector<std::byte> filled(size_t size, unsigned value) {
  return std::vector<std::byte>(size, static_cast<std::byte>(value));
}

std::vector<std::byte> bytes_at(const SimImage& image, uint64_t offset, size_t length) {
  std::vector<std::byte> out(length, std::byte{0xee});
  image.read(offset, out);
  return out;
}

TEST(SimImage, ReadsZerosWhereNothingWasWritten) {
  const SimImage image(3 * SimImage::kChunkBytes + 512);
  EXPECT_EQ(bytes_at(image, SimImage::kChunkBytes - 7, 20), filled(20, 0));
  EXPECT_EQ(bytes_at(image, image.size_bytes() - 1, 1), filled(1, 0));
}

TEST(SimImage, WritesAcrossChunkBorders) {
  SimImage image(4 * SimImage::kChunkBytes);
  const uint64_t offset = SimImage::kChunkBytes - 100;
  image.write(offset, filled(SimImage::kChunkBytes + 200, 7));
  EXPECT_EQ(bytes_at(image, offset, SimImage::kChunkBytes + 200),
            filled(SimImage::kChunkBytes + 200, 7));
  EXPECT_EQ(bytes_at(image, offset - 1, 1), filled(1, 0));
  EXPECT_EQ(bytes_at(image, offset + SimImage::kChunkBytes + 200, 1), filled(1, 0));
}

TEST(SimImage, CopiesDoNotSeeEachOthersWrites) {
  SimImage first(2 * SimImage::kChunkBytes);
  first.write(10, filled(5, 1));
  SimImage second = first;
  EXPECT_EQ(first, second);
  second.write(10, filled(5, 2));
  first.write(SimImage::kChunkBytes, filled(1, 3));
  EXPECT_EQ(bytes_at(first, 10, 5), filled(5, 1));
  EXPECT_EQ(bytes_at(second, 10, 5), filled(5, 2));
  EXPECT_EQ(bytes_at(second, SimImage::kChunkBytes, 1), filled(1, 0));
  EXPECT_FALSE(first == second);
}

TEST(SimImage, ComparesAMissingChunkAndAChunkOfZerosAsEqual) {
  SimImage first(SimImage::kChunkBytes);
  SimImage second(SimImage::kChunkBytes);
  second.write(0, filled(100, 0));
  EXPECT_EQ(first, second);
}

TEST(SimImage, GoesThroughAFile) {
  SimImage image(SimImage::kChunkBytes + 4096);
  image.write(SimImage::kChunkBytes - 3, filled(6, 9));
  const std::string path = testing::TempDir() + "sim_image_" + std::to_string(getpid());
  ASSERT_TRUE(image.save(path).ok());
  const Result<SimImage> loaded = SimImage::load(path);
  std::remove(path.c_str());
  ASSERT_TRUE(loaded) << loaded.error().to_string();
  EXPECT_EQ(*loaded, image);
  EXPECT_FALSE(SimImage::load(path));
}

}  // namespace
}  // namespace basalt::sim
