// Goal: space is chosen contiguously where there is any, counted exactly, and comes back as soon as it may;
// a full store (of data, or of metadata) refuses, harms nothing, and can be emptied and used again.
// Method: SpaceMap alone against a model of clusters; a store filled in both ways.
#include "blob/space_map.h"
#include "store_fixture.h"

#include <random>
#include <set>

namespace basalt::blob {
namespace {

class SpaceMapTest : public StoreFixture {
 protected:
  void SetUp() override {
    make_device("ram:64M");
    pool_ = std::make_unique<ChannelPool>(*device_, 2);
    pages_ = std::make_unique<PageStore>(*context_, *pool_, Uuid{}, 4 << 20);
    MetadataRun run{};
    run.first_block[1] = 8192;
    run.page_count = 4096;
    pages_->set_runs({run});
    pages_->map().reset(4096);
    space_ = std::make_unique<SpaceMap>(*pages_);
  }
  std::unique_ptr<ChannelPool> pool_;
  std::unique_ptr<PageStore> pages_;
  std::unique_ptr<SpaceMap> space_;
};

constexpr uint64_t kNoHint = ~uint64_t{0} >> 8;

TEST_F(SpaceMapTest, TheFirstReservationFindsSpaceAtZero) {
  ASSERT_TRUE(space_->give(0, 100).ok());
  const auto pieces = space_->reserve(100, kNoHint);
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 1u);
  EXPECT_EQ((*pieces)[0].first_cluster, 0u);
  EXPECT_EQ(space_->available(), 0u);
  EXPECT_EQ(space_->reserve(1, kNoHint).error().code(), StatusCode::no_space);
}

TEST_F(SpaceMapTest, TheHintIsFollowed) {
  ASSERT_TRUE(space_->give(0, 1000).ok());
  const auto pieces = space_->reserve(10, 500);
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 1u);
  EXPECT_EQ((*pieces)[0].first_cluster, 500u);
  // Taken by now: elsewhere, but in one piece.
  const auto other = space_->reserve(10, 505);
  ASSERT_TRUE(other);
  EXPECT_EQ(other->size(), 1u);
  // The hint is at the end of a piece: the rest elsewhere.
  const auto split = space_->reserve(10, 995);
  ASSERT_TRUE(split);
  ASSERT_EQ(split->size(), 2u);
  EXPECT_EQ((*split)[0].first_cluster, 995u);
  EXPECT_EQ((*split)[0].count, 5u);
}

TEST_F(SpaceMapTest, ContiguousWhereThereIsRoom) {
  // Holes of 1, 2, 3, … clusters.
  uint64_t at = 1000;
  for (uint64_t size = 1; size <= 40; ++size) {
    ASSERT_TRUE(space_->give(at, size).ok());
    at += size + 1;
  }
  for (const uint64_t wanted : {40, 39, 38, 37}) {
    const auto pieces = space_->reserve(wanted, kNoHint);
    ASSERT_TRUE(pieces);
    EXPECT_EQ(pieces->size(), 1u) << wanted;
  }
  const auto pieces = space_->reserve(100, kNoHint);
  ASSERT_TRUE(pieces);
  EXPECT_LE(pieces->size(), 5u);
}

TEST_F(SpaceMapTest, WhatIsNotFreeCannotBeTakenNorGivenTwice) {
  ASSERT_TRUE(space_->give(10, 10).ok());
  EXPECT_EQ(space_->take(5, 10).code(), StatusCode::corruption);
  EXPECT_EQ(space_->take(15, 10).code(), StatusCode::corruption);
  EXPECT_EQ(space_->take(30, 1).code(), StatusCode::corruption);
  EXPECT_EQ(space_->give(19, 5).code(), StatusCode::corruption);
  EXPECT_EQ(space_->give(5, 6).code(), StatusCode::corruption);
  EXPECT_EQ(space_->give(12, 2).code(), StatusCode::corruption);
  EXPECT_TRUE(space_->take(10, 10).ok());
  EXPECT_EQ(space_->free_clusters(), 0u);
  EXPECT_EQ(space_->tree().root.page, kNoPage);
}

