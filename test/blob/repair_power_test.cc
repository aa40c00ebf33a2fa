// Goal: a repair never changes what opening finds: state, epoch, open id. Losing power in the middle leaves a
// store that opens and that a second repair finishes.
// Method: power cut at every command of a repair; stores crashed at every command of their work, with either
// superblock damaged, opened before and after the repair.
#include "repair_fixture.h"

namespace basalt::blob {
namespace {

class RepairPowerTest : public RepairTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    native_fua_ = GetParam();
    RepairTest::SetUp();
  }
};

TEST_P(RepairPowerTest, ACutAtEveryCommandIsFinishedByTheNextRepair) {
  use(image_);
  for (const uint64_t page : pages_) corrupt(place(page, page % 2));
  corrupt(kSuperblockBlock[1]);
  const sim::SimImage damaged = disk_->image();
  ASSERT_EQ(repair().problems, Sentences{});
  const uint64_t commands = disk_->counters().media_commands;
  EXPECT_GE(commands, pages_.size() + 3);
  for (uint64_t cut = 1; cut <= commands; ++cut) {
    SCOPED_TRACE("cut after " + std::to_string(cut) + " of " + std::to_string(commands));
    use(damaged);
    disk_->cut_after(cut);
    (void)check_store(*context_, *device_, {.mode = CheckMode::repair});
    disk_->power_cut();
    const auto at_the_cut = disk_;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      use(at_the_cut->surviving_image(seed));
      const auto content = content_after_opening();
      ASSERT_TRUE(content) << content.error().to_string();
      ASSERT_EQ(*content, content_);
      ASSERT_EQ(repair().problems, Sentences{});
      expect_untouched_by_check();
      if (seed != 3) continue;
      open();
      ASSERT_EQ(*content_of(*store_), content_);
      close();
      expect_sound();
    }
    if (HasFailure()) return;
  }
}

