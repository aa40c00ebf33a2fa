// Goal: what deletions free is discarded, all of it, in fewer commands than there were deletions. Method: a
// store on a simulated disk that keeps its commands, with the usual executor.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "blob/blob_store.h"
#include "sim/sim_device.h"

namespace basalt::blob {
namespace {

TEST(Discards, ManyDeletionsMakeFewCommands) {
  constexpr unsigned kBlobs = 60;
  auto context = Context::create();
  ASSERT_TRUE(context);
  const auto disk = std::make_shared<sim::SimDisk>(sim::SimOptions{.log_commands = true});
  const auto device = sim::open_sim_device(**context, disk);
  ASSERT_TRUE(BlobStore::format(**context, *device, {}).ok());
  StoreOptions options;
  options.discard = true;
  auto store = BlobStore::open(**context, *device, options);
  ASSERT_TRUE(store) << store.error().to_string();
  const uint64_t cluster_bytes = (*store)->space().cluster_bytes;
  std::vector<BlobId> blobs;
  for (unsigned i = 0; i < kBlobs; ++i) {
    Transaction txn;
    blobs.push_back((*store)->new_blob_id());
    txn.create_blob(blobs.back(), {});
    ASSERT_TRUE((*store)->allocate(txn, blobs.back(), {0, cluster_bytes / kBlockBytes}).ok());
    ASSERT_TRUE((*store)->apply(txn));
  }
  for (const BlobId id : blobs) ASSERT_TRUE((*store)->delete_blob(id).ok());
  ASSERT_TRUE((*store)->wait_durable((*store)->last_ticket()).ok());
  uint64_t bytes = 0, commands = 0;
  for (int i = 0; i < 1000 && bytes < kBlobs * cluster_bytes; ++i) {
    sleep_for(std::chrono::milliseconds(10));
    bytes = commands = 0;
    for (const sim::SimCommand& command : disk->commands()) {
      if (command.op != Op::discard) continue;
      ++commands;
      bytes += command.block_count.value * disk->options().block_bytes;
    }
  }
  EXPECT_EQ(bytes, kBlobs * cluster_bytes);
  EXPECT_LT(commands, kBlobs / 2);
  EXPECT_TRUE((*store)->close().ok());
}

}  // namespace
}  // namespace basalt::blob
