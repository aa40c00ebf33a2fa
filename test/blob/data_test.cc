// Goal: what is written to a blob is read back, holes and unwritten blocks read as zeros, and bytes of a
// former owner of a cluster are never seen, in any order of writing, recording, freeing and reopening.
// Method: borders of blocks, clusters and batches; the states of a block one after another; recycled clusters.
#include "store_fixture.h"

#include <random>

namespace basalt::blob {
namespace {

class DataTest : public StoreFixture, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override { make_store(GetParam()); }
  std::vector<std::byte> pattern(size_t bytes, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<std::byte> data(bytes);
    for (std::byte& b : data) b = static_cast<std::byte>(random());
    return data;
  }
  std::vector<std::byte> read(Blob& blob, uint64_t offset, size_t bytes,
                              Unwritten unwritten = Unwritten::zeros) {
    std::vector<std::byte> data(bytes, std::byte{0x5a});
    const Status status = store_->read(blob, offset, data, unwritten);
    EXPECT_TRUE(status.ok()) << status.to_string();
    return data;
  }
  void mark(Blob& blob) {
    Transaction txn;
    EXPECT_FALSE(store_->mark_written(txn, blob));
    if (!txn.empty()) apply(txn);
  }
};

TEST_P(DataTest, ReadsBackAroundEveryBorder) {
  const BlobId id = make_blob(64);
  auto blob = store_->open_blob(id);
  const auto data = pattern(64 * kBlockBytes, 1);
  ASSERT_TRUE(store_->write(**blob, 0, data, Unwritten::zeros).ok());
  const uint32_t unit = device_->info().block_size;
  for (const uint64_t at : {0u, 4096u, 12288u, 16384u, 20480u, 61440u, 65536u}) {
    for (const uint64_t bytes : {uint64_t{unit}, uint64_t{4096}, uint64_t{8192}, uint64_t{16384},
                                 uint64_t{20480}, uint64_t{65536}}) {
      const auto got = read(**blob, at, bytes);
      ASSERT_TRUE(std::equal(got.begin(), got.end(), data.begin() + static_cast<ptrdiff_t>(at)));
    }
  }
}

TEST_P(DataTest, HolesAndUnwrittenBlocksReadAsZeros) {
  const BlobId id = make_blob();
  Transaction txn;
  ASSERT_TRUE(store_->allocate(txn, id, {8, 4}).ok());
  ASSERT_TRUE(store_->allocate(txn, id, {16, 4}).ok());
  apply(txn);
  auto blob = store_->open_blob(id);
  const auto data = pattern(kBlockBytes, 2);
  ASSERT_TRUE(store_->write(**blob, 9 * kBlockBytes, data, Unwritten::zeros).ok());
  std::vector<std::byte> expected(40 * kBlockBytes);
  std::copy(data.begin(), data.end(), expected.begin() + 9 * kBlockBytes);
  EXPECT_EQ(read(**blob, 0, expected.size()), expected);
  mark(**blob);
  EXPECT_EQ(read(**blob, 0, expected.size()), expected);
  make_durable();
  blob = BlobRef();
  kill();
  open();
  blob = store_->open_blob(id);
  EXPECT_EQ(read(**blob, 0, expected.size()), expected);
}

// Written, but not recorded when the process ended: as if never written.
TEST_P(DataTest, PendingBlocksAreForgottenWithTheProcess) {
  const BlobId id = make_blob(8);
  make_durable();
  auto blob = store_->open_blob(id);
  const auto data = pattern(8 * kBlockBytes, 3);
  ASSERT_TRUE(store_->write(**blob, 0, data, Unwritten::zeros).ok());
  EXPECT_EQ(read(**blob, 0, data.size()), data);
  blob = BlobRef();
  kill();
  open();
  blob = store_->open_blob(id);
  EXPECT_EQ(read(**blob, 0, data.size()), std::vector<std::byte>(data.size()));
  EXPECT_EQ(read(**blob, 0, data.size(), Unwritten::raw), data);  // for self-checking content
}

TEST_P(DataTest, RawWritesStayUnwritten) {
  const BlobId id = make_blob(8);
  auto blob = store_->open_blob(id);
  const auto data = pattern(kBlockBytes, 4);
  ASSERT_TRUE(store_->write(**blob, 0, data, Unwritten::raw).ok());
  EXPECT_EQ(read(**blob, 0, data.size(), Unwritten::raw), data);
  EXPECT_EQ(read(**blob, 0, data.size()), std::vector<std::byte>(data.size()));
  Transaction txn;
  EXPECT_FALSE(store_->mark_written(txn, **blob));
  EXPECT_TRUE(txn.empty());
}

TEST_P(DataTest, UnwrittenAgainReadsAsZeros) {
  const BlobId id = make_blob(16);
  auto blob = store_->open_blob(id);
  auto data = pattern(16 * kBlockBytes, 5);
  ASSERT_TRUE(store_->write(**blob, 0, data, Unwritten::zeros).ok());
  mark(**blob);
  Transaction txn;
  store_->mark_unwritten(txn, **blob, {5, 6});
  apply(txn);
  std::fill(data.begin() + 5 * kBlockBytes, data.begin() + 11 * kBlockBytes, std::byte{0});
  EXPECT_EQ(read(**blob, 0, data.size()), data);
  // Written for the second time.
  const auto again = pattern(2 * kBlockBytes, 6);
  ASSERT_TRUE(store_->write(**blob, 6 * kBlockBytes, again, Unwritten::zeros).ok());
  std::copy(again.begin(), again.end(), data.begin() + 6 * kBlockBytes);
  mark(**blob);
  make_durable();
  blob = BlobRef();
  kill();
  open();
  blob = store_->open_blob(id);
  EXPECT_EQ(read(**blob, 0, data.size()), data);
}

TEST_P(DataTest, ARecycledClusterShowsNothingOfItsFormerOwner) {
  const uint64_t all = store_->space().free_clusters * 4;
  BlobId id = make_blob(all);
  {
    auto blob = store_->open_blob(id);
    const std::vector<std::byte> secret(256 * kBlockBytes, std::byte{0x77});
    for (uint64_t block = 0; block + 256 <= all; block += 256) {
      ASSERT_TRUE(store_->write(**blob, block * kBlockBytes, secret, Unwritten::zeros).ok());
    }
    mark(**blob);
  }
  ASSERT_TRUE(store_->delete_blob(id).ok());
  id = make_blob(all);
  for (const bool reopened : {false, true}) {
    auto blob = store_->open_blob(id);
    for (uint64_t block = 0; block + 256 <= all; block += 256) {
      ASSERT_EQ(read(**blob, block * kBlockBytes, 256 * kBlockBytes),
                std::vector<std::byte>(256 * kBlockBytes));
    }
    if (reopened) break;
    make_durable();
    blob = BlobRef();
    kill();
    open();
  }
}

TEST_P(DataTest, WhatCannotBeWrittenIsRefused) {
  const BlobId id = make_blob(4);
  auto blob = store_->open_blob(id);
  std::vector<std::byte> bytes(8 * kBlockBytes);
  EXPECT_EQ(store_->write(**blob, 0, bytes, Unwritten::zeros).code(), StatusCode::out_of_range);
  EXPECT_EQ(store_->write(**blob, 1, bytes, Unwritten::zeros).code(), StatusCode::invalid_argument);
  EXPECT_EQ(store_->read(**blob, 1, bytes, Unwritten::zeros).code(), StatusCode::invalid_argument);
  if (device_->info().block_size == 512) {
    const std::span<std::byte> part(bytes.data(), 512);
    EXPECT_EQ(store_->write(**blob, 512, part, Unwritten::zeros).code(),
              StatusCode::invalid_argument);
    ASSERT_TRUE(
        store_->write(**blob, 0, std::span(bytes).first(kBlockBytes), Unwritten::zeros).ok());
    EXPECT_TRUE(store_->write(**blob, 512, part, Unwritten::zeros).ok());
  }
  EXPECT_TRUE(store_->health().ok());
}

// More pieces than fit one batch, in a single read, a single write and a batch of reads.
TEST_P(DataTest, ManyPieces) {
  const BlobId id = make_blob(), other = make_blob();
  constexpr uint64_t kPieces = 100;
  for (uint64_t i = 0; i < kPieces; ++i) {  // in turn, so that no two extents touch
    for (const BlobId blob : {id, other}) {
      Transaction txn;
      ASSERT_TRUE(store_->allocate(txn, blob, {i * 4, 4}).ok());
      apply(txn);
    }
  }
  auto blob = store_->open_blob(id);
  ASSERT_GT(store_->extents(**blob, {0, kPieces * 4}).size(), 64u);
  const auto data = pattern(kPieces * 4 * kBlockBytes, 7);
  ASSERT_TRUE(store_->write(**blob, 0, data, Unwritten::zeros).ok());
  EXPECT_EQ(read(**blob, 0, data.size()), data);
  mark(**blob);
  std::vector<std::byte> buffer(data.size());
  std::vector<BlobRead> reads;
  for (uint64_t at = 0; at < data.size(); at += 3 * kBlockBytes) {
    const size_t bytes = std::min<size_t>(3 * kBlockBytes, data.size() - at);
    reads.push_back({at, std::span(buffer).subspan(at, bytes)});
  }
  reads.push_back({1, std::span(buffer).first(kBlockBytes)});
  store_->read_batch(**blob, reads, Unwritten::zeros);
  EXPECT_EQ(reads.back().status, StatusCode::invalid_argument);
  reads.pop_back();
  for (const BlobRead& one : reads) EXPECT_EQ(one.status, StatusCode::ok);
  EXPECT_EQ(buffer, data);
}

INSTANTIATE_TEST_SUITE_P(BlockSizes, DataTest, testing::Values("ram:32M", "ram:32M?block=512"));

}  // namespace
}  // namespace basalt::blob