TEST_F(SpaceMapTest, RandomUseMatchesAModel) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    std::mt19937 random(seed);
    SpaceMap space(*pages_);
    constexpr uint64_t kClusters = 600;
    ASSERT_TRUE(space.give(0, kClusters).ok());
    std::set<uint64_t> used;  // taken or reserved
    std::vector<Transaction::Reservation> taken;
    for (int step = 0; step < 1500; ++step) {
      if (random() % 2 == 0) {
        const uint64_t wanted = 1 + random() % 30;
        const auto pieces = space.reserve(wanted, random() % kClusters);
        ASSERT_EQ(pieces.has_value(), wanted <= kClusters - used.size());
        if (!pieces) continue;
        uint64_t total = 0;
        for (const auto& piece : *pieces) {
          total += piece.count;
          for (uint64_t i = 0; i < piece.count; ++i) {
            ASSERT_LT(piece.first_cluster + i, kClusters);
            ASSERT_TRUE(used.insert(piece.first_cluster + i).second) << "given out twice";
          }
          space.excluded().remove(piece.first_cluster, piece.count);
          if (random() % 4 == 0) {  // never applied
            for (uint64_t i = 0; i < piece.count; ++i) used.erase(piece.first_cluster + i);
          } else {
            ASSERT_TRUE(space.take(piece.first_cluster, piece.count).ok());
            taken.push_back(piece);
          }
        }
        ASSERT_EQ(total, wanted);
      } else if (!taken.empty()) {
        std::swap(taken[random() % taken.size()], taken.back());
        const auto piece = taken.back();
        taken.pop_back();
        ASSERT_TRUE(space.give(piece.first_cluster, piece.count).ok());
        for (uint64_t i = 0; i < piece.count; ++i) used.erase(piece.first_cluster + i);
      }
      ASSERT_EQ(space.available(), kClusters - used.size());
      // The tree holds the complement in the fewest runs.
      Tree::Cursor cursor(space.tree());
      ASSERT_TRUE(cursor.seek("").ok());
      uint64_t expected = 0;
      while (cursor.valid()) {
        while (used.contains(expected)) ++expected;
        be64 first;
        le64 count;
        std::memcpy(&first, cursor.key().data(), 8);
        std::memcpy(&count, cursor.value().data(), 8);
        ASSERT_EQ(first, expected);
        while (expected < kClusters && !used.contains(expected)) ++expected;
        ASSERT_EQ(first + count, expected);
        ASSERT_TRUE(cursor.next().ok());
      }
      while (used.contains(expected)) ++expected;
      ASSERT_EQ(expected, kClusters);
    }
  }
}

// ---- Full stores

class FullStoreTest : public StoreFixture {};

TEST_F(FullStoreTest, FullOfDataRefusesAndCanBeEmptied) {
  make_store("ram:32M");
  const uint64_t all = store_->space().free_clusters;
  for (int round = 0; round < 3; ++round) {
    std::vector<BlobId> blobs;
    Status status;
    while (status.ok()) {
      Transaction txn;
      const BlobId id = store_->new_blob_id();
      txn.create_blob(id, {});
      status = store_->allocate(txn, id, {0, 4 * 7});
      if (!status.ok()) break;
      apply(txn);
      blobs.push_back(id);
    }
    EXPECT_EQ(status.code(), StatusCode::no_space) << status.to_string();
    EXPECT_EQ(blobs.size(), all / 7);
    auto blob = store_->open_blob(blobs.front());
    const std::vector<std::byte> bytes(kBlockBytes, std::byte{7});
    EXPECT_TRUE(store_->write(**blob, 0, bytes, Unwritten::zeros).ok());
    put("a full store", "takes catalog entries");
    // What was freed is there at once, although nobody waited for it to be durable.
    blob = BlobRef();
    for (const BlobId id : blobs) {
      ASSERT_TRUE(store_->delete_blob(id).ok());
      const BlobId next = make_blob(4 * 7);
      ASSERT_TRUE(store_->delete_blob(next).ok());
    }
    EXPECT_EQ(store_->space().free_clusters, all);
    kill();
    expect_sound();
    open();
    for (const BlobId id : blobs) {
      if (store_->info(id)) {
        ASSERT_TRUE(store_->delete_blob(id).ok());  // its deletion was not durable
      }
    }
    EXPECT_LE(all - store_->space().free_clusters, 7u);
    std::vector<BlobId> rest;
    ASSERT_TRUE(store_
                    ->for_each_blob([&](BlobId id, const BlobInfo&) {
                      rest.push_back(id);
                      return true;
                    })
                    .ok());
    for (const BlobId id : rest) ASSERT_TRUE(store_->delete_blob(id).ok());
    EXPECT_EQ(store_->space().free_clusters, all);
  }
  close();
  expect_sound();
}

// The bug: space waiting for its discard was not waited for.
TEST_F(FullStoreTest, SpaceBeingDiscardedIsNotMissed) {
  discard_ = true;
  make_store("ram:32M");
  const uint64_t all = store_->space().free_clusters * 4;
  for (int i = 0; i < 50; ++i) {
    const BlobId id = make_blob(all);
    ASSERT_TRUE(store_->delete_blob(id).ok());
    ASSERT_FALSE(HasFailure()) << "round " << i;
  }
}

class FullMetadataTest : public FullStoreTest, public testing::WithParamInterface<uint64_t> {};

