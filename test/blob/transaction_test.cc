// Goal: a transaction does all it says or nothing; a caller's mistake is an error that leaves the store as
// it was and usable; sizes at and beyond the limits; kept transactions are replayed in order only.
// Method: one mistake per case, then the proof that the store still works and that a reopening sees the same.
#include "blob/format.h"
#include "store_fixture.h"

namespace basalt::blob {
namespace {

class TransactionTest : public StoreFixture {
 protected:
  void SetUp() override {
    make_store();
    blob_ = make_blob(16);
    free_ = store_->space().free_clusters;
  }
  void TearDown() override {
    // Whatever was refused, the store works, is sound, and opens again.
    put("still", "works");
    make_durable();
    EXPECT_EQ(store_->space().free_clusters, free_);
    close();
    expect_sound();
    open();
    EXPECT_EQ(get("still"), "works");
    EXPECT_EQ(get("refused"), "<not found: no such catalog key>");
  }
  // Refused as a whole, with the innocent operation before it.
  template <typename Build>
  void refused(StatusCode code, Build build) {
    Transaction txn;
    txn.catalog_put("refused", "must not be there");
    build(txn);
    const auto ticket = store_->apply(txn);
    ASSERT_FALSE(ticket);
    EXPECT_EQ(ticket.error().code(), code) << ticket.error().to_string();
    EXPECT_TRUE(store_->health().ok());
    EXPECT_EQ(store_->catalog_get("refused").error().code(), StatusCode::not_found);
  }
  BlobId blob_;
  uint64_t free_ = 0;
};

TEST_F(TransactionTest, ABlobThatIsNotThere) {
  const BlobId ghost{4711};
  refused(StatusCode::not_found, [&](auto& txn) { txn.delete_blob(ghost); });
  refused(StatusCode::not_found, [&](auto& txn) { txn.set_size(ghost, 1); });
  refused(StatusCode::not_found, [&](auto& txn) { txn.set_attribute(ghost, "a", "b"); });
  refused(StatusCode::not_found, [&](auto& txn) { txn.erase_attribute(ghost, "a"); });
  refused(StatusCode::not_found, [&](auto& txn) { txn.orphan(ghost); });
  refused(StatusCode::not_found, [&](auto& txn) { txn.unmap(ghost, {0, 4}); });
  refused(StatusCode::not_found, [&](auto& txn) {
    txn.set_state(ghost, {0, 4}, ExtentState::written);
  });
  refused(StatusCode::not_found, [&](auto& txn) {
    ASSERT_TRUE(store_->allocate(txn, ghost, {0, 4}).ok());
  });
  EXPECT_EQ(store_->delete_blob(ghost).code(), StatusCode::not_found);
  EXPECT_EQ(store_->open_blob(ghost).error().code(), StatusCode::not_found);
  EXPECT_EQ(store_->info(ghost).error().code(), StatusCode::not_found);
}

TEST_F(TransactionTest, ABlobDeletedByTheSameTransaction) {
  refused(StatusCode::not_found, [&](auto& txn) {
    txn.delete_blob(blob_);
    txn.set_size(blob_, 5);
  });
  refused(StatusCode::not_found, [&](auto& txn) {
    txn.delete_blob(blob_);
    txn.delete_blob(blob_);
  });
  // And one made anew under the same id after that is a new one.
  Transaction txn;
  txn.delete_blob(blob_);
  txn.create_blob(blob_, {});
  ASSERT_TRUE(store_->allocate(txn, blob_, {64, 16}).ok());
  apply(txn);
  EXPECT_EQ(store_->info(blob_)->allocated_blocks, 16u);
}

TEST_F(TransactionTest, IdsThatCannotBe) {
  refused(StatusCode::already_exists, [&](auto& txn) { txn.create_blob(blob_, {}); });
  refused(StatusCode::invalid_argument, [&](auto& txn) { txn.create_blob(BlobId{0}, {}); });
  refused(StatusCode::invalid_argument,
          [&](auto& txn) { txn.create_blob(BlobId{kFirstBlobId - 1}, {}); });
  refused(StatusCode::invalid_argument,
          [&](auto& txn) { txn.create_blob(BlobId{~uint64_t{0}}, {}); });
  refused(StatusCode::already_exists, [&](auto& txn) {
    txn.create_blob(BlobId{1000}, {});
    txn.create_blob(BlobId{1000}, {});
  });
}

TEST_F(TransactionTest, MappingsThatCannotBe) {
  const auto map = [&](uint64_t logical, uint64_t physical, uint64_t count) {
    return [=, this](Transaction& txn) {
      txn.map(blob_, {logical, physical, count, ExtentState::unwritten});
    };
  };
  refused(StatusCode::invalid_argument, map(0, 4096, 4));   // mapped already
  refused(StatusCode::invalid_argument, map(12, 4096, 8));  // in part
  refused(StatusCode::invalid_argument, map(64, 0, 4));     // the superblock
  refused(StatusCode::invalid_argument, map(64, 4097, 4));  // no cluster border
  refused(StatusCode::invalid_argument, map(65, 4096, 4));
  refused(StatusCode::invalid_argument, map(64, 4096, 3));
  refused(StatusCode::invalid_argument, map(64, 4096, 0));
  refused(StatusCode::invalid_argument, map(64, uint64_t{1} << 40, 4));
  refused(StatusCode::invalid_argument, map(kMaxBlobBlocks, 4096, 4));
  refused(StatusCode::invalid_argument, map(kMaxBlobBlocks - 4, 4096, 8));
  refused(StatusCode::invalid_argument, map(~uint64_t{0} - 3, 4096, 4));
  refused(StatusCode::invalid_argument, [&](auto& txn) { txn.unmap(blob_, {1, 4}); });
  refused(StatusCode::invalid_argument, [&](auto& txn) {
    txn.unmap(blob_, {~uint64_t{0} - 3, 8});
  });
  refused(StatusCode::invalid_argument, [&](auto& txn) {
    txn.set_state(blob_, {5, ~uint64_t{0}}, ExtentState::written);
  });
  refused(StatusCode::invalid_argument, [&](auto& txn) { txn.grow_clusters(3); });
  Transaction txn;
  EXPECT_EQ(store_->allocate(txn, blob_, {~uint64_t{0} - 10, 100}).code(),
            StatusCode::out_of_range);
  EXPECT_EQ(store_->free_range(txn, blob_, {~uint64_t{0} - 10, 100}).error().code(),
            StatusCode::out_of_range);
}

// Two callers that did not keep each other out: the second is told, and its space comes back.
TEST_F(TransactionTest, TwoAllocationsOfTheSameRange) {
  {
    Transaction first, second;
    ASSERT_TRUE(store_->allocate(first, blob_, {16, 16}).ok());
    ASSERT_TRUE(store_->allocate(second, blob_, {16, 16}).ok());
    apply(first);
    const auto ticket = store_->apply(second);
    ASSERT_FALSE(ticket);
    EXPECT_EQ(ticket.error().code(), StatusCode::invalid_argument);
  }
  free_ -= 4;
  EXPECT_TRUE(store_->health().ok());
  EXPECT_EQ(store_->info(blob_)->allocated_blocks, 32u);
}

TEST_F(TransactionTest, AnAllocationNeverAppliedGivesBack) {
  const uint64_t all = store_->space().free_clusters * 4;
  for (int i = 0; i < 3; ++i) {
    Transaction txn;
    ASSERT_TRUE(store_->allocate(txn, blob_, {64, all}).ok());
    Transaction none;
    EXPECT_EQ(store_->allocate(none, blob_, {64, 4}).code(), StatusCode::no_space);
  }
}

TEST_F(TransactionTest, SizesAtTheLimits) {
  const std::string key(kMaxKeyBytes, 'k'), value(kMaxValueBytes, 'v');
  Transaction txn;
  txn.catalog_put(key, value);
  txn.catalog_put("", "");
  txn.set_attribute(blob_, key, value);
  apply(txn);
  EXPECT_EQ(get(key), value);
  EXPECT_EQ(get(""), "");
  EXPECT_EQ(*store_->attribute(blob_, key), value);
  refused(StatusCode::too_large, [&](auto& t) { t.catalog_put(key + "k", value); });
  refused(StatusCode::too_large, [&](auto& t) { t.catalog_put(key, value + "v"); });
  refused(StatusCode::too_large, [&](auto& t) { t.set_attribute(blob_, key + "k", ""); });
  refused(StatusCode::too_large,
          [&](auto& t) { t.set_attribute(blob_, "a", std::string(70000, 'v')); });
  refused(StatusCode::too_large,
          [&](auto& t) { t.erase_attribute(blob_, std::string(70000, 'k')); });
}

TEST_F(TransactionTest, BytesAtTheLimit) {
  Transaction txn;
  while (txn.bytes().size() + 520 <= Transaction::kMaxBytes) {
    txn.catalog_put("key" + std::to_string(txn.op_count()), std::string(500, 'v'));
  }
  const size_t left = Transaction::kMaxBytes - txn.bytes().size();
  ASSERT_GE(left, 6u);
  txn.catalog_put("x", std::string(left - 6, 'v'));
  ASSERT_EQ(txn.bytes().size(), Transaction::kMaxBytes);
  apply(txn);
  make_durable();
  kill();
  open();
  EXPECT_EQ(get("key0"), std::string(500, 'v'));
  EXPECT_EQ(get("x"), std::string(left - 6, 'v'));
  refused(StatusCode::too_large, [&](auto& t) {
    while (t.bytes().size() <= Transaction::kMaxBytes) t.catalog_put("key", std::string(500, 'v'));
  });
}

TEST_F(TransactionTest, ABlobWithTooManyExtentsIsNotDeletedAtOnce) {
  // Every second cluster: no two extents touch.
  for (uint64_t i = 0; i <= kMaxBlobBlocks && i < 150; ++i) {
    Transaction txn;
    ASSERT_TRUE(store_->allocate(txn, blob_, {16 + i * 8, 4}).ok());
    apply(txn);
  }
  refused(StatusCode::too_large, [&](auto& txn) { txn.delete_blob(blob_); });
  EXPECT_TRUE(store_->delete_blob(blob_).ok());
  free_ += 4;  // SetUp's blob is gone
}

TEST_F(TransactionTest, TicketsNotYetGivenAreRefused) {
  EXPECT_EQ(store_->wait_durable(Ticket{store_->last_ticket().value + 1}).code(),
            StatusCode::invalid_argument);
}

// ---- Kept transactions

TEST_F(TransactionTest, KeptTransactionsAreReplayedInOrderAndSurvive) {
  struct Keeper final : BlobStore::TransactionKeeper {
    bool keep(Ticket ticket, std::span<const std::byte> bytes) override {
      kept.emplace_back(ticket, std::vector<std::byte>(bytes.begin(), bytes.end()));
      return kept.size() < room;
    }
    void durable(Ticket ticket) override { durable_up_to = std::max(durable_up_to, ticket); }
    std::vector<std::pair<Ticket, std::vector<std::byte>>> kept;
    size_t room = 1000;
    Ticket durable_up_to;
  } keeper;
  make_durable();
  store_->set_keeper(&keeper);
  for (int i = 0; i < 20; ++i) put("kept" + std::to_string(i), std::to_string(i));
  Transaction txn;
  const BlobId blob = store_->new_blob_id();
  txn.create_blob(blob, {});
  ASSERT_TRUE(store_->allocate(txn, blob, {0, 16}).ok());
  apply(txn);
  ASSERT_EQ(keeper.kept.size(), 21u);
  kill();  // nothing of it was durable
  open();
  EXPECT_EQ(get("kept0"), "<not found: no such catalog key>");
  EXPECT_EQ(store_->replay_kept(keeper.kept[1].first, keeper.kept[1].second).code(),
            StatusCode::invalid_argument)
      << "a gap";
  for (const auto& [ticket, bytes] : keeper.kept) {
    // Damaged bytes are refused and leave the store as it is.
    auto bad = bytes;
    bad.resize(bad.size() - 1);
    EXPECT_FALSE(store_->replay_kept(ticket, bad).ok());
    bad = bytes;
    bad[0] = std::byte{99};
    EXPECT_FALSE(store_->replay_kept(ticket, bad).ok());
    ASSERT_TRUE(store_->health().ok());
    ASSERT_TRUE(store_->replay_kept(ticket, bytes).ok());
    EXPECT_EQ(store_->replay_kept(ticket, bytes).code(), StatusCode::invalid_argument) << "twice";
  }
  make_durable();
  kill();
  open();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(get("kept" + std::to_string(i)), std::to_string(i));
  EXPECT_EQ(store_->info(blob)->allocated_blocks, 16u);
  free_ -= 4;
}

TEST_F(TransactionTest, AFullKeeperMakesTheStoreCommit) {
  struct Keeper final : BlobStore::TransactionKeeper {
    bool keep(Ticket, std::span<const std::byte>) override { return false; }
    void durable(Ticket ticket) override { durable_up_to = std::max(durable_up_to, ticket); }
    Ticket durable_up_to;
  } keeper;
  store_->set_keeper(&keeper);
  Transaction txn;
  txn.catalog_put("a", "b");
  const Ticket ticket = apply(txn);
  EXPECT_EQ(store_->durable_ticket(), ticket);
  EXPECT_EQ(keeper.durable_up_to, ticket);
  store_->set_keeper(nullptr);
}

// ---- Orphans

TEST_F(TransactionTest, OrphansAreDeletedAfterAnInterruption) {
  Transaction txn;
  txn.orphan(blob_);
  apply(txn);
  // Deletion got half-way: some of the space is free.
  Transaction half;
  ASSERT_TRUE(store_->free_range(half, blob_, {0, 8}));
  apply(half);
  make_durable();
  kill();
  expect_sound();
  open();
  EXPECT_TRUE(store_->info(blob_));
  ASSERT_TRUE(store_->resume_orphans().ok());
  EXPECT_EQ(store_->info(blob_).error().code(), StatusCode::not_found);
  ASSERT_TRUE(store_->resume_orphans().ok());
  make_durable();
  kill();
  open();
  EXPECT_EQ(store_->info(blob_).error().code(), StatusCode::not_found);
  free_ += 4;
}

TEST_F(TransactionTest, DeletingAnOrphanTakesItOffTheList) {
  Transaction txn;
  txn.orphan(blob_);
  apply(txn);
  ASSERT_TRUE(store_->delete_blob(blob_).ok());
  ASSERT_TRUE(store_->resume_orphans().ok());
  free_ += 4;
}

}  // namespace
}  // namespace basalt::blob
