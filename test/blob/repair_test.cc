// Goal: a repair gives every damaged copy its twin's bytes, says exactly what it did, and writes nothing
// else; what has no twin is named and left alone. A store open for writing mends what it reads.
// Method: each block of a closed store damaged in turn on the simulated disk, whose commands show what was
// written; devices that fail; superblocks that must not be overwritten.
#include "blob/node.h"
#include "repair_fixture.h"

#include <algorithm>
#include <map>

namespace basalt::blob {
namespace {

TEST_F(RepairTest, ACleanStoreIsNotWrittenTo) {
  use(image_);
  const StoreReport report = repair();
  EXPECT_EQ(report.problems, Sentences{});
  EXPECT_EQ(report.repairs, Sentences{});
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
  EXPECT_TRUE(disk_->image() == image_);
}

TEST_F(RepairTest, EveryBlockOfAClosedStoreInTurn) {
  unsigned repaired = 0;
  for (uint64_t block = 0; block < kMinDeviceBytes / kBlockBytes; ++block) {
    SCOPED_TRACE("block " + std::to_string(block));
    std::optional<unsigned> slot;
    std::optional<std::pair<uint64_t, unsigned>> page;  // and copy
    for (unsigned i = 0; i < 2; ++i) {
      if (block == kSuperblockBlock[i]) slot = i;
      const uint64_t at = block - run_.first_block[i];
      if (block >= run_.first_block[i] && pages_.contains(at)) page = {at, i};
    }
    for (const sim::Damage damage :
         {sim::Damage::garbage, sim::Damage::zeros, sim::Damage::flip_bit}) {
      use(image_);
      corrupt(block, damage);
      const sim::SimImage damaged = disk_->image();
      if (damaged == image_) continue;
      const std::string expected = slot   ? superblock_repair(*slot)
                                   : page ? page_repair(page->first, page->second)
                                          : "";
      const StoreReport report = repair();
      ASSERT_EQ(report.problems, Sentences{});
      ASSERT_EQ(report.notes, Sentences{});
      if (expected.empty()) {
        ASSERT_EQ(report.repairs, Sentences{});
        ASSERT_TRUE(disk_->image() == damaged);
        ASSERT_EQ(blocks_written(), std::set<uint64_t>{});
        break;  // nothing looks at it: one kind of damage is enough
      }
      ++repaired;
      ASSERT_EQ(report.repairs, Sentences{expected});
      ASSERT_EQ(blocks_written(), std::set<uint64_t>{block});
      ASSERT_EQ(disk_->unflushed_writes(), 0u);
      ASSERT_TRUE(disk_->image() == (slot ? flipped_image(*slot) : image_));
      expect_untouched_by_check();
      if (!slot) continue;  // the same bytes, the same content
      const auto content = content_after_opening();
      ASSERT_TRUE(content) << content.error().to_string();
      ASSERT_EQ(*content, content_);
    }
    if (HasFailure()) return;
  }
  EXPECT_GE(repaired, 3 * 2 * pages_.size());
}

// The catalog's leaves in key order: page and first key.
std::vector<std::pair<std::string, uint64_t>> catalog_leaves(const sim::SimImage& image,
                                                             const MetadataRun& run,
                                                             const std::set<uint64_t>& pages) {
  std::vector<std::pair<std::string, uint64_t>> leaves;
  for (const uint64_t page : pages) {
    std::vector<std::byte> bytes = block_of(image, run.first_block[0] + page);
    const Node node(bytes.data());
    if (node.header().kind != static_cast<uint8_t>(PageKind::tree_node) ||
        node.header().tree != static_cast<uint8_t>(TreeId::catalog) || node.level() != 0) {
      continue;
    }
    leaves.emplace_back(node.key(0), page);
  }
  std::sort(leaves.begin(), leaves.end());
  return leaves;
}

TEST_F(RepairTest, WhatHasNoTwinIsNamedAndLeftAlone) {
  const auto leaves = catalog_leaves(image_, run_, pages_);
  ASSERT_GT(leaves.size(), 5u);
  std::map<uint64_t, std::string> lost;  // by page
  for (size_t i = 0; i < leaves.size(); ++i) {
    std::string text = "catalog entries";
    if (i > 0) text += " from key \"" + leaves[i].first + "\"";
    if (i > 0 && i + 1 == leaves.size()) text += " on";
    if (i + 1 < leaves.size()) {
      text += " up to, not including, key \"" + leaves[i + 1].first + "\"";
    }
    lost[leaves[i].second] = text + " cannot be read";
  }
  std::map<std::string, unsigned> structures;
  for (const uint64_t page : pages_) {
    if (is_derived(page)) continue;
    use(image_);
    for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
    const sim::SimImage damaged = disk_->image();
    const StoreReport report = repair();
    ASSERT_EQ(report.repairs, Sentences{});
    ASSERT_FALSE(report.problems.empty());
    const std::string& problem = report.problems[0];
    const std::string both =
        ": both copies damaged: " + damage_text(page, 0) + "; " + damage_text(page, 1) + "; ";
    const unsigned newest = newest_slot();
    ASSERT_EQ(problem.find("superblock " + std::to_string(newest) + both), 0u) << problem;
    const std::string what = problem.substr(problem.find(both) + both.size());
    if (lost.contains(page)) {
      EXPECT_EQ(what, lost[page]);
    }
    EXPECT_NE(what.find("cannot be read"), std::string::npos) << what;
    ++structures[structure_of(page)];
    EXPECT_EQ(report.problems.size(), 1u);
    ASSERT_TRUE(disk_->image() == damaged);
    ASSERT_EQ(blocks_written(), std::set<uint64_t>{});
    // check() says the same, and a superblock is not written anew while the other one leads nowhere.
    EXPECT_EQ(examine(CheckMode::report).problems, report.problems);
    if (HasFailure()) return;
  }
  EXPECT_EQ(structures.size(), 2u) << "every structure was met";
}

bool any_starts_with(const Sentences& sentences, std::string_view text) {
  return std::any_of(sentences.begin(), sentences.end(),
                     [&](const std::string& one) { return one.starts_with(text); });
}

// Page by page, and all at once.
TEST_F(RepairTest, WhatFollowsFromTheRestIsMadeAnew) {
  std::vector<std::set<uint64_t>> cases;
  std::set<uint64_t> all;
  for (const uint64_t page : pages_) {
    if (!is_derived(page)) continue;
    cases.push_back({page});
    all.insert(page);
  }
  ASSERT_GE(all.size(), 3u);
  cases.push_back(all);
  for (const std::set<uint64_t>& lost : cases) {
    SCOPED_TRACE("page " + std::to_string(*lost.begin()) + " and " +
                 std::to_string(lost.size() - 1) + " more");
    use(image_);
    bool of_free_space = false;
    for (const uint64_t page : lost) {
      corrupt(place(page, 0));
      corrupt(place(page, 1));
      of_free_space |= structure_of(page) != "page map";
    }
    EXPECT_FALSE(examine(CheckMode::report).problems.empty());
    disk_->clear_commands();
    const StoreReport report = repair();
    EXPECT_EQ(report.problems, Sentences{});
    EXPECT_EQ(report.notes, Sentences{});
    EXPECT_TRUE(any_starts_with(report.repairs, "superblock " + std::to_string(newest_slot())) ||
                any_starts_with(report.repairs, "superblock " + std::to_string(1 - newest_slot())));
    EXPECT_TRUE(any_starts_with(report.repairs, "made the page map anew"));
    EXPECT_EQ(any_starts_with(report.repairs, "made the tree of free space anew"), of_free_space);
    EXPECT_EQ(disk_->unflushed_writes(), 0u);
    expect_untouched_by_check();
    ASSERT_EQ(*content_after_opening(), content_);
    // Either superblock is a starting point, and the store works.
    const sim::SimImage repaired = disk_->image();
    for (unsigned slot = 0; slot < 2; ++slot) {
      use(repaired);
      corrupt(kSuperblockBlock[slot]);
      ASSERT_EQ(*content_after_opening(), content_);
    }
    use(repaired);
    open();
    for (int i = 0; i < 200; ++i) put(key(i), "anew");
    add_blob("another");
    ASSERT_TRUE(store_->checkpoint().ok());
    close();
    expect_untouched_by_check();
    if (HasFailure()) return;
  }
}

// As long as one superblock is a starting point, nothing is made anew.
TEST_F(RepairTest, NothingIsMadeAnewWhileTheOlderSuperblockServes) {
  use(image_);
  open();
  put(key(9), "of the newer checkpoint");
  make_durable();
  ASSERT_TRUE(store_->checkpoint().ok());
  kill();
  const unsigned newest = newest_slot();
  const uint64_t page = superblock(newest).page_map.page;
  ASSERT_NE(page, superblock(1 - newest).page_map.page);
  for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
  disk_->clear_commands();
  EXPECT_FALSE(repair().problems.empty());
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
  ASSERT_TRUE(content_after_opening());
}

// A superblock of a later version is not overwritten, whatever is lost.
TEST_F(RepairTest, NothingIsMadeAnewOverALaterFormat) {
  use(image_);
  write_later_superblock(1);
  const uint64_t page = superblock(0).page_map.page;
  for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
  disk_->clear_commands();
  EXPECT_FALSE(repair().problems.empty());
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
}

TEST_F(RepairTest, LossesOfTheOtherTreesAreNamed) {
  std::set<std::string> said;
  for (const uint64_t page : pages_) {
    const auto header = struct_in<PageHeader>(block_of(image_, place(page, 0)));
    if (header.kind != static_cast<uint8_t>(PageKind::tree_node)) continue;
    if (header.tree == static_cast<uint8_t>(TreeId::catalog) && header.level == 0) continue;
    use(image_);
    for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
    const StoreReport report = examine(CheckMode::report);
    ASSERT_EQ(report.problems.size(), 1u);
    said.insert(report.problems[0].substr(report.problems[0].rfind("; ") + 2));
  }
  EXPECT_TRUE(said.contains("all catalog entries cannot be read"));
  EXPECT_TRUE(said.contains("all runs of free clusters cannot be read"));
  EXPECT_TRUE(said.contains("all records, attributes and extents of blobs cannot be read"));
  const auto begins = [&](const std::string& text) {
    return std::any_of(said.begin(), said.end(),
                       [&](const std::string& what) { return what.starts_with(text); });
  };
  EXPECT_TRUE(begins("records, attributes and extents of blobs up to, not including, blob "));
  EXPECT_TRUE(begins("records, attributes and extents of blobs from blob "));
}

TEST_F(RepairTest, WhatCanBeRepairedIsAlsoWhereSomethingRemains) {
  const auto leaves = catalog_leaves(image_, run_, pages_);
  use(image_);
  const uint64_t gone = leaves[3].second, half = leaves[5].second;
  corrupt(place(gone, 0));
  corrupt(place(gone, 1));
  corrupt(place(half, 1));
  corrupt(kSuperblockBlock[1]);
  const std::string damaged_superblock = superblock_damage(1);
  const std::string repaired_page = page_repair(half, 1);
  const StoreReport report = repair();
  EXPECT_EQ(report.repairs, Sentences{repaired_page});
  ASSERT_EQ(report.problems.size(), 2u);
  EXPECT_TRUE(report.problems[0].starts_with("superblock 0: both copies damaged: "));
  EXPECT_EQ(report.problems[1], damaged_superblock +
                                    "; not rewritten: superblock 0 is not a complete starting "
                                    "point");
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{place(half, 1)});
}

TEST_F(RepairTest, AWholeCopyAndASuperblock) {
  for (unsigned copy = 0; copy < 2; ++copy) {
    use(image_);
    disk_->corrupt(place(0, copy) * kBlockBytes, run_.page_count * kBlockBytes,
                   sim::Damage::garbage);
    corrupt(kSuperblockBlock[copy]);
    const StoreReport report = repair();
    EXPECT_EQ(report.problems, Sentences{});
    EXPECT_EQ(report.repairs.size(), pages_.size() + 1);
    EXPECT_EQ(blocks_written().size(), pages_.size() + 1);
    expect_untouched_by_check();
    EXPECT_EQ(*content_after_opening(), content_);
  }
}

// ---- What must not be written

// The slot's last write never arrived: the older superblock there may lead to pages used again since.
TEST_F(RepairTest, ASuperblockFromAnEarlierFlipIsReplaced) {
  use(image_);
  const Superblock old[2] = {superblock(0), superblock(1)};
  open();
  for (int i = 0; i < 300; ++i) put(key(i), "anew");
  ASSERT_TRUE(store_->checkpoint().ok());
  for (int i = 0; i < 300; ++i) put(key(i), "and again");
  const StoreContent content = *content_of(*store_);
  close();
  const unsigned stale = 1 - newest_slot();
  write_raw(kSuperblockBlock[stale], std::as_bytes(std::span(&old[stale], 1)));
  const uint64_t newest = superblock(1 - stale).generation;
  const std::string damage = "superblock " + std::to_string(stale) + " (byte " +
                             std::to_string(kSuperblockOffset[stale]) + "): generation " +
                             std::to_string(old[stale].generation) + ", expected " +
                             std::to_string(newest - 1) + ": an older one in its place";
  const StoreReport checked = examine(CheckMode::report);
  EXPECT_EQ(checked.problems, Sentences{});
  EXPECT_EQ(checked.notes, Sentences{damage + "; the other superblock is good"});
  const StoreReport report = repair();
  EXPECT_EQ(report.problems, Sentences{});
  EXPECT_EQ(report.repairs,
            Sentences{damage + "; rewrote its 4096 B from superblock " + std::to_string(1 - stale) +
                      " (byte " + std::to_string(kSuperblockOffset[1 - stale]) +
                      "), as generation " + std::to_string(newest + 1)});
  expect_untouched_by_check();
  corrupt(kSuperblockBlock[1 - stale]);
  EXPECT_EQ(*content_after_opening(), content);
}

// A page that only the older checkpoint needs: nothing is lost, and the next opening leaves it behind.
TEST_F(RepairTest, WhatOnlyTheOlderSuperblockLacksIsSaid) {
  use(image_);
  open();
  put(key(9), "of the newer checkpoint");
  make_durable();  // else the checkpoint goes into both slots
  ASSERT_TRUE(store_->checkpoint().ok());
  const StoreContent content = *content_of(*store_);
  kill();
  const unsigned newest = newest_slot();
  const uint64_t page = superblock(1 - newest).trees[1].page;
  ASSERT_NE(page, superblock(newest).trees[1].page);
  for (unsigned copy = 0; copy < 2; ++copy) corrupt(place(page, copy));
  disk_->clear_commands();
  const StoreReport report = repair();
  EXPECT_EQ(report.repairs, Sentences{});
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_TRUE(report.problems[0].starts_with("superblock " + std::to_string(1 - newest)));
  EXPECT_EQ(report.notes,
            Sentences{"superblock " + std::to_string(newest) +
                      ", the newer, needs none of what superblock " + std::to_string(1 - newest) +
                      " lacks; the next mount for writing replaces that one"});
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
  open();
  EXPECT_EQ(*content_of(*store_), content);
  close();
  expect_untouched_by_check();
}

TEST_F(RepairTest, ALaterFormatIsNotOverwritten) {
  use(image_);
  write_later_superblock(1);
  disk_->clear_commands();
  const StoreReport report = repair();
  EXPECT_EQ(report.repairs, Sentences{});
  EXPECT_EQ(report.problems, Sentences{superblock_damage(1) + "; not rewritten"});
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
}

TEST_F(RepairTest, AStoreThisVersionMayOnlyReadIsNotWrittenTo) {
  use(image_);
  for (unsigned slot = 0; slot < 2; ++slot) {
    Superblock sb = superblock(slot);
    sb.read_only_features = 4;
    sb.crc = 0;
    sb.crc = crc32c(std::as_bytes(std::span(&sb, 1)));
    write_raw(kSuperblockBlock[slot], std::as_bytes(std::span(&sb, 1)));
  }
  corrupt(place(*pages_.begin(), 0));
  disk_->clear_commands();
  const auto report = check_store(*context_, *device_, {.mode = CheckMode::repair});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code(), StatusCode::unsupported);
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
}