// Until the catalog is full; then everything is deleted, then it is filled again as far.
TEST_P(FullMetadataTest, FullOfCatalogEntries) {
  FormatOptions options = small_format();
  options.metadata_bytes = GetParam();
  make_store("ram:64M", options);
  size_t first_round = 0;
  for (int round = 0; round < 2; ++round) {
    size_t count = 0;
    const auto key = [](size_t i) { return "key" + std::to_string(i * 7919 % 1000003); };
    while (true) {
      Transaction txn;
      txn.catalog_put(key(count), std::string(400, 'v'));
      const auto ticket = store_->apply(txn);
      if (!ticket) {
        ASSERT_EQ(ticket.error().code(), StatusCode::no_space) << ticket.error().to_string();
        break;
      }
      ++count;
    }
    // The region is used for what it is for, as random order fills pages, less reserve and copies.
    EXPECT_GT(count * 400, GetParam() / 3);
    if (round == 0) first_round = count;
    EXPECT_GT(count * 10, first_round * 9);
    ASSERT_TRUE(store_->health().ok());
    kill();
    open();
    size_t there = 0;
    for (size_t i = 0; i < count; ++i) there += store_->catalog_get(key(i)).has_value();
    EXPECT_GT(there, count / 2);  // all but what was never durable
    for (size_t i = 0; i < count; ++i) {
      Transaction txn;
      txn.catalog_erase(key(i));
      const auto ticket = store_->apply(txn);
      ASSERT_TRUE(ticket) << i << " of " << count << ": " << ticket.error().to_string();
    }
    ASSERT_TRUE(store_
                    ->catalog_scan("",
                                   [](std::string_view, std::string_view) {
                                     ADD_FAILURE();
                                     return false;
                                   })
                    .ok());
  }
  close();
  expect_sound();
}

// Blobs of scattered extents until the objects tree is full; the free space is as scattered. All of them can
// be deleted, whatever it takes.
TEST_P(FullMetadataTest, FullOfExtents) {
  FormatOptions options = small_format();
  options.metadata_bytes = GetParam();
  make_store("ram:4G", options);
  std::vector<BlobId> blobs;
  Status status;
  uint64_t extents = 0;
  while (status.ok()) {
    const BlobId id = store_->new_blob_id();
    Transaction txn;
    txn.create_blob(id, {});
    // Two blobs grow in turn: neither's extents merge, nor do the holes that one of them leaves.
    auto made = store_->apply(txn);
    if (!made) {
      status = made.error();
      break;
    }
    blobs.push_back(id);
    for (uint64_t i = 0; i < 400 && status.ok(); ++i) {
      Transaction grow;
      const BlobId owner = blobs[blobs.size() - 1 - (i % 2 == 0 || blobs.size() < 2 ? 0 : 1)];
      status = store_->allocate(grow, owner, {(extents + 1) * 8, 4});
      if (!status.ok()) break;
      const auto ticket = store_->apply(grow);
      if (ticket) {
        ++extents;
      } else {
        status = ticket.error();
      }
    }
  }
  EXPECT_EQ(status.code(), StatusCode::no_space) << status.to_string();
  ASSERT_TRUE(store_->health().ok());
  EXPECT_GT(extents * 47, GetParam() / 3);
  const uint64_t clusters = store_->space().cluster_count;
  make_durable();
  close();
  expect_sound();
  open();
  for (size_t i = 0; i < blobs.size(); ++i) {  // every second first: the free space scatters
    const BlobId id = blobs[i * 2 < blobs.size() ? i * 2 : (i * 2 - blobs.size()) | 1];
    if (!store_->info(id)) continue;
    const Status deleted = store_->delete_blob(id);
    ASSERT_TRUE(deleted.ok()) << deleted.to_string();
  }
  for (const BlobId id : blobs) {
    if (store_->info(id)) {
      ASSERT_TRUE(store_->delete_blob(id).ok());
    }
  }
  make_durable();
  EXPECT_GT(store_->space().free_clusters, clusters * 9 / 10);
  make_blob(store_->space().free_clusters * 4 - 4096);
  close();
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Regions, FullMetadataTest,
                         testing::Values(uint64_t{1} << 20, uint64_t{2} << 20, uint64_t{8} << 20));

// A transaction of many operations must fit a small, nearly empty region.
TEST_F(FullStoreTest, LargeTransactionsFitSmallRegions) {
  make_store("ram:32M");
  Transaction txn;
  for (int i = 0; i < 1500; ++i) txn.catalog_put("key" + std::to_string(i), "0123456789");
  apply(txn);
  const BlobId id = make_blob(1024);
  auto blob = store_->open_blob(id);
  const std::vector<std::byte> bytes(kBlockBytes, std::byte{1});
  for (uint64_t block = 0; block < 1024; block += 2) {
    ASSERT_TRUE(store_->write(**blob, block * kBlockBytes, bytes, Unwritten::zeros).ok());
  }
  for (bool more = true; more;) {
    Transaction mark;
    more = store_->mark_written(mark, **blob);
    apply(mark);
  }
  blob = BlobRef();
  close();
  expect_sound();
}

}  // namespace
}  // namespace basalt::blob
