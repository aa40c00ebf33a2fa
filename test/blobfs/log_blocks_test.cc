// Sealed blocks and the search for a log's end, byte by byte: what is valid, what is not, where a file ends
// when blocks are torn, stale, foreign or missing. Method: blocks are made by the writer, damaged, and fed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/crc32c.h"
#include "blobfs/log_reader.h"
#include "blobfs/log_writer.h"

namespace basalt::blobfs {
namespace {

using Block = std::vector<std::byte>;

class LogBlocks : public ::testing::Test {
 protected:
  LogShape shape_{512};
  const uint64_t payload_ = 480;
  LogIdentity log_{33, 5, 0, {512}};

  std::vector<std::byte> bytes(uint64_t position, size_t length) {
    std::vector<std::byte> out(length);
    for (size_t i = 0; i < length; ++i) out[i] = static_cast<std::byte>((position + i) * 7 % 251);
    return out;
  }
  // The block at `index`, holding `length` bytes.
  Block seal(uint64_t index, size_t length, uint64_t durable, uint32_t epoch = 5,
             uint64_t file = 33) {
    Block block(512);
    const uint64_t position = index * payload_;
    seal_block(shape_, {file, epoch, durable}, position, bytes(position, length), block);
    return block;
  }
  LogEndSearch search(const std::vector<Block>& blocks) {
    LogEndSearch found(log_);
    for (uint64_t i = found.first_block(); i < blocks.size(); ++i) {
      found.take(blocks[i], i + 1 < blocks.size() ? std::span<const std::byte>(blocks[i + 1])
                                                  : std::span<const std::byte>{});
    }
    return found;
  }
  static Block damaged(Block block) {
    block[40] ^= std::byte{1};
    return block;
  }
  const Block empty_ = Block(512);
};

TEST_F(LogBlocks, ABlockOpensForItsFilePositionAndEpochAlone) {
  const Block block = seal(3, 480, 100);
  const auto opened = open_block(log_, 3 * 480, block);
  ASSERT_TRUE(opened.has_value());
  EXPECT_TRUE(std::ranges::equal(opened->payload, bytes(3 * 480, 480)));
  EXPECT_EQ(opened->durable, 100u);
  EXPECT_FALSE(open_block(log_, 2 * 480, block).has_value());
  LogIdentity other = log_;
  other.file_id = 34;
  EXPECT_FALSE(open_block(other, 3 * 480, block).has_value());
  other = log_;
  other.epoch = 6;
  EXPECT_FALSE(open_block(other, 3 * 480, block).has_value()) << "beyond the journaled length";
  other.journaled_length = 3 * 480 + 10;
  ASSERT_TRUE(open_block(other, 3 * 480, block).has_value());
  EXPECT_EQ(open_block(other, 3 * 480, block)->payload.size(), 10u)
      << "an older epoch counts so far";
  other.epoch = 4;
  EXPECT_FALSE(open_block(other, 3 * 480, block).has_value()) << "a younger epoch never";
}

TEST_F(LogBlocks, EveryFlippedBitIsFound) {
  for (const size_t length : {1ul, 100ul, 480ul}) {
    const Block block = seal(2, length, 960);
    for (size_t bit = 0; bit < (32 + length) * 8; ++bit) {
      Block flipped = block;
      flipped[bit / 8] ^= std::byte{static_cast<uint8_t>(1 << bit % 8)};
      ASSERT_FALSE(open_block(log_, 960, flipped).has_value()) << "bit " << bit;
    }
  }
}

// Right checksums, impossible fields.
TEST_F(LogBlocks, AForgedFieldIsFound) {
  const auto opens = [&](auto&& change) {
    Block block = seal(0, 480, 0);
    SealedHeader header;
    std::memcpy(&header, block.data(), sizeof header);
    change(header);
    std::memcpy(block.data(), &header, sizeof header);
    const size_t covered = std::min<size_t>(sizeof header - 4 + header.length, block.size() - 4);
    header.crc = crc32c(std::span(block).subspan(4, covered));
    std::memcpy(block.data(), &header, sizeof header);
    return open_block(log_, 0, block).has_value();
  };
  EXPECT_TRUE(opens([](auto&) {}));
  EXPECT_FALSE(opens([](auto& header) { header.version = 2; }));
  EXPECT_FALSE(opens([](auto& header) { header.length = 0; }));
  EXPECT_FALSE(opens([](auto& header) { header.length = 481; }));
}

TEST_F(LogBlocks, TheLagSaturatesDownwards) {
  const Block far = seal(uint64_t{1} << 30, 480, 0);  // position beyond 2^32
  const uint64_t position = (uint64_t{1} << 30) * 480;
  const auto opened = open_block(log_, position, far);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(opened->durable, position + 480 - 0xffffffffu);
  EXPECT_EQ(open_block(log_, 0, seal(0, 10, 999999))->durable, 10u)
      << "never beyond the block's end";
}

TEST_F(LogBlocks, TheEndIsTheFirstBlockThatIsNotFullOrNotValid) {
  EXPECT_EQ(search({}).end(), 0u);
  EXPECT_EQ(search({empty_, empty_}).end(), 0u);
  EXPECT_EQ(search({seal(0, 480, 0), seal(1, 480, 0), empty_}).end(), 960u);
  EXPECT_EQ(search({seal(0, 480, 0), seal(1, 7, 0), empty_}).end(), 487u);
  EXPECT_EQ(search({seal(0, 480, 0), damaged(seal(1, 480, 0)), seal(2, 9, 0)}).end(), 480u);
  const auto found = search({seal(0, 480, 0), seal(1, 7, 0)});
  EXPECT_FALSE(found.bytes_missing());
  EXPECT_TRUE(std::ranges::equal(found.last_payload(), bytes(480, 7)));
  EXPECT_FALSE(found.last_is_displaced());
}

TEST_F(LogBlocks, ATornTailIsAnEndAndAHoleIsNot) {
  // Blocks 1 … 3 were in one unsynced write that came out in parts: nothing durable is missing.
  EXPECT_FALSE(
      search({seal(0, 480, 0), empty_, seal(2, 480, 480), seal(3, 5, 480)}).bytes_missing());
  // Block 3 was written when 960 bytes were durable: block 1 must be there.
  const auto hole =
      search({seal(0, 480, 0), damaged(seal(1, 480, 0)), seal(2, 480, 480), seal(3, 5, 960)});
  EXPECT_TRUE(hole.bytes_missing());
  EXPECT_EQ(hole.end(), 480u);
  EXPECT_EQ(hole.proven_durable(), 960u);
  EXPECT_EQ(hole.highest_end(), 3 * 480u + 5);
}

TEST_F(LogBlocks, TheJournaledLengthIsAFloor) {
  log_.journaled_length = 500;
  EXPECT_EQ(search({empty_, seal(1, 30, 0)}).end(), 510u) << "blocks below are not looked at";
  EXPECT_TRUE(search({empty_, empty_}).bytes_missing());
  EXPECT_TRUE(search({empty_, seal(1, 10, 0)}).bytes_missing()) << "shorter than journaled";
  log_.journaled_length = 480;
  EXPECT_FALSE(search({empty_, empty_}).bytes_missing());
  EXPECT_EQ(search({empty_, seal(1, 10, 0, 4)}).end(), 480u) << "an older epoch beyond the length";
  log_.journaled_length = 500;
  EXPECT_EQ(search({empty_, seal(1, 300, 0, 4)}).end(), 500u) << "cut back to the length";
  EXPECT_FALSE(search({empty_, seal(1, 300, 700, 4)}).bytes_missing())
      << "what was durable beyond the length has been cut off since";
}

TEST_F(LogBlocks, StaleAndForeignBlocksEndTheFile) {
  EXPECT_EQ(search({seal(0, 480, 0), seal(1, 480, 0, 4)}).end(), 480u);
  EXPECT_EQ(search({seal(0, 480, 0), seal(1, 480, 0, 5, 32)}).end(), 480u);
  // A stale block's claim of durability is no proof either.
  EXPECT_FALSE(search({seal(0, 480, 0), empty_, seal(2, 480, 960, 4)}).bytes_missing());
}

TEST_F(LogBlocks, OfTwoVersionsOfTheLastBlockTheLongerCounts) {
  const auto version = [&](size_t length) { return seal(1, length, 480); };
  const Block first = seal(0, 480, 0);
  auto found = search({first, version(10), version(20), empty_});
  EXPECT_EQ(found.end(), 500u);
  EXPECT_TRUE(found.last_is_displaced());
  EXPECT_TRUE(std::ranges::equal(found.last_payload(), bytes(480, 20)));
  found = search({first, version(30), version(20), empty_});
  EXPECT_EQ(found.end(), 510u);
  EXPECT_FALSE(found.last_is_displaced());
  found = search({first, damaged(version(30)), version(20), empty_});
  EXPECT_EQ(found.end(), 500u);
  // Full, but its own place was torn while it was moved there.
  found = search({first, damaged(version(480)), version(480), empty_});
  EXPECT_EQ(found.end(), 960u);
  EXPECT_TRUE(found.last_is_displaced());
  // A full block in its own place leaves nothing to a stale version.
  found = search({first, version(480), version(20), empty_});
  EXPECT_EQ(found.end(), 960u);
}

TEST_F(LogBlocks, SealingSplitsPiecesIntoBlocks) {
  const auto one = bytes(0, 960), two = bytes(960, 500);
  const std::span<const std::byte> pieces[] = {one, two};
  std::vector<std::byte> out(4 * 512);
  EXPECT_EQ(seal_blocks(shape_, {33, 5, 0}, 0, pieces, out), 4 * 512u);
  for (uint64_t i = 0; i < 4; ++i) {
    const auto opened = open_block(log_, i * 480, std::span(out).subspan(i * 512, 512));
    ASSERT_TRUE(opened.has_value()) << i;
    EXPECT_TRUE(std::ranges::equal(opened->payload, bytes(i * 480, i < 3 ? 480 : 20)));
  }
}

TEST_F(LogBlocks, AnyBytesAreJudgedWithoutHarm) {
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    log_.journaled_length = random() % 3000;
    std::vector<Block> blocks;
    for (int i = 0; i < 8; ++i) {
      Block block = seal(random() % 8, 1 + random() % 480, random() % 4000, 3 + random() % 4);
      if (random() % 3 == 0) block[random() % 512] = static_cast<std::byte>(random());
      blocks.push_back(block);
    }
    const auto found = search(blocks);
    EXPECT_LE(found.end(), 8 * 480u);
    EXPECT_GE(found.highest_end(), found.last_payload().empty() ? 0 : found.end());
  }
}

}  // namespace
}  // namespace basalt::blobfs