TEST_F(RepairTest, NoSuperblockAtAllIsAnError) {
  use(image_);
  for (const uint64_t block : kSuperblockBlock) corrupt(block);
  const auto report = check_store(*context_, *device_, {.mode = CheckMode::repair});
  ASSERT_FALSE(report);
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
}

// ---- Devices that fail

class RepairFaultTest : public RepairTest {
 protected:
  void inject(OpSet ops, uint64_t block, uint64_t times = ~uint64_t{0}) {
    disk_->inject({ops, Lba{block * 8}, BlockCount{8}, StatusCode::io_error, times});
  }
};

TEST_F(RepairFaultTest, AnUnreadableCopyIsRewritten) {
  const uint64_t page = catalog_leaves(image_, run_, pages_)[2].second;
  use(image_);
  inject({Op::read}, place(page, 1), 1);
  const StoreReport report = repair();
  EXPECT_EQ(report.problems, Sentences{});
  ASSERT_EQ(report.repairs.size(), 1u);
  EXPECT_TRUE(report.repairs[0].starts_with(page_text(page, 1) + ": read block "))
      << report.repairs[0];
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{place(page, 1)});
}

TEST_F(RepairFaultTest, AWriteThatFailsIsAProblem) {
  const uint64_t page = catalog_leaves(image_, run_, pages_)[2].second;
  use(image_);
  corrupt(place(page, 1));
  corrupt(kSuperblockBlock[0]);
  inject({Op::write}, place(page, 1));
  const std::string page_damage = damage_text(page, 1), slot_damage = superblock_damage(0);
  const StoreReport report = repair();
  EXPECT_EQ(report.repairs, Sentences{});
  ASSERT_EQ(report.problems.size(), 2u);
  EXPECT_TRUE(report.problems[0].starts_with(page_damage + "; rewriting it failed: "));
  EXPECT_TRUE(report.problems[1].starts_with(slot_damage + "; not rewritten: "));
  EXPECT_EQ(*content_after_opening(), content_);
}

