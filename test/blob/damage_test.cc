// Goal: no single damaged block of a store makes it lose or invent anything: the other copy is used
// and that is said; where both copies are damaged, the error names the page. A failing device makes
// the store read-only with a reason, and what was durable is there when it is opened again. Method:
// each block of the fixed regions damaged in turn on a closed store, and on one left by its
// process; both copies of each metadata page; device errors injected by the simulated disk.
#include "base/try.h"
#include "blob/format.h"
#include "sim/sim_device.h"
#include "store_content.h"
#include "store_fixture.h"

#include <map>

namespace basalt::blob {
namespace {

class DamageTest : public StoreFixture {
 protected:
  using Content = StoreContent;

  void SetUp() override {
    FormatOptions options = small_format();
    options.metadata_bytes = 1 << 20;
    make_store("ram:16M", options);
    for (int i = 0; i < 400; ++i) put("key" + std::to_string(i), std::string(100 + i % 90, 'v'));
    for (int i = 0; i < 60; ++i) {
      const BlobId id = make_blob(4);
      Transaction txn;
      txn.set_size(id, static_cast<uint64_t>(i));
      txn.set_attribute(id, "name", "blob " + std::to_string(i));
      apply(txn);
    }
    make_durable();
  }
  Result<Content> content_after_opening(StoreStats* stats = nullptr) {
    BASALT_TRY_ASSIGN(auto store, try_open(OpenMode::read_only));
    auto content = content_of(*store);
    if (stats != nullptr) *stats = store->stats();
    return content;
  }
};

TEST_F(DamageTest, AnyOneBlockOfAClosedStore) {
  const Content expected = *content_of(*store_);
  close();
  const Superblock sb = superblock(0);
  std::vector<uint64_t> blocks = {0, kSuperblockOffset[1] / kBlockBytes};
  for (uint64_t i = 0; i < sb.journal_blocks; ++i) blocks.push_back(sb.journal_first_block + i);
  for (unsigned copy = 0; copy < 2; ++copy) {
    for (uint64_t i = 0; i < sb.metadata_runs[0].page_count; ++i) {
      blocks.push_back(sb.metadata_runs[0].first_block[copy] + i);
    }
  }
  unsigned noticed = 0;
  for (const uint64_t block : blocks) {
    const auto whole = read_raw(block);
    for (const size_t byte : {size_t{0}, size_t{20}, size_t{4000}}) {
      damage(block, byte);
      StoreStats stats;
      const auto found = content_after_opening(&stats);
      ASSERT_TRUE(found) << "block " << block << ": " << found.error().to_string();
      ASSERT_EQ(*found, expected) << "block " << block;
      noticed += stats.damaged_copies_used > 0;
      write_raw(block, whole);
    }
  }
  const auto report = check_store(*context_, *device_, {});
  ASSERT_TRUE(report);
  // Copy 0 is the one read: each of its pages in use was noticed, three times, but for the few pages
  // that only the space tree needs, which content_of() does not read.
  EXPECT_GE(noticed + 3 * 3, 3 * report->metadata_pages);
  EXPECT_LE(noticed, 3 * report->metadata_pages);
  EXPECT_GT(report->metadata_pages, 20u);
}

// Verifying an open store: each state the two superblocks can be in, damaged or left behind by a write that was
// acknowledged and not done. Checkpoints make them good again.
TEST_F(DamageTest, SuperblocksOfAnOpenStoreAreVerified) {
  Status verified;
  const auto verify = [&] {
    const uint64_t before = store_->stats().damaged_copies_used;
    BlobStore::MetadataPosition position;
    uint64_t bytes = 0;
    verified = {};
    for (bool more = true; more;) {
      const Result<bool> step = store_->verify_metadata(position, bytes);
      if (!step) verified = step.error();
      more = !step || *step;
    }
    return store_->stats().damaged_copies_used - before;
  };
  const auto block_of = [](unsigned slot) { return kSuperblockOffset[slot] / kBlockBytes; };
  const std::vector<std::byte> earlier[2] = {read_raw(block_of(0)), read_raw(block_of(1))};
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(store_->checkpoint().ok());
  EXPECT_EQ(verify(), 0u);
  for (const unsigned slots : {1u, 2u, 3u}) {
    for (const bool lost : {false, true}) {
      SCOPED_TRACE("slots " + std::to_string(slots) + (lost ? " lost" : " damaged"));
      for (const unsigned slot : {0u, 1u}) {
        if ((slots >> slot & 1) == 0) continue;
        lost ? write_raw(block_of(slot), earlier[slot]) : damage(block_of(slot), 20);
      }
      EXPECT_EQ(verify(), slots == 3 ? 0u : 1u);
      EXPECT_EQ(verified.code(), slots == 3 ? StatusCode::corruption : StatusCode::ok);
      for (int i = 0; i < 2; ++i) {
        put("again", std::to_string(i));
        ASSERT_TRUE(store_->checkpoint().ok());
      }
      EXPECT_EQ(verify(), 0u);
      EXPECT_TRUE(verified.ok()) << verified.to_string();
    }
  }
  close();
  open(OpenMode::read_only);
  EXPECT_EQ(verify(), 0u);
  damage(block_of(0), 20);
  EXPECT_EQ(verify(), 1u);
  EXPECT_TRUE(verified.ok());
  damage(block_of(1), 20);
  EXPECT_EQ(verify(), 0u);
  EXPECT_EQ(verified.code(), StatusCode::corruption);
}

// Whatever its generation: an owner may have started from an older one than ours.
TEST_F(DamageTest, AnotherOwnersSuperblockIsNotDamage) {
  for (const int generations : {-2, 0, 2}) {
    const unsigned slot = 1 - newest_slot();
    const auto ours = read_raw(kSuperblockOffset[slot] / kBlockBytes);
    Superblock other = superblock(newest_slot());
    other.generation = other.generation - 1 + static_cast<uint64_t>(generations);
    other.epoch = other.epoch + 1;
    ASSERT_TRUE(write_superblock(raw(), device_->info(), other).ok());
    const auto theirs = read_raw(kSuperblockOffset[slot] / kBlockBytes);
    BlobStore::MetadataPosition position;
    position.part = BlobStore::MetadataPosition::Part::superblocks;
    uint64_t bytes = 0;
    const auto verified = store_->verify_metadata(position, bytes);
    // One that lies that far back is told from a lost write by nothing but its epoch, which is not looked at.
    EXPECT_EQ(verified.has_value(), generations < 0);
    if (!verified) {
      EXPECT_EQ(verified.error().code(), StatusCode::fenced);
    }
    EXPECT_EQ(read_raw(kSuperblockOffset[slot] / kBlockBytes), theirs);
    write_raw(kSuperblockOffset[slot] / kBlockBytes, ours);
  }
}

TEST_F(DamageTest, BothCopiesOfAPage) {
  const Content expected = *content_of(*store_);
  close();
  const auto report = check_store(*context_, *device_, {});
  ASSERT_TRUE(report);
  const MetadataRun run = superblock(0).metadata_runs[0];
  uint64_t named = 0;
  for (uint64_t page = 0; page < run.page_count; ++page) {
    for (unsigned copy = 0; copy < 2; ++copy) damage(run.first_block[copy] + page);
    const auto found = content_after_opening();
    if (found) {
      ASSERT_EQ(*found, expected) << "page " << page;
    } else {
      ++named;
      EXPECT_EQ(found.error().code(), StatusCode::corruption);
      EXPECT_NE(found.error().message().find("metadata page " + std::to_string(page) + " copy 1"),
                std::string_view::npos)
          << found.error().to_string();
      const auto checked = check_store(*context_, *device_, {});
      ASSERT_TRUE(checked);
      EXPECT_FALSE(checked->problems.empty());
    }
    for (unsigned copy = 0; copy < 2; ++copy)
      damage(run.first_block[copy] + page);  // flips it back
  }
  // Pages that only the space tree needs are not read by content_of(); there are a few.
  EXPECT_GE(named + 3, report->metadata_pages);
}

TEST_F(DamageTest, TheOtherCopyIsToldAtOpening) {
  close();
  const Superblock sb = superblock(newest_slot());
  damage(sb.metadata_runs[0].first_block[0] + sb.page_map.page);
  open();
  ASSERT_EQ(store_->recovery_notes().size(), 1u);
  EXPECT_NE(store_->recovery_notes()[0].find("copy 0"), std::string::npos);
  EXPECT_EQ(store_->stats().damaged_copies_used, 1u);
  EXPECT_EQ(log_.count("the other copy is good"), 1u);
}

// The bug: transactions that became durable by a checkpoint alone, without a journal record, were
// lost or made the store unreadable when the superblock of that checkpoint rotted.
TEST_F(DamageTest, EitherSuperblockIsEnoughAfterACrash) {
  for (const bool later : {false, true}) {
    for (const bool newest : {false, true}) {
      put("unwaited", "durable by the checkpoint");
      ASSERT_TRUE(store_->checkpoint().ok());
      ASSERT_EQ(store_->durable_ticket(), store_->last_ticket());
      if (later) {
        put("later", "in the journal");
        make_durable();
      }
      const Content expected = *content_of(*store_);
      kill();
      const unsigned slot = newest ? newest_slot() : 1 - newest_slot();
      damage(kSuperblockOffset[slot] / kBlockBytes);
      const auto found = content_after_opening();
      ASSERT_TRUE(found) << found.error().to_string();
      EXPECT_EQ(*found, expected);
      open();
      Transaction txn;
      txn.catalog_erase("unwaited");
      txn.catalog_erase("later");
      apply(txn);
      make_durable();
    }
  }
}

// A journal record that rots below a later one is corruption; nothing is cut short in silence.
TEST_F(DamageTest, AnyOneJournalBlockAfterACrash) {
  ASSERT_TRUE(store_->checkpoint().ok());
  ASSERT_TRUE(store_->checkpoint().ok());
  const Content before = *content_of(*store_);
  std::map<uint64_t, Content> states;
  for (int i = 0; i < 12; ++i) {
    Transaction txn;
    for (int n = 0; n < 8; ++n)
      txn.catalog_put("new" + std::to_string(i * 100 + n), std::string(250, 'n'));
    states[apply(txn).value] = {};
    make_durable();
  }
  const Content expected = *content_of(*store_);
  kill();
  const Superblock sb = superblock(newest_slot());
  unsigned refused = 0, cut = 0;
  for (uint64_t i = 0; i < 12 * 3; ++i) {
    const uint64_t block = sb.journal_first_block + (sb.journal_position + i) % sb.journal_blocks;
    damage(block);
    const auto found = content_after_opening();
    if (found) {
      cut += *found != expected;
    } else {
      EXPECT_EQ(found.error().code(), StatusCode::corruption) << found.error().to_string();
      ++refused;
    }
    damage(block);
  }
  // Only the last record's loss cannot be told from a write that never happened.
  EXPECT_GE(refused, 11u);
  EXPECT_LE(cut, 3u);
}

TEST_F(DamageTest, ASecondOwnerFencesTheFirst) {
  auto second = try_open();
  ASSERT_TRUE(second);
  put("mine", "still");
  EXPECT_EQ(store_->checkpoint().code(), StatusCode::fenced);
  EXPECT_EQ(store_->health().code(), StatusCode::read_only);
  Transaction txn;
  txn.catalog_put("no", "more");
  EXPECT_EQ(store_->apply(txn).error().code(), StatusCode::read_only);
  EXPECT_FALSE(store_->close().ok());
  store_ = std::move(*second);
  put("other", "owner");
  close();
  expect_sound();
}

// ---- A map of many leaves, which are read together

class LargeMapTest : public StoreFixture {
 protected:
  static constexpr uint64_t kLeaves = 5;

