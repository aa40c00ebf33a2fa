// Goal: whatever the moment of a power cut and whichever unflushed writes survive it, the store opens as
// it was after some transaction that is not older than the last one reported durable: catalog, blobs,
// mappings, and the bytes of every block recorded as written; blocks that are not read as zeros. The
// same holds when, in addition, either superblock is damaged while the power is off.
// Method: seeded random work on the simulated disk, cut after a random number of commands; several
// survivors of each cut are opened, compared with the model's state at that transaction and checked;
// the work goes on from one of them. Small regions make journal, metadata and clusters turn over fast.
#include <gtest/gtest.h>

#include "blob/blob_store.h"
#include "blob/format.h"
#include "sim/replay.h"
#include "sim/seeded_random.h"
#include "sim/sim_device.h"
#include "sim/step_clock.h"
#include "sim/step_executor.h"

#include <map>
#include <optional>
#include <vector>

namespace basalt::blob {
namespace {

constexpr uint64_t kUnit = 4;  // blocks per cluster

class Silence final : public LogSink {
  void log(LogLevel, std::string_view, std::string_view) override {}
};

struct ModelBlock {
  uint64_t version = 0;  // of its bytes on the device; 0: none
  bool written = false;  // recorded as written
};
struct ModelBlob {
  uint64_t size = 0;
  std::map<uint64_t, ModelBlock> blocks;  // the mapped ones
};
struct Model {
  std::map<std::string, std::string> catalog;
  std::map<BlobId, ModelBlob> blobs;
};

class PowerCutTest : public testing::TestWithParam<uint64_t> {
 protected:
  PowerCutTest() {
    ContextOptions options;
    options.log = &silence_;
    options.clock = &clock_;
    options.random = &store_random_;
    options.executor = &executor_;
    options.boot_id = "boot";
    context_ = std::move(*Context::create(options));
  }
  ~PowerCutTest() override { let_go(); }

  void format() {
    sim::SimOptions options;
    options.size_bytes = 18 << 20;
    options.seed = GetParam();
    options.native_fua = GetParam() % 2 == 0;
    options.atomic_blocks = GetParam() % 3 == 0 ? 8 : 1;
    disk_ = std::make_shared<sim::SimDisk>(options);
    const auto device = sim::open_sim_device(*context_, disk_);
    FormatOptions format;
    format.cluster_bytes = kUnit * kBlockBytes;
    format.journal_bytes = 512 << 10;
    format.metadata_bytes = 1 << 20;
    format.data_checksums = has_checksums();
    const Status status = BlobStore::format(*context_, *device, format);
    ASSERT_TRUE(status.ok()) << status.to_string();
  }
  Status open(std::shared_ptr<sim::SimDisk> disk) {
    device_ = sim::open_sim_device(*context_, std::move(disk));
    StoreOptions options;
    options.metadata_cache_bytes = 256 << 10;
    options.discard = GetParam() % 2 == 1;
    auto store = BlobStore::open(*context_, *device_, options);
    if (!store) return store.error();
    store_ = std::move(*store);
    return {};
  }
  bool has_checksums() const { return GetParam() % 4 < 2; }
  void let_go() {
    if (store_ != nullptr) store_->abandon();
    store_.reset();
    device_.reset();
  }

  bool commit(Transaction& txn, const Model& after) {
    const auto ticket = store_->apply(txn);
    if (!ticket) return ticket.error().code() == StatusCode::no_space;  // nothing has changed
    now_ = after;
    history_[ticket->value] = after;
    return true;
  }
  // False when the power has gone.
  bool step();
  bool write_some(BlobId id);
  void run_until_cut(uint64_t commands);
  void compare(const std::string& where);

