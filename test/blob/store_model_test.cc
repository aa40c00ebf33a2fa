// Goal: any history of transactions, data writes, checkpoints and reopenings leaves the blob store as a
// plain model in memory says.
// Method: seeded random operations on a small RAM device with small regions, so that the journal wraps,
// the metadata region fills and clusters are reused; the store is reopened cleanly or abandoned (as after
// the death of its process) and compared with the model, byte for byte. Background work is done in steps
// between, so that a seed repeats exactly.
#include <gtest/gtest.h>

#include <basalt/device.h>

#include "bdev/ram/ram_device.h"
#include "blob/blob_store.h"
#include "sim/replay.h"
#include "sim/seeded_random.h"
#include "sim/step_clock.h"
#include "sim/step_executor.h"

#include <map>
#include <random>

namespace basalt::blob {
namespace {

struct ModelBlob {
  std::map<uint64_t, uint8_t> written;  // block → fill byte
  std::map<uint64_t, bool> mapped;
  uint64_t size = 0;
};

class StoreModelTest : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    ContextOptions context;
    context.clock = &clock_;
    context.random = &store_random_;
    context.executor = &executor_;
    context.boot_id = "boot";
    context_ = std::move(*Context::create(context));
    register_ram_scheme(*context_);
    device_ = std::move(*open_device(*context_, "ram:32M"));
    FormatOptions options;
    options.cluster_bytes = 16384;
    options.journal_bytes = 1 << 20;
    options.metadata_bytes = 2 << 20;
    options.data_checksums = GetParam() % 2 == 0;
    ASSERT_TRUE(BlobStore::format(*context_, *device_, options).ok());
    open();
  }
  void open() {
    StoreOptions options;
    options.metadata_cache_bytes = 1 << 20;
    auto store = BlobStore::open(*context_, *device_, options);
    ASSERT_TRUE(store) << store.error().to_string();
    store_ = std::move(*store);
  }

  BlobId pick() {
    auto at = model_.begin();
    std::advance(at, static_cast<long>(random_() % model_.size()));
    return at->first;
  }
  void step();
  void compare();

  std::mt19937 random_{static_cast<uint32_t>(GetParam())};
  sim::StepClock clock_;
  sim::SeededRandom store_random_{GetParam()};
  sim::StepExecutor executor_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<BlobStore> store_;
  std::map<BlobId, ModelBlob> model_;
  std::map<std::string, std::string> catalog_;
  unsigned allocations_ = 0;
};

void StoreModelTest::step() {
  const unsigned choice = random_() % 100;
  if (random_() % 8 == 0) executor_.run_one();
  Transaction txn;
  if (model_.empty() || choice < 15) {
    const BlobId id = store_->new_blob_id();
    txn.create_blob(id, {.checksums = GetParam() % 2 == 0 && random_() % 2 == 0});
    txn.set_size(id, 17);
    ASSERT_TRUE(store_->apply(txn));
    model_[id].size = 17;
  } else if (choice < 40) {
    const BlobId id = pick();
    const BlockRange range{random_() % 256, 1 + random_() % 40};
    const Status status = store_->allocate(txn, id, range);
    if (status.code() == StatusCode::no_space) {
      // Only when there is indeed not enough, or all of it waits for a transaction to be durable.
      const StoreSpace space = store_->space();
      ASSERT_LT(space.free_clusters - space.kept_clusters, (range.count + 6) / 4);
      return;
    }
    ASSERT_TRUE(status.ok()) << status.to_string();
    ++allocations_;
    ASSERT_TRUE(store_->apply(txn));
    const uint64_t first = range.first / 4 * 4, end = (range.end() + 3) / 4 * 4;
    for (uint64_t block = first; block < end; ++block) model_[id].mapped[block] = true;
  } else if (choice < 65) {
    const BlobId id = pick();
    if (model_[id].mapped.empty()) return;
    auto blob = store_->open_blob(id);
    ASSERT_TRUE(blob);
    const uint64_t block = model_[id].mapped.begin()->first + random_() % 8;
    if (!model_[id].mapped.contains(block)) return;
    const uint8_t fill = static_cast<uint8_t>(random_());
    const std::vector<std::byte> bytes(kBlockBytes, std::byte{fill});
    const Status status = store_->write(**blob, block * kBlockBytes, bytes, Unwritten::zeros);
    ASSERT_TRUE(status.ok()) << status.to_string();
    ASSERT_FALSE(store_->mark_written(txn, **blob));
    if (!txn.empty()) {
      ASSERT_TRUE(store_->apply(txn));
    }
    model_[id].written[block] = fill;
  } else if (choice < 72) {
    const BlobId id = pick();
    const BlockRange range{random_() % 64 * 4, 4 + random_() % 20 * 4};
    const auto rest = store_->free_range(txn, id, range);
    ASSERT_TRUE(rest);
    ASSERT_TRUE(rest->empty());
    if (txn.empty()) return;
    ASSERT_TRUE(store_->apply(txn));
    for (uint64_t block = range.first; block < range.end(); ++block) {
      model_[id].mapped.erase(block);
      model_[id].written.erase(block);
    }
  } else if (choice < 80) {
    const BlobId id = pick();
    const Status status = store_->delete_blob(id);
    ASSERT_TRUE(status.ok()) << status.to_string();
    model_.erase(id);
  } else if (choice < 95) {
    const std::string key =
        "key" + std::to_string(random_() % 300) + std::string(random_() % 100, 'k');
    if (random_() % 3 == 0) {
      txn.catalog_erase(key);
      catalog_.erase(key);
    } else {
      const std::string value(random_() % 400, static_cast<char>('a' + random_() % 26));
      txn.catalog_put(key, value);
      catalog_[key] = value;
    }
    const auto ticket = store_->apply(txn);
    ASSERT_TRUE(ticket) << ticket.error().to_string();
    if (random_() % 4 == 0) {
      ASSERT_TRUE(store_->wait_durable(*ticket).ok());
    }
  } else if (choice < 97) {
    ASSERT_TRUE(store_->checkpoint().ok());
  } else if (choice < 98) {
    ASSERT_TRUE(store_->close().ok());
    store_.reset();
    open();
  }
}

