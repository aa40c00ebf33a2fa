// Goal: what opening accepts is made durable before anything it rests on is overwritten. Method: the newest
// superblock lies in the device's cache, as a process left it that died before it was told; the power is cut
// at every command of the next opening.
#include "repair_fixture.h"

namespace basalt::blob {
namespace {

class OpeningPowerTest : public RepairTest {};

TEST_F(OpeningPowerTest, ACachedSuperblockIsSafeBeforeTheOtherOneGoes) {
  use(image_);
  open();
  Superblock before[2];
  for (int round = 0; round < 2; ++round) {
    for (unsigned slot = 0; slot < 2; ++slot) before[slot] = superblock(slot);
    for (int i = 0; i < 200; ++i) put(key(i), "round " + std::to_string(round));
    // A blob, so that the superblocks differ in two sectors and can be torn; durable, else the checkpoint goes
    // into both slots.
    add_blob("round " + std::to_string(round));
    make_durable();
    ASSERT_TRUE(store_->checkpoint().ok());
  }
  const StoreContent content = *content_of(*store_);
  kill();
  const unsigned slot = newest_slot();
  const Superblock newest = superblock(slot);
  sim::SimImage image = disk_->image();
  image.write(kSuperblockOffset[slot], std::as_bytes(std::span(&before[slot], 1)));
  uint64_t cuts = 0;
  for (bool cut = true; cut; ++cuts) {
    SCOPED_TRACE("cut after " + std::to_string(cuts + 1));
    use(image);
    write_raw(kSuperblockBlock[slot], std::as_bytes(std::span(&newest, 1)));
    disk_->cut_after(cuts + 1);
    if (auto store = try_open()) (*store)->abandon();
    cut = disk_->is_cut();
    disk_->power_cut();
    const auto at_the_cut = disk_;
    for (uint64_t seed = 0; seed < 200; ++seed) {
      use(at_the_cut->surviving_image(seed));
      const auto found = content_after_opening();
      ASSERT_TRUE(found) << "survivor " << seed << ": " << found.error().to_string();
      ASSERT_EQ(*found, content) << "survivor " << seed;
    }
  }
  EXPECT_GE(cuts, 3u) << "a flush and two superblocks";
}

}  // namespace
}  // namespace basalt::blob
