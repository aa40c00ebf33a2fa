// Goal: a blob with checksums returns the bytes that were written or an error, never others; its recorded blocks
// are exchanged, not overwritten, so that data and checksum change as one whatever happens in between.
// Method: damage below the store; overwriting in every state a block can have; death of the process before and
// after a change is durable; a full store; readers beside a writer.
#include "blob/state.h"
#include "store_fixture.h"

#include <atomic>
#include <random>
#include <thread>

namespace basalt::blob {
namespace {

class ChecksumsTest : public StoreFixture {
 protected:
  void SetUp() override { make("ram:32M"); }
  void make(const std::string& uri, FormatOptions options = small_format()) {
    if (store_ != nullptr) kill();
    options.data_checksums = true;
    make_store(uri, options);
  }
  BlobId make_blob(uint64_t blocks) {
    Transaction txn;
    const BlobId id = store_->new_blob_id();
    txn.create_blob(id, {.checksums = true});
    const Status status = store_->allocate(txn, id, {0, blocks});
    EXPECT_TRUE(status.ok()) << status.to_string();
    apply(txn);
    return id;
  }
  BlobRef open_blob(BlobId id) {
    auto blob = store_->open_blob(id);
    EXPECT_TRUE(blob) << blob.error().to_string();
    return std::move(*blob);
  }
  static std::vector<std::byte> pattern(uint64_t blocks, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> data(blocks * kBlockBytes);
    for (std::byte& b : data) b = static_cast<std::byte>(random());
    return data;
  }
  Status write(Blob& blob, uint64_t block, std::span<const std::byte> bytes) {
    return store_->write(blob, block * kBlockBytes, bytes, Unwritten::zeros);
  }
  void record(Blob& blob) {
    for (bool more = true; more;) {
      Transaction txn;
      more = store_->mark_written(txn, blob);
      if (!txn.empty()) apply(txn);
    }
  }
  BlobId make_written_blob(const std::vector<std::byte>& data) {
    const BlobId id = make_blob(data.size() / kBlockBytes);
    BlobRef blob = open_blob(id);
    EXPECT_TRUE(write(*blob, 0, data).ok());
    record(*blob);
    return id;
  }
  void expect_reads(Blob& blob, uint64_t block, std::span<const std::byte> expected) {
    std::vector<std::byte> got(expected.size(), std::byte{0x5a});
    const Status status = store_->read(blob, block * kBlockBytes, got, Unwritten::zeros);
    ASSERT_TRUE(status.ok()) << status.to_string();
    ASSERT_TRUE(std::equal(got.begin(), got.end(), expected.begin())) << "from block " << block;
  }
  // Made durable, these are the blob's bytes when the process has died, and the store is sound.
  void expect_after_death(BlobRef& blob, BlobId id, std::span<const std::byte> expected) {
    make_durable();
    blob = BlobRef();
    kill();
    expect_sound();
    open();
    blob = open_blob(id);
    expect_reads(*blob, 0, expected);
  }
  Status read_status(Blob& blob, uint64_t block, uint64_t blocks = 1) {
    std::vector<std::byte> got(blocks * kBlockBytes);
    return store_->read(blob, block * kBlockBytes, got, Unwritten::zeros);
  }
  uint64_t physical(Blob& blob, uint64_t block) {
    const auto found = store_->extents(blob, {block, 1});
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? 0 : found[0].physical + (block - found[0].logical);
  }
  static std::span<const std::byte> part(const std::vector<std::byte>& data, uint64_t block,
                                         uint64_t blocks) {
    return std::span(data).subspan(block * kBlockBytes, blocks * kBlockBytes);
  }
};

TEST_F(ChecksumsTest, ReadsBackBeforeAndAfterRecordingAndReopening) {
  const auto data = pattern(300, 1);  // of three groups
  const BlobId id = make_blob(300);
  BlobRef blob = open_blob(id);
  ASSERT_TRUE(write(*blob, 0, data).ok());
  expect_reads(*blob, 0, data);
  record(*blob);
  expect_reads(*blob, 0, data);
  expect_after_death(blob, id, data);
  for (const uint64_t block : {0, 1, 127, 128, 255, 299})
    expect_reads(*blob, block, part(data, block, 1));
}

TEST_F(ChecksumsTest, ADamagedBlockIsAnErrorAndItsNeighboursAreNot) {
  const auto data = pattern(40, 2);
  const BlobId id = make_written_blob(data);
  BlobRef blob = open_blob(id);
  for (const size_t byte : {0, 1000, 4095}) {
    damage(physical(*blob, 17), byte);
    const Status status = read_status(*blob, 0, 40);
    EXPECT_EQ(status.code(), StatusCode::corruption);
    EXPECT_NE(status.to_string().find("byte " + std::to_string(17 * kBlockBytes)),
              std::string::npos)
        << status.to_string();
    damage(physical(*blob, 17), byte);  // whole again
    expect_reads(*blob, 0, data);
  }
  damage(physical(*blob, 17));
  EXPECT_GT(log_.count("does not match"), 0u);
  std::vector<std::byte> buffer(40 * kBlockBytes);
  std::vector<BlobRead> reads;
  for (uint64_t block = 0; block < 40; block += 4) {
    reads.push_back(
        {block * kBlockBytes, std::span(buffer).subspan(block * kBlockBytes, 4 * kBlockBytes)});
  }
  store_->read_batch(*blob, reads, Unwritten::zeros);
  for (const BlobRead& read : reads) {
    const bool hit = read.offset == 16 * kBlockBytes;
    EXPECT_EQ(read.status, hit ? StatusCode::corruption : StatusCode::ok);
    if (hit) {
      EXPECT_EQ(read.damaged_at, 17 * kBlockBytes);
    }
  }
}

// A block of another place, whole in itself, is as wrong as a flipped bit.
TEST_F(ChecksumsTest, AMisdirectedWriteIsNoticed) {
  const auto data = pattern(8, 3);
  const BlobId id = make_written_blob(data);
  BlobRef blob = open_blob(id);
  write_raw(physical(*blob, 5), read_raw(physical(*blob, 2)));
  EXPECT_EQ(read_status(*blob, 5).code(), StatusCode::corruption);
  expect_reads(*blob, 0, part(data, 0, 5));
}

TEST_F(ChecksumsTest, ARecordedBlockIsNotOverwrittenWhereItLies) {
  auto data = pattern(32, 4);
  const BlobId id = make_written_blob(data);
  make_durable();
  BlobRef blob = open_blob(id);
  const uint64_t before = physical(*blob, 9);
  const auto fresh = pattern(3, 5);
  ASSERT_TRUE(store_->overwrites_recorded(*blob, 9 * kBlockBytes, 3 * kBlockBytes));
  ASSERT_TRUE(write(*blob, 9, fresh).ok());
  EXPECT_NE(physical(*blob, 9), before);
  const auto old = read_raw(before);
  EXPECT_TRUE(std::equal(old.begin(), old.end(), part(data, 9, 1).begin()));
  std::copy(fresh.begin(), fresh.end(), data.begin() + 9 * kBlockBytes);
  expect_reads(*blob, 0, data);
  expect_after_death(blob, id, data);
}

// Until it is durable, the exchange is nothing: the old bytes are there and fit.
TEST_F(ChecksumsTest, AnExchangeThatWasNotDurableLeavesTheOldBytes) {
  const auto data = pattern(32, 6);
  const BlobId id = make_written_blob(data);
  make_durable();
  BlobRef blob = open_blob(id);
  ASSERT_TRUE(write(*blob, 2, pattern(20, 7)).ok());
  blob = BlobRef();
  kill();
  open();
  blob = open_blob(id);
  expect_reads(*blob, 0, data);
  blob = BlobRef();
  close();
  expect_sound();
}

// A block is unwritten after a crash only when that is durable: not before are other bytes put in its place.
TEST_F(ChecksumsTest, ABlockMadeUnwrittenIsNotWrittenBeforeThatIsDurable) {
  auto data = pattern(8, 18);
  const BlobId id = make_written_blob(data);
  make_durable();
  for (const bool reopens : {false, true}) {
    BlobRef blob = open_blob(id);
    Transaction txn;
    store_->mark_unwritten(txn, *blob, {2, 3});
    apply(txn);
    if (reopens) blob = BlobRef(), blob = open_blob(id);
    ASSERT_TRUE(write(*blob, 3, pattern(1, 19)).ok());
    blob = BlobRef();
    kill();
    open();
    blob = open_blob(id);
    std::fill(data.begin() + 2 * kBlockBytes, data.begin() + 5 * kBlockBytes, std::byte{0});
    expect_reads(*blob, 0, data);
    // Written for the second turn.
    std::copy_n(pattern(3, 20).begin(), 3 * kBlockBytes, data.begin() + 2 * kBlockBytes);
    ASSERT_TRUE(write(*blob, 2, pattern(3, 20)).ok());
    record(*blob);
    make_durable();
  }
}

TEST_F(ChecksumsTest, FuaMakesAnExchangeDurable) {
  auto data = pattern(8, 8);
  const BlobId id = make_written_blob(data);
  make_durable();
  BlobRef blob = open_blob(id);
  const auto fresh = pattern(1, 9);
  ASSERT_TRUE(store_->write(*blob, 3 * kBlockBytes, fresh, Unwritten::zeros, {.fua = true}).ok());
  blob = BlobRef();
  kill();
  open();
  blob = open_blob(id);
  expect_reads(*blob, 3, fresh);
}

TEST_F(ChecksumsTest, EveryMixtureOfStatesIsOverwritten) {
  // Blocks of each cluster: recorded, pending, unwritten, in turn; then runs across all of them.
  std::vector<std::byte> expected(64 * kBlockBytes);
  const BlobId id = make_blob(64);
  BlobRef blob = open_blob(id);
  const auto put = [&](uint64_t block, uint64_t blocks, uint32_t seed) {
    const auto bytes = pattern(blocks, seed);
    const Status status = write(*blob, block, bytes);
    ASSERT_TRUE(status.ok()) << status.to_string();
    std::copy(bytes.begin(), bytes.end(), expected.begin() + block * kBlockBytes);
  };
  for (uint64_t block = 0; block < 64; block += 3) put(block, 1, 100 + block);
  record(*blob);
  for (uint64_t block = 1; block < 64; block += 5) put(block, 1, 200 + block);
  expect_reads(*blob, 0, expected);
  for (uint64_t block = 2; block + 7 < 64; block += 11) put(block, 7, 300 + block);
  expect_reads(*blob, 0, expected);
  put(0, 64, 400);
  put(30, 1, 401);
  expect_reads(*blob, 0, expected);
  record(*blob);
  expect_after_death(blob, id, expected);
}

// What is copied along with an overwritten block keeps its checksum: damage does not become the truth.
TEST_F(ChecksumsTest, DamageSurvivesTheExchangeOfItsCluster) {
  const auto data = pattern(4, 10);  // one cluster
  const BlobId id = make_written_blob(data);
  BlobRef blob = open_blob(id);
  damage(physical(*blob, 1));
  const auto fresh = pattern(1, 11);
  ASSERT_TRUE(write(*blob, 2, fresh).ok());
  expect_reads(*blob, 2, fresh);
  expect_reads(*blob, 0, part(data, 0, 1));
  EXPECT_EQ(read_status(*blob, 1).code(), StatusCode::corruption);
  ASSERT_TRUE(write(*blob, 1, fresh).ok());  // overwritten whole, it is good again
  expect_reads(*blob, 1, fresh);
}

TEST_F(ChecksumsTest, WhatCannotBeDoneIsRefused) {
  make("ram:32M?block=512");
  const BlobId id = make_blob(8);
  BlobRef blob = open_blob(id);
  std::vector<std::byte> bytes(16 * kBlockBytes);
  const auto part = std::span<std::byte>(bytes).first(512);
  EXPECT_EQ(write(*blob, 0, part).code(), StatusCode::invalid_argument);
  EXPECT_EQ(store_->read(*blob, 512, part, Unwritten::zeros).code(), StatusCode::invalid_argument);
  EXPECT_EQ(store_->read(*blob, 0, bytes, Unwritten::raw).code(), StatusCode::invalid_argument);
  EXPECT_EQ(store_->write(*blob, 0, bytes, Unwritten::raw).code(), StatusCode::invalid_argument);
  const Status beyond = write(*blob, 0, bytes);
  EXPECT_EQ(beyond.code(), StatusCode::out_of_range);
  EXPECT_NE(beyond.to_string().find(std::to_string(8 * kBlockBytes)), std::string::npos);
  EXPECT_EQ(read_status(*blob, 0, 8).code(), StatusCode::ok);  // nothing was written
  EXPECT_TRUE(store_->health().ok());
}

TEST_F(ChecksumsTest, AStoreFormattedWithoutThemRefusesThem) {
  kill();
  make_store("ram:32M");
  Transaction txn;
  txn.create_blob(store_->new_blob_id(), {.checksums = true});
  const auto ticket = store_->apply(txn);
  ASSERT_FALSE(ticket);
  EXPECT_EQ(ticket.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(ticket.error().to_string().find("data_checksums"), std::string::npos);
  EXPECT_TRUE(store_->health().ok());
}

// Some clusters are kept for exchanges, which give as many back: a full store can be overwritten, all of it.
TEST_F(ChecksumsTest, AFullStoreCanBeOverwritten) {
  auto data = pattern(400, 12);
  const BlobId id = make_written_blob(data);
  make_durable();
  const StoreSpace space = store_->space();
  ASSERT_GT(space.kept_clusters, 0u);
  (void)make_blob((space.free_clusters - space.kept_clusters) * 4);
  BlobRef blob = open_blob(id);
  Transaction txn;
  EXPECT_EQ(store_->allocate(txn, id, {1000, 1}).code(), StatusCode::no_space);
  for (uint32_t round = 0; round < 20; ++round) {
    const uint64_t first = round * 17 % 100, count = 300 - round * 13;
    const auto fresh = pattern(count, 100 + round);
    const Status status = write(*blob, first, fresh);
    ASSERT_TRUE(status.ok()) << status.to_string();
    std::copy(fresh.begin(), fresh.end(), data.begin() + first * kBlockBytes);
  }
  expect_reads(*blob, 0, data);
  EXPECT_EQ(store_->space().free_clusters, space.kept_clusters);
}

// Exchanges of several blobs at once wait for each other's clusters.
TEST_F(ChecksumsTest, AFullStoreCanBeOverwrittenByManyAtOnce) {
  constexpr unsigned kThreads = 4;
  std::vector<BlobId> ids;
  for (unsigned i = 0; i < kThreads; ++i) ids.push_back(make_written_blob(pattern(200, 30 + i)));
  make_durable();
  const StoreSpace space = store_->space();
  (void)make_blob((space.free_clusters - space.kept_clusters) * 4);
  std::atomic<unsigned> failures{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      BlobRef blob = open_blob(ids[i]);
      for (unsigned round = 0; round < 10; ++round) {
        if (!write(*blob, round, pattern(150, 200 + round)).ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0u);
  EXPECT_EQ(store_->space().free_clusters, space.kept_clusters);
}

TEST_F(ChecksumsTest, FreedAndWrittenAgainBlocksForgetTheirFormerChecksums) {
  auto data = pattern(256, 15);
  const BlobId id = make_written_blob(data);
  BlobRef blob = open_blob(id);
  Transaction txn;
  const auto rest = store_->free_range(txn, id, {100, 60});  // the middle of two groups
  ASSERT_TRUE(rest && rest->empty());
  apply(txn);
  std::fill(data.begin() + 100 * kBlockBytes, data.begin() + 160 * kBlockBytes, std::byte{0});
  expect_reads(*blob, 0, data);
  Transaction again;
  ASSERT_TRUE(store_->allocate(again, id, {100, 60}).ok());
  apply(again);
  expect_reads(*blob, 0, data);
  const auto fresh = pattern(10, 16);
  ASSERT_TRUE(write(*blob, 120, fresh).ok());
  std::copy(fresh.begin(), fresh.end(), data.begin() + 120 * kBlockBytes);
  record(*blob);
  expect_reads(*blob, 0, data);
  expect_after_death(blob, id, data);
}

// More groups than one transaction may free.
TEST_F(ChecksumsTest, ALargeBlobIsFreedInSteps) {
  FormatOptions options = small_format();
  options.metadata_bytes = 8 << 20;
  make("ram:1G", options);
  const uint64_t free_before = store_->space().free_clusters;
  constexpr uint64_t kGroups = 3 * kMaxChecksumGroupsPerFree / 2;
  const BlobId id = make_blob(kGroups * kChecksumGroupBlocks);
  {
    BlobRef blob = open_blob(id);
    const auto one = pattern(1, 17);
    for (uint64_t group = 0; group < kGroups; ++group) {
      ASSERT_TRUE(write(*blob, group * kChecksumGroupBlocks + 5, one).ok());
      if (group % 200 == 199) record(*blob);
    }
    record(*blob);
  }
  Transaction at_once;
  at_once.delete_blob(id);
  const auto refused = store_->apply(at_once);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::too_large);
  Transaction txn;
  const auto rest = store_->free_range(txn, id, {0, kGroups * kChecksumGroupBlocks});
  ASSERT_TRUE(rest);
  EXPECT_FALSE(rest->empty());
  apply(txn);
  const Status status = store_->delete_blob(id);
  ASSERT_TRUE(status.ok()) << status.to_string();
  close();
  expect_sound();
  open();
  EXPECT_EQ(store_->space().free_clusters, free_before);
}

// Old bytes or new ones, whole, and never an error: a reader beside writers looks again before he complains.
TEST_F(ChecksumsTest, ReadersBesideAWriterSeeOneVersionOrTheOther) {
  constexpr uint64_t kBlocks = 6;
  const BlobId id = make_written_blob(std::vector<std::byte>(kBlocks * kBlockBytes));
  BlobRef blob = open_blob(id);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> failures{0}, reads{0};
  const auto read = [&] {
    std::vector<std::byte> got(kBlocks * kBlockBytes);
    while (!stop.load()) {
      if (!store_->read(*blob, 0, got, Unwritten::zeros).ok()) ++failures;
      for (uint64_t block = 0; block < kBlocks; ++block) {
        const auto one = part(got, block, 1);
        if (std::count(one.begin(), one.end(), one[0]) != kBlockBytes) ++failures;
      }
      ++reads;
    }
  };
  std::thread first(read), second(read);
  for (unsigned round = 0; round < 300 || reads.load() < 300; ++round) {
    const std::vector<std::byte> bytes((1 + round % 3) * kBlockBytes,
                                       static_cast<std::byte>(round));
    const Status status = write(*blob, round % 4, bytes);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  stop = true;
  first.join();
  second.join();
  EXPECT_EQ(failures.load(), 0u);
}

}  // namespace
}  // namespace basalt::blob