void StoreModelTest::compare() {
  std::map<std::string, std::string> found;
  ASSERT_TRUE(store_
                  ->catalog_scan("",
                                 [&](std::string_view key, std::string_view value) {
                                   found.emplace(key, value);
                                   return true;
                                 })
                  .ok());
  EXPECT_EQ(found, catalog_);
  uint64_t mapped_clusters = 0;
  std::vector<BlobId> ids;
  ASSERT_TRUE(store_
                  ->for_each_blob([&](BlobId id, const BlobInfo& info) {
                    ids.push_back(id);
                    mapped_clusters += info.allocated_blocks / 4;
                    return true;
                  })
                  .ok());
  ASSERT_EQ(ids.size(), model_.size());
  for (const BlobId id : ids) {
    ASSERT_TRUE(model_.contains(id));
    const ModelBlob& expected = model_[id];
    auto blob = store_->open_blob(id);
    ASSERT_TRUE(blob);
    EXPECT_EQ(store_->info(id)->allocated_blocks, expected.mapped.size());
    std::vector<std::byte> bytes(320 * kBlockBytes);
    ASSERT_TRUE(store_->read(**blob, 0, bytes, Unwritten::zeros).ok());
    for (uint64_t block = 0; block < 320; ++block) {
      const auto at = expected.written.find(block);
      const std::byte fill{at == expected.written.end() ? uint8_t{0} : at->second};
      ASSERT_EQ(bytes[block * kBlockBytes], fill) << "blob " << id.value << " block " << block;
      ASSERT_EQ(bytes[block * kBlockBytes + 4095], fill);
    }
  }
  const StoreSpace space = store_->space();
  // Fixed regions: two superblock clusters, journal, two copies of the metadata.
  const uint64_t fixed = 2 + (1 << 20) / 16384 + 2 * ((2 << 20) / 16384);
  EXPECT_EQ(space.free_clusters + mapped_clusters + fixed, space.cluster_count);
}

TEST_P(StoreModelTest, HistoryMatchesModel) {
  SCOPED_TRACE(sim::replay_hint(GetParam()));
  for (int round = 0; round < 12; ++round) {
    for (int i = 0; i < 400; ++i) {
      step();
      if (HasFatalFailure()) return;
    }
    compare();
    if (HasFatalFailure()) return;
    // All that was applied is made durable, then the store is left without closing.
    ASSERT_TRUE(store_->wait_durable(store_->last_ticket()).ok());
    if (round % 2 == 0) {
      ASSERT_TRUE(store_->close().ok());
    } else {
      store_->abandon();
    }
    store_.reset();
    const auto report = check_store(*context_, *device_, {});
    ASSERT_TRUE(report) << report.error().to_string();
    ASSERT_TRUE(report->problems.empty()) << report->problems.front();
    ASSERT_TRUE(report->notes.empty()) << report->notes.front();
    open();
    if (HasFatalFailure()) return;
    compare();
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(allocations_, 500u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, StoreModelTest, sim::seeds(8), sim::name_of_seed);

}  // namespace
}  // namespace basalt::blob