  Silence silence_;
  sim::StepClock clock_;
  sim::SeededRandom store_random_{GetParam()};
  sim::StepExecutor executor_;
  std::unique_ptr<Context> context_;
  std::shared_ptr<sim::SimDisk> disk_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<BlobStore> store_;
  sim::Random random_{GetParam()};
  Model now_;                          // as applied
  std::map<uint64_t, Model> history_;  // by ticket, since the last known durable
  uint64_t durable_ = 0;
  uint64_t next_version_ = 1;
};

// Writes unwritten blocks of the blob and records them; where it has checksums, also some that are recorded,
// which is a transaction each, and takes the cluster's pending blocks along.
bool PowerCutTest::write_some(BlobId id) {
  auto blob = store_->open_blob(id);
  if (!blob) return false;
  for (auto& [block, state] : now_.blobs[id].blocks) {
    const bool exchanges = state.written && has_checksums() && random_.chance(10);
    if ((state.version != 0 && !exchanges) || random_.chance(50)) continue;
    const uint64_t version = next_version_++;
    std::vector<uint64_t> words(kBlockBytes / 8, version);
    const Ticket before = store_->last_ticket();
    const Status status = store_->write(**blob, block * kBlockBytes,
                                        std::as_bytes(std::span(words)), Unwritten::zeros);
    if (status.code() == StatusCode::no_space) continue;
    if (!status.ok()) return false;
    state.version = version;
    if (!exchanges) continue;
    EXPECT_EQ(store_->last_ticket().value, before.value + 1);
    auto& blocks = now_.blobs[id].blocks;
    const uint64_t cluster = block / kUnit * kUnit;
    for (auto at = blocks.lower_bound(cluster); at != blocks.lower_bound(cluster + kUnit); ++at) {
      at->second.written = at->second.version != 0;
    }
    // Pending blocks of other clusters are as yet unwritten in this state: what was written, not recorded.
    history_[store_->last_ticket().value] = now_;
  }
  Transaction txn;
  EXPECT_FALSE(store_->mark_written(txn, **blob));
  if (txn.empty()) return true;
  Model after = now_;
  for (auto& [block, state] : after.blobs[id].blocks) state.written = state.version != 0;
  if (!commit(txn, after)) return false;
  // Where there was no space for that, what was written goes with the open blob.
  for (auto& [block, state] : now_.blobs[id].blocks) {
    if (!state.written) state.version = 0;
  }
  return true;
}

bool PowerCutTest::step() {
  Transaction txn;
  Model after = now_;
  const uint64_t kind = random_.below(100);
  const auto pick = [&] {
    auto at = after.blobs.begin();
    std::advance(at, static_cast<long>(random_.below(after.blobs.size())));
    return at;
  };
  if (kind < 10 || after.blobs.empty()) {
    const BlobId id = store_->new_blob_id();
    txn.create_blob(id, {.checksums = has_checksums()});
    after.blobs[id];
    return commit(txn, after);
  }
  if (kind < 35) {
    const auto blob = pick();
    const BlockRange range{random_.below(40) * kUnit, (1 + random_.below(20)) * kUnit};
    const Status status = store_->allocate(txn, blob->first, range);
    if (status.code() == StatusCode::no_space) return true;
    if (!status.ok()) return false;
    for (uint64_t block = range.first; block < range.end(); ++block) blob->second.blocks[block];
    return txn.empty() || commit(txn, after);
  }
  if (kind < 58) return write_some(pick()->first);
  if (kind < 60) {
    if (!has_checksums()) return true;  // others may hold the bytes of a later write after a cut
    const auto blob = pick();
    auto open = store_->open_blob(blob->first);
    if (!open) return false;
    const BlockRange range{random_.below(160), 1 + random_.below(12)};
    store_->mark_unwritten(txn, **open, range);
    for (uint64_t block = range.first; block < range.end(); ++block) {
      if (const auto at = blob->second.blocks.find(block); at != blob->second.blocks.end()) {
        at->second = {};
      }
    }
    return txn.empty() || commit(txn, after);
  }
  if (kind < 70) {
    const auto blob = pick();
    const BlockRange range{random_.below(40) * kUnit, (1 + random_.below(20)) * kUnit};
    const auto rest = store_->free_range(txn, blob->first, range);
    if (!rest || !rest->empty() || txn.empty()) return rest.has_value();
    for (uint64_t block = range.first; block < range.end(); ++block)
      blob->second.blocks.erase(block);
    return commit(txn, after);
  }
  if (kind < 75) {
    const auto blob = pick();
    const auto rest = store_->free_range(txn, blob->first, {0, 80 * kUnit});
    if (!rest || !rest->empty()) return rest.has_value();
    txn.delete_blob(blob->first);
    after.blobs.erase(blob);
    return commit(txn, after);
  }
  if (kind < 90) {
    const unsigned count = 1 + static_cast<unsigned>(random_.below(20));
    for (unsigned i = 0; i < count; ++i) {
      const std::string key = "key" + std::to_string(random_.below(300));
      if (random_.chance(30)) {
        txn.catalog_erase(key);
        after.catalog.erase(key);
      } else {
        const std::string value(random_.below(300), static_cast<char>('a' + random_.below(26)));
        txn.catalog_put(key, value);
        after.catalog[key] = value;
      }
    }
    return commit(txn, after);
  }
  if (kind < 92) return store_->checkpoint().ok();
  if (kind < 95) return executor_.run_one(), true;
  const Ticket ticket = store_->last_ticket();
  if (!store_->wait_durable(ticket).ok()) return false;
  durable_ = ticket.value;
  history_.erase(history_.begin(), history_.lower_bound(durable_));
  return true;
}

void PowerCutTest::run_until_cut(uint64_t commands) {
  disk_->cut_after(commands);
  for (int i = 0; i < 3000 && !disk_->is_cut(); ++i) {
    if (!step() && !disk_->is_cut()) {
      FAIL() << "a step failed with the power on; health: " << store_->health().to_string();
    }
  }
  disk_->power_cut();
}

void PowerCutTest::compare(const std::string& where) {
  SCOPED_TRACE(where);
  const uint64_t ticket = store_->last_ticket().value;
  ASSERT_GE(ticket, durable_);
  ASSERT_TRUE(history_.contains(ticket)) << "ticket " << ticket << " was never given";
  const Model& model = history_[ticket];
  std::map<std::string, std::string> catalog;
  ASSERT_TRUE(store_
                  ->catalog_scan("",
                                 [&](std::string_view key, std::string_view value) {
                                   catalog.emplace(key, value);
                                   return true;
                                 })
                  .ok());
  ASSERT_EQ(catalog, model.catalog);
  std::vector<BlobId> ids;
  ASSERT_TRUE(store_
                  ->for_each_blob([&](BlobId id, const BlobInfo&) {
                    ids.push_back(id);
                    return true;
                  })
                  .ok());
  ASSERT_EQ(ids.size(), model.blobs.size());
  for (const BlobId id : ids) {
    ASSERT_TRUE(model.blobs.contains(id));
    const ModelBlob& expected = model.blobs.at(id);
    EXPECT_EQ(store_->info(id)->allocated_blocks, expected.blocks.size());
    auto blob = store_->open_blob(id);
    ASSERT_TRUE(blob);
    std::vector<uint64_t> words(64 * kUnit * kBlockBytes / 8);
    const Status read =
        store_->read(**blob, 0, std::as_writable_bytes(std::span(words)), Unwritten::zeros);
    ASSERT_TRUE(read.ok()) << read.to_string();
    for (size_t word = 0; word < words.size(); ++word) {
      const auto at = expected.blocks.find(word / (kBlockBytes / 8));
      const bool written = at != expected.blocks.end() && at->second.written;
      ASSERT_EQ(words[word], written ? at->second.version : 0)
          << "ticket " << ticket << " (durable " << durable_ << ") blob " << id.value << " block "
          << word / (kBlockBytes / 8);
    }
  }
}

TEST_P(PowerCutTest, EverySurvivorIsAStateThatWas) {
  SCOPED_TRACE(sim::replay_hint(GetParam()));
  format();
  ASSERT_TRUE(open(disk_).ok());
  history_[store_->last_ticket().value] = now_;
  for (int cut = 0; cut < 8; ++cut) {
    const uint64_t commands = cut % 4 == 3 ? 2000 : 1 + random_.below(400);
    run_until_cut(commands);
    if (HasFatalFailure()) return;
    let_go();
    std::shared_ptr<sim::SimDisk> next;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const auto survivor = disk_->surviving_image(seed == 5 ? random_.next() : seed);
      // One of the superblocks damaged while the power was off.
      if (seed == 3) survivor->corrupt(kSuperblockOffset[0], kBlockBytes, sim::Damage::garbage);
      if (seed == 4) survivor->corrupt(kSuperblockOffset[1], kBlockBytes, sim::Damage::garbage);
      const std::string where = "cut " + std::to_string(cut) + " survivor " + std::to_string(seed);
      const Status status = open(survivor);
      ASSERT_TRUE(status.ok()) << where << ": " << status.to_string();
      compare(where);
      if (HasFatalFailure()) return;
      const uint64_t ticket = store_->last_ticket().value;
      let_go();
      auto report = check_store(*context_, *sim::open_sim_device(*context_, survivor), {});
      ASSERT_TRUE(report) << report.error().to_string();
      for (const std::string& problem : report->problems) ADD_FAILURE() << where << ": " << problem;
      if (HasFailure()) return;
      if (seed == 5) {
        next = survivor;
        now_ = history_[ticket];
        for (auto& [id, blob] : now_.blobs) {
          for (auto& [block, state] : blob.blocks) {
            if (!state.written) state.version = 0;  // forgotten, reads as zeros
          }
        }
        history_ = {{ticket, now_}};
        durable_ = ticket;
      }
    }
    disk_ = next;
    ASSERT_TRUE(open(disk_).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, PowerCutTest, sim::seeds(24), sim::name_of_seed);

// The harness would notice: on a disk that lies about flushes, a state that was durable is lost.
TEST(PowerCutHarness, NoticesADiskThatIgnoresFlushes) {
  Silence silence;
  sim::StepExecutor executor;
  ContextOptions options;
  options.log = &silence;
  options.executor = &executor;
  options.boot_id = "boot";
  auto context = std::move(*Context::create(options));
  unsigned lost = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    sim::SimOptions sim_options;
    sim_options.size_bytes = 18 << 20;
    sim_options.seed = seed;
    auto honest = std::make_shared<sim::SimDisk>(sim_options);
    FormatOptions format;
    format.metadata_bytes = 1 << 20;
    ASSERT_TRUE(BlobStore::format(*context, *sim::open_sim_device(*context, honest), format).ok());
    sim_options.ignore_flush = true;
    auto disk = std::make_shared<sim::SimDisk>(sim_options, honest->image());
    auto device = sim::open_sim_device(*context, disk);
    auto store = std::move(*BlobStore::open(*context, *device, {}));
    Ticket ticket;
    for (int i = 0; i < 20; ++i) {
      Transaction txn;
      txn.catalog_put("key" + std::to_string(i), "value");
      ticket = *store->apply(txn);
      ASSERT_TRUE(store->wait_durable(ticket).ok());
    }
    disk->power_cut();
    store->abandon();
    store.reset();
    device.reset();
    const auto survivor = disk->surviving_image(seed);
    auto survivor_device = sim::open_sim_device(*context, survivor);
    auto again = BlobStore::open(*context, *survivor_device, {});
    lost += !again || (*again)->last_ticket() < ticket;
    if (again) (*again)->abandon();
  }
  EXPECT_GT(lost, 0u);
}

}  // namespace
}  // namespace basalt::blob