TEST_F(RepairFaultTest, ASuperblockThatCannotBeWrittenIsAProblem) {
  use(image_);
  corrupt(kSuperblockBlock[0]);
  inject({Op::write}, kSuperblockBlock[0]);
  const StoreReport report = repair();
  EXPECT_EQ(report.repairs, Sentences{});
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("; rewriting it did not help: "), std::string::npos);
  EXPECT_EQ(*content_after_opening(), content_);
}

TEST_F(RepairFaultTest, NothingCountsAsRepairedBeforeItIsFlushed) {
  const auto leaves = catalog_leaves(image_, run_, pages_);
  const uint64_t page = leaves[2].second, lost = leaves[4].second;
  use(image_);
  corrupt(place(page, 0));
  ASSERT_EQ(repair().repairs.size(), 1u);
  EXPECT_EQ(disk_->counters().media_commands, 3u);  // flush, write, flush
  use(image_);
  for (const uint64_t block : {place(page, 0), place(lost, 0), place(lost, 1)}) corrupt(block);
  const std::string damage = damage_text(page, 0);
  // The first flush is done when the walk comes to what is lost; the second fails.
  const CheckOptions check{.mode = CheckMode::repair,
                           .name_catalog_key = [&](std::string_view key) {
                             disk_->clear_faults();
                             inject({Op::flush}, 0, 1);
                             return std::string(key);
                           }};
  const auto report = check_store(*context_, *device_, check);
  ASSERT_TRUE(report) << report.error().to_string();
  EXPECT_EQ(report->repairs, Sentences{});
  ASSERT_EQ(report->problems.size(), 2u);
  EXPECT_TRUE(
      report->problems[1].starts_with(damage + "; rewriting it did not help: repair: flush"))
      << report->problems[1];
}