  void SetUp() override {
    sim::SimOptions options;
    options.size_bytes = uint64_t{1} << 30;
    options.log_commands = true;
    disk_ = std::make_shared<sim::SimDisk>(options);
    device_ = sim::open_sim_device(*context_, disk_);
    FormatOptions format = small_format();
    format.metadata_bytes = kLeaves * kPagesPerMapLeaf * kBlockBytes;
    ASSERT_TRUE(BlobStore::format(*context_, *device_, format).ok());
    open();
    put("key", "value");
    close();
    run_ = superblock(newest_slot()).metadata_runs[0];
    const auto index = read_raw(place(superblock(newest_slot()).page_map.page, 0));
    PageHeader header;
    std::memcpy(&header, index.data(), sizeof header);
    leaves_.resize(header.cell_count);
    std::memcpy(leaves_.data(), index.data() + sizeof(PageHeader),
                leaves_.size() * sizeof(PageRef));
    ASSERT_EQ(leaves_.size(), kLeaves);
  }
  uint64_t place(uint64_t page, unsigned copy) const { return run_.first_block[copy] + page; }
  void expect_open_with(uint64_t damaged_copies) {
    const auto store = try_open(OpenMode::read_only);
    ASSERT_TRUE(store) << store.error().to_string();
    EXPECT_EQ((*store)->stats().damaged_copies_used, damaged_copies);
    EXPECT_EQ(*(*store)->catalog_get("key"), "value");
  }
  std::shared_ptr<sim::SimDisk> disk_;
  MetadataRun run_{};
  std::vector<PageRef> leaves_;
};

TEST_F(LargeMapTest, OpensWithFewReads) {
  disk_->clear_commands();
  ASSERT_TRUE(try_open(OpenMode::read_only));
  uint64_t reads = 0;
  for (const sim::SimCommand& command : disk_->commands()) {
    const uint64_t first = command.lba.value / 8, end = first + command.block_count.value / 8;
    for (const PageRef& leaf : leaves_) {
      if (place(leaf.page, 0) < first || place(leaf.page, 0) >= end) continue;
      ++reads;
      break;
    }
  }
  EXPECT_GT(reads, 0u);
  EXPECT_LT(reads, kLeaves);
}

TEST_F(LargeMapTest, EachLeafIsReadFromTheOtherCopy) {
  for (const PageRef& leaf : leaves_) {
    damage(place(leaf.page, 0));
    expect_open_with(1);
    damage(place(leaf.page, 1));
    const auto lost = try_open(OpenMode::read_only);
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code(), StatusCode::corruption);
    const std::string name = "metadata page " + std::to_string(leaf.page) + " copy ";
    for (const char* copy : {"0", "1"}) {
      EXPECT_NE(lost.error().message().find(name + copy), std::string_view::npos)
          << lost.error().to_string();
    }
    for (unsigned copy = 0; copy < 2; ++copy) damage(place(leaf.page, copy));  // flips it back
  }
  expect_open_with(0);
}

// The leaves read together with it are not taken for damaged.
TEST_F(LargeMapTest, AnUnreadableLeafIsReadFromTheOtherCopy) {
  for (const PageRef& leaf : leaves_) {
    disk_->inject({{Op::read}, Lba{place(leaf.page, 0) * 8}, BlockCount{8}, StatusCode::io_error});
    expect_open_with(1);
    disk_->clear_faults();
  }
}

// ---- Devices that fail

class FailingDeviceTest : public StoreFixture {
 protected:
  void SetUp() override {
    sim::SimOptions options;
    options.size_bytes = 32 << 20;
    disk_ = std::make_shared<sim::SimDisk>(options);
    device_ = sim::open_sim_device(*context_, disk_);
    ASSERT_TRUE(BlobStore::format(*context_, *device_, small_format()).ok());
    open();
    put("before", "the fault");
    make_durable();
    const Superblock sb = superblock(0);
    journal_ = {sb.journal_first_block, sb.journal_blocks};
    metadata_ = {sb.metadata_runs[0].first_block[0], sb.metadata_runs[0].page_count};
  }
  void inject(OpSet ops, BlockRange blocks, uint64_t times = ~uint64_t{0}) {
    disk_->inject(
        {ops, Lba{blocks.first * 8}, BlockCount{blocks.count * 8}, StatusCode::io_error, times});
  }
  // After a failed write nothing more is accepted; what was durable is there at the next opening.
  void expect_dead_and_recoverable() {
    ASSERT_EQ(store_->health().code(), StatusCode::read_only);
    Transaction txn;
    txn.catalog_put("after", "the fault");
    EXPECT_EQ(store_->apply(txn).error().code(), StatusCode::read_only);
    EXPECT_EQ(get("before"), "the fault");  // reading goes on
    EXPECT_FALSE(store_->close().ok());
    store_.reset();
    disk_->clear_faults();
    open();
    EXPECT_EQ(get("before"), "the fault");
    EXPECT_EQ(get("after"), "<not found: no such catalog key>");
    close();
    expect_sound();
  }
  std::shared_ptr<sim::SimDisk> disk_;
  BlockRange journal_, metadata_;
};

TEST_F(FailingDeviceTest, AJournalWriteFails) {
  inject({Op::write}, journal_, 1);
  put("lost", "or not");
  const Status status = store_->wait_durable(store_->last_ticket());
  EXPECT_EQ(status.code(), StatusCode::io_error) << status.to_string();
  EXPECT_NE(status.message().find("journal"), std::string_view::npos);
  // The next attempt does not succeed by luck.
  EXPECT_FALSE(store_->wait_durable(store_->last_ticket()).ok());
  expect_dead_and_recoverable();
}

TEST_F(FailingDeviceTest, ACheckpointsPageWriteFails) {
  inject({Op::write}, metadata_, 1);
  EXPECT_EQ(store_->checkpoint().code(), StatusCode::io_error);
  expect_dead_and_recoverable();
}

TEST_F(FailingDeviceTest, ASuperblockWriteFails) {
  for (const uint64_t offset : kSuperblockOffset) inject({Op::write}, {offset / kBlockBytes, 1});
  EXPECT_EQ(store_->checkpoint().code(), StatusCode::io_error);
  expect_dead_and_recoverable();
}

TEST_F(FailingDeviceTest, AFlushFails) {
  inject({Op::flush}, {0, 8192}, 1);
  EXPECT_EQ(store_->checkpoint().code(), StatusCode::io_error);
  expect_dead_and_recoverable();
}

TEST_F(FailingDeviceTest, AsynchronousWaitersHearOfIt) {
  struct Told : DurableWaiter {
    std::atomic<int> calls{0};
    std::atomic<StatusCode> code{StatusCode::ok};
  } waiters[5];
  for (int i = 0; i < 5; ++i) put("lost" + std::to_string(i), "or not");
  inject({Op::write}, journal_);
  for (Told& waiter : waiters) {
    waiter.ticket = store_->last_ticket();
    waiter.done = [](DurableWaiter& told, const Status& status) {
      static_cast<Told&>(told).code = status.code();
      ++static_cast<Told&>(told).calls;
    };
    store_->when_durable(waiter);
  }
  for (Told& waiter : waiters) {
    for (int i = 0; i < 2000 && waiter.calls == 0; ++i) sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(waiter.calls, 1);
    EXPECT_NE(waiter.code, StatusCode::ok);
  }
}

TEST_F(FailingDeviceTest, AnUnreadableCopyIsLikeADamagedOne) {
  close();
  inject({Op::read}, metadata_);
  open();
  EXPECT_EQ(get("before"), "the fault");
  EXPECT_GT(store_->stats().damaged_copies_used, 0u);
}

TEST_F(FailingDeviceTest, ADataWriteFailureIsTheCallersAlone) {
  const BlobId id = make_blob(16);
  auto blob = store_->open_blob(id);
  const uint64_t physical = store_->extents(**blob, {0, 16})[0].physical;
  inject({Op::write}, {physical + 2, 1}, 1);
  const std::vector<std::byte> bytes(16 * kBlockBytes, std::byte{1});
  const Status status = store_->write(**blob, 0, bytes, Unwritten::zeros);
  EXPECT_EQ(status.code(), StatusCode::io_error);
  EXPECT_NE(status.message().find("blob " + std::to_string(id.value)), std::string_view::npos);
  EXPECT_TRUE(store_->health().ok());
  std::vector<std::byte> back(bytes.size());
  ASSERT_TRUE(store_->read(**blob, 0, back, Unwritten::zeros).ok());
  EXPECT_EQ(back, std::vector<std::byte>(bytes.size()));  // still unwritten
  EXPECT_TRUE(store_->write(**blob, 0, bytes, Unwritten::zeros).ok());
}

TEST_F(FailingDeviceTest, ADisappearingDeviceEndsEveryWait) {
  std::vector<Thread> threads;
  std::atomic<unsigned> ended{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back("commit", [&, t] {
      for (int i = 0; i < 100000; ++i) {
        Transaction txn;
        txn.catalog_put("key" + std::to_string(t), std::to_string(i));
        const auto ticket = store_->apply(txn);
        if (!ticket || !store_->wait_durable(*ticket).ok()) break;
      }
      ++ended;
    });
  }
  sleep_for(std::chrono::milliseconds(30));
  disk_->power_cut();
  for (Thread& thread : threads) thread.join();
  EXPECT_EQ(ended, 4u);
  EXPECT_FALSE(store_->health().ok());
}

}  // namespace
}  // namespace basalt::blob