// The page map and the free space, lost altogether: until they are made anew the store may not open, but the next
// repair always makes it do so.
TEST_P(RepairPowerTest, ACutAtEveryCommandOfARebuild) {
  use(image_);
  for (const uint64_t page : pages_) {
    if (!is_derived(page)) continue;
    corrupt(place(page, 0));
    corrupt(place(page, 1));
  }
  const sim::SimImage damaged = disk_->image();
  ASSERT_EQ(repair().problems, Sentences{});
  const uint64_t commands = disk_->counters().media_commands;
  EXPECT_GE(commands, 6u);
  unsigned finished = 0;
  for (uint64_t cut = 1; cut <= commands; ++cut) {
    use(damaged);
    disk_->cut_after(cut);
    (void)check_store(*context_, *device_, {.mode = CheckMode::repair});
    disk_->power_cut();
    const auto at_the_cut = disk_;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      SCOPED_TRACE("cut after " + std::to_string(cut) + " of " + std::to_string(commands) +
                   ", survivor " + std::to_string(seed));
      use(at_the_cut->surviving_image(seed));
      if (const auto content = content_after_opening()) {
        ASSERT_EQ(*content, content_);
        ++finished;
      }
      // With one superblock written, that one serves; the next opening takes care of the other.
      const StoreReport report = repair();
      ASSERT_TRUE(report.problems.empty() || !report.notes.empty()) << report.problems[0];
      const auto content = content_after_opening();
      ASSERT_TRUE(content) << content.error().to_string();
      ASSERT_EQ(*content, content_);
      open();
      close();
      expect_untouched_by_check();
      ASSERT_EQ(*content_after_opening(), content_);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(finished, 0u);
}

INSTANTIATE_TEST_SUITE_P(Fua, RepairPowerTest, testing::Bool());

// ---- A store that crashed

// What opening goes by and finds.
struct Found {
  StoreContent content;
  Ticket last;
  uint64_t epoch = 0;
  std::array<std::byte, 16> open_id{};
  std::string boot_id;
  bool was_writer = false;
  bool operator==(const Found&) const = default;
};

class CrashedRepairTest : public RepairTest {
 protected:
  Found look() {
    auto store = try_open(OpenMode::read_only);
    EXPECT_TRUE(store) << store.error().to_string();
    if (!store) return {};
    const auto content = content_of(**store);
    EXPECT_TRUE(content) << content.error().to_string();
    const StoreIdentity& identity = (*store)->identity();
    return {content.value_or(StoreContent{}),
            (*store)->last_ticket(),
            identity.epoch,
            identity.previous_open_id,
            identity.previous_boot_id,
            identity.previous_open_was_writer};
  }
  // An opening with durable work, checkpoints of both kinds and a clean end, as far as the power lasts.
  void work() {
    auto opened = try_open();
    if (!opened) return;
    store_ = std::move(*opened);
    const auto put_some = [&](const std::string& key) {
      Transaction txn;
      txn.catalog_put(key, std::string(200, 'w'));
      return store_->apply(txn).has_value();
    };
    const auto all = [&] {
      return put_some("durable") && store_->wait_durable(store_->last_ticket()).ok() &&
             store_->checkpoint().ok() && put_some("by the checkpoint alone") &&
             store_->checkpoint().ok() && put_some("in the journal") &&
             store_->wait_durable(store_->last_ticket()).ok() && store_->checkpoint().ok() &&
             put_some("later") && store_->wait_durable(store_->last_ticket()).ok() &&
             store_->close().ok();
    };
    if (!all()) store_->abandon();
    store_.reset();
  }
  bool usable(unsigned slot) { return superblock_damage(slot).empty(); }
  static uint64_t generation_in(const sim::SimImage& image, unsigned slot) {
    return struct_in<Superblock>(block_of(image, kSuperblockBlock[slot])).generation;
  }
};

TEST_F(CrashedRepairTest, ARepairNeverChangesWhatOpeningFinds) {
  use(image_);
  work();
  const uint64_t commands = disk_->counters().media_commands;
  unsigned different = 0;  // survivors whose two superblocks describe different checkpoints
  for (uint64_t cut = 1; cut <= commands; ++cut) {
    use(image_);
    disk_->cut_after(cut);
    work();
    disk_->power_cut();
    const auto at_the_cut = disk_;
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const auto survivor = at_the_cut->surviving_image(seed);
      const sim::SimImage image = survivor->image();
      for (unsigned slot = 0; slot < 2; ++slot) {
        SCOPED_TRACE("cut " + std::to_string(cut) + " seed " + std::to_string(seed) +
                     " superblock " + std::to_string(slot));
        use(image);
        if (!usable(1 - slot)) continue;  // torn: nothing would be left
        const auto good = struct_in<Superblock>(block_of(image, kSuperblockBlock[1 - slot]));
        const auto other = struct_in<Superblock>(block_of(image, kSuperblockBlock[slot]));
        different += good.checkpoint_generation != other.checkpoint_generation;
        corrupt(kSuperblockBlock[slot]);
        const Found before = look();
        const std::string expected = superblock_repair(slot);
        const StoreReport report = repair();
        ASSERT_EQ(report.problems, Sentences{});
        ASSERT_EQ(report.repairs, Sentences{expected});
        ASSERT_EQ(blocks_written(), std::set<uint64_t>{kSuperblockBlock[slot]});
        ASSERT_EQ(generation_in(disk_->image(), slot), good.generation + 1);
        expect_untouched_by_check();
        ASSERT_TRUE(look() == before);
        // Either superblock alone is enough again.
        const sim::SimImage repaired = disk_->image();
        for (unsigned lost = 0; lost < 2; ++lost) {
          use(repaired);
          corrupt(kSuperblockBlock[lost]);
          ASSERT_TRUE(look() == before);
        }
        use(repaired);
        open();
        ASSERT_EQ(*content_of(*store_), before.content);
        ASSERT_GT(store_->identity().epoch, before.epoch);
        close();
        expect_sound();
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_GT(different, 10u);
}

// Neither superblock's page map can be read any more: what is made anew is what opening would have found.
TEST_F(CrashedRepairTest, ARebuildFindsWhatOpeningWouldHave) {
  use(image_);
  work();
  const uint64_t commands = disk_->counters().media_commands;
  unsigned rebuilt = 0, from_the_journal = 0;
  for (uint64_t cut = 1; cut <= commands; ++cut) {
    SCOPED_TRACE("cut " + std::to_string(cut));
    use(image_);
    disk_->cut_after(cut);
    work();
    disk_->power_cut();
    use(disk_->surviving_image(cut));
    if (!usable(0) && !usable(1)) continue;
    const Found before = look();
    for (unsigned slot = 0; slot < 2; ++slot) {
      if (!usable(slot)) continue;
      const uint64_t page = superblock(slot).page_map.page;
      for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
      from_the_journal += superblock(slot).transaction_sequence < before.last.value;
    }
    ASSERT_FALSE(content_after_opening().has_value());
    ASSERT_EQ(repair().problems, Sentences{});
    expect_untouched_by_check();
    ASSERT_TRUE(look() == before);
    ++rebuilt;
    open();
    ASSERT_EQ(*content_of(*store_), before.content);
    close();
    expect_sound();
    if (HasFailure()) return;
  }
  EXPECT_GT(rebuilt, 10u);
  EXPECT_GT(from_the_journal, 5u);
}

TEST_F(CrashedRepairTest, ACutAtEveryCommandChangesNothingEither) {
  use(image_);
  work();
  const uint64_t commands = disk_->counters().media_commands;
  unsigned cuts = 0;
  for (uint64_t crash = 3; crash <= commands; crash += 5) {
    use(image_);
    disk_->cut_after(crash);
    work();
    disk_->power_cut();
    use(disk_->surviving_image(crash));
    const unsigned slot = crash % 2;
    if (!usable(1 - slot)) continue;
    disk_->clear_commands();
    examine(CheckMode::report);
    std::set<uint64_t> used;
    for (const sim::SimCommand& command : disk_->commands()) {
      const uint64_t block = command.lba.value * options().block_bytes / kBlockBytes;
      if (block >= place(0, 1) && block < place(run_.page_count, 1))
        used.insert(block - place(0, 1));
    }
    for (const uint64_t page : used) corrupt(place(page, (page / 2) % 2));
    corrupt(kSuperblockBlock[slot]);
    const sim::SimImage damaged = disk_->image();
    const Found before = look();
    ASSERT_EQ(repair().problems, Sentences{});
    const uint64_t of_repair = disk_->counters().media_commands;
    for (uint64_t cut = 1; cut <= of_repair; ++cut, ++cuts) {
      SCOPED_TRACE("crash " + std::to_string(crash) + ", cut " + std::to_string(cut));
      use(damaged);
      disk_->cut_after(cut);
      (void)check_store(*context_, *device_, {.mode = CheckMode::repair});
      disk_->power_cut();
      use(disk_->surviving_image(crash + cut));
      ASSERT_TRUE(look() == before);
      ASSERT_EQ(repair().problems, Sentences{});
      expect_untouched_by_check();
      ASSERT_TRUE(look() == before);
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(cuts, 100u);
}

}  // namespace
}  // namespace basalt::blob