TEST_F(RepairFaultTest, WithoutAFlushToBuildOnNothingIsWritten) {
  use(image_);
  corrupt(place(*pages_.begin(), 0));
  inject({Op::flush}, 0, 1);
  const auto report = check_store(*context_, *device_, {.mode = CheckMode::repair});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code(), StatusCode::io_error);
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
}

// ---- A store that is open for writing

TEST_F(RepairTest, AMountedStoreMendsTheCopyItFindsDamaged) {
  const uint64_t page = catalog_leaves(image_, run_, pages_)[2].second;
  const std::string wanted = catalog_leaves(image_, run_, pages_)[2].first;
  for (const OpenMode mode : {OpenMode::read_only, OpenMode::read_write}) {
    use(image_);
    corrupt(place(page, 0));
    open(mode);
    disk_->clear_commands();
    EXPECT_EQ(get(wanted), content_[wanted]);
    EXPECT_EQ(store_->stats().damaged_copies_used, 1u);
    const bool mends = mode == OpenMode::read_write;
    EXPECT_EQ(blocks_written(), mends ? std::set<uint64_t>{place(page, 0)} : std::set<uint64_t>{});
    EXPECT_EQ(block_of(disk_->image(), place(page, 0)) == block_of(image_, place(page, 0)), mends);
    EXPECT_EQ(log_.count("and this one was rewritten from it"), mends ? 1u : 0u);
    close();
    if (mends) expect_untouched_by_check();
  }
}

// Readers mend pages while a writer gives them up and checkpoints write others to places that became free.
TEST_F(RepairTest, MendingGoesOnBesideChangesAndCheckpoints) {
  use(image_);
  for (const uint64_t page : pages_) corrupt(place(page, 0));
  open();
  {
    std::vector<Thread> readers;
    for (int reader = 0; reader < 3; ++reader) {
      readers.emplace_back("reader", [&, reader] {
        for (int i = 0; i < 400; ++i) {
          const std::string wanted = key((i * 7 + reader * 131) % 400);
          EXPECT_EQ(get(wanted).size(), content_.at(wanted).size()) << wanted;
        }
      });
    }
    for (int i = 0; i < 400; ++i) {
      const std::string changed = key((i * 11) % 400);
      put(changed, std::string(content_.at(changed).size(), 'w'));
      if (i % 20 != 0) continue;
      EXPECT_TRUE(store_->checkpoint().ok());
    }
    for (Thread& reader : readers) reader.join();
  }
  const StoreContent content = *content_of(*store_);
  close();
  EXPECT_EQ(examine(CheckMode::report).problems, Sentences{});
  EXPECT_EQ(repair().problems, Sentences{});
  expect_untouched_by_check();
  EXPECT_EQ(*content_after_opening(), content);
}

TEST_F(RepairTest, WhoLostTheStoreMendsNothing) {
  const uint64_t page = catalog_leaves(image_, run_, pages_)[2].second;
  const std::string wanted = catalog_leaves(image_, run_, pages_)[2].first;
  use(image_);
  corrupt(place(page, 0));
  open();
  auto second = try_open();
  ASSERT_TRUE(second);
  disk_->clear_commands();
  EXPECT_EQ(get(wanted), content_[wanted]);
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{});
  kill();
  store_ = std::move(*second);
  EXPECT_EQ(get(wanted), content_[wanted]);
  EXPECT_EQ(blocks_written(), std::set<uint64_t>{place(page, 0)});
  close();
}

}  // namespace
}  // namespace basalt::blob
