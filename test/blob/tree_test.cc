// Goal: Tree is an ordered map, keeps its pages' account, survives being written and read back, and
// answers corruption instead of looping or crashing when pages with right checksums contradict each other.
// Method: a PageStore on a RAM device without a store around it; random histories against std::map with
// checkpoints in between; forged references.
#include "blob/tree.h"

#include "base/crc32c.h"
#include "store_fixture.h"

#include <map>
#include <random>

namespace basalt::blob {
namespace {

class TreeTest : public StoreFixture {
 protected:
  void SetUp() override {
    make_device("ram:64M");
    pool_ = std::make_unique<ChannelPool>(*device_, 2);
    make_pages();
    pages_->map().reset(kPages);
  }
  void make_pages(size_t cache_bytes = 64 * kBlockBytes) {
    pages_ = std::make_unique<PageStore>(*context_, *pool_, Uuid{}, cache_bytes);
    pages_->set_runs({run()});
    tree_ = std::make_unique<Tree>(*pages_, TreeId::catalog);
    other_ = std::make_unique<Tree>(*pages_, TreeId::objects);
  }
  static MetadataRun run() {
    MetadataRun run{};
    run.first_block[0] = 16;
    run.first_block[1] = 8192;
    run.page_count = kPages;
    return run;
  }
  // One checkpoint, without superblocks.
  void checkpoint() {
    std::vector<FrozenPage> frozen;
    PageRef roots[2] = {tree_->root, other_->root};
    auto map_root = pages_->freeze(roots, frozen);
    ASSERT_TRUE(map_root) << map_root.error().to_string();
    tree_->root = roots[0];
    other_->root = roots[1];
    map_root_ = *map_root;
    for (const FrozenPage& page : frozen) {
      for (unsigned copy = 0; copy < 2; ++copy) {
        write_raw(pages_->block_of(page.page, copy), {page.bytes, kBlockBytes});
      }
    }
    pages_->written();
    pages_->map().flipped();
    pages_->trim();
  }
  // Everything forgotten but what the device holds.
  void reload() {
    checkpoint();
    const PageRef roots[2] = {tree_->root, other_->root};
    const uint64_t building = pages_->building();
    make_pages();
    pages_->set_building(building);
    const Status status = pages_->load_page_map(map_root_, kPages);
    ASSERT_TRUE(status.ok()) << status.to_string();
    tree_->root = roots[0];
    other_->root = roots[1];
  }

  static constexpr uint64_t kPages = 4096;
  std::unique_ptr<ChannelPool> pool_;
  std::unique_ptr<PageStore> pages_;
  std::unique_ptr<Tree> tree_, other_;
  PageRef map_root_{};
};

using TreeModel = std::map<std::string, std::string>;

void expect_same(Tree& tree, const TreeModel& model) {
  Tree::Cursor cursor(tree);
  ASSERT_TRUE(cursor.seek("").ok());
  for (const auto& [key, value] : model) {
    ASSERT_TRUE(cursor.valid()) << "ends before " << key;
    ASSERT_EQ(cursor.key(), key);
    ASSERT_EQ(cursor.value(), value);
    ASSERT_TRUE(cursor.next().ok());
  }
  ASSERT_FALSE(cursor.valid());
  ASSERT_TRUE(cursor.seek_before("\x7f").ok());
  for (auto at = model.rbegin(); at != model.rend(); ++at) {
    ASSERT_TRUE(cursor.valid());
    ASSERT_EQ(cursor.key(), at->first);
    ASSERT_TRUE(cursor.previous().ok());
  }
  ASSERT_FALSE(cursor.valid());
}

std::string random_key(std::mt19937& random, unsigned kind) {
  if (kind == 0) return "key" + std::to_string(random() % 3000);
  // Long keys with long common beginnings: few to a page, splits at every level.
  std::string key(200 + random() % 100, 'k');
  key.replace(key.size() - 4, 4, std::to_string(1000 + random() % 600));
  return key;
}

TEST_F(TreeTest, RandomHistoriesMatchAMap) {
  for (uint32_t seed = 1; seed <= 6; ++seed) {
    std::mt19937 random(seed);
    const unsigned kind = seed % 2;
    TreeModel model;
    for (int step = 0; step < 6000; ++step) {
      // Growing, then shrinking, twice.
      const bool grow = step / 1500 % 2 == 0 ? random() % 5 != 0 : random() % 5 == 0;
      const std::string key = random_key(random, kind);
      if (grow) {
        const std::string value(random() % (random() % 4 == 0 ? 513 : 40),
                                static_cast<char>('a' + random() % 26));
        ASSERT_TRUE(tree_->put(key, value).ok());
        model[key] = value;
      } else {
        auto victim = model.lower_bound(key);
        const std::string name = victim == model.end() || random() % 4 == 0 ? key : victim->first;
        const auto was = tree_->erase(name);
        ASSERT_TRUE(was);
        ASSERT_EQ(*was, model.erase(name) == 1);
      }
      const auto value = tree_->get(key);
      ASSERT_TRUE(value);
      ASSERT_EQ(value->has_value(), model.contains(key));
      Tree::Cursor cursor(*tree_);
      ASSERT_TRUE(cursor.seek(key).ok());
      const auto next = model.lower_bound(key);
      ASSERT_EQ(cursor.valid(), next != model.end());
      if (cursor.valid()) {
        ASSERT_EQ(cursor.key(), next->first);
      }
      ASSERT_TRUE(cursor.seek_before(key).ok());
      ASSERT_EQ(cursor.valid(), next != model.begin());
      if (cursor.valid()) {
        ASSERT_EQ(cursor.key(), std::prev(next)->first);
      }
      if (random() % 400 == 0) checkpoint();
      if (random() % 1500 == 0) reload();
      if (step % 500 == 0) expect_same(*tree_, model);
      if (HasFatalFailure()) FAIL() << "seed " << seed << " step " << step;
    }
    expect_same(*tree_, model);
    while (!model.empty()) {
      ASSERT_TRUE(tree_->erase(model.begin()->first));
      model.erase(model.begin());
    }
    EXPECT_EQ(tree_->root.page, kNoPage);
    // All pages but the page map's own come back.
    for (int i = 0; i < 3; ++i) checkpoint();
    EXPECT_EQ(pages_->map().free_count() + 2 * (1 + 1), kPages);
  }
}

TEST_F(TreeTest, CellsAtTheLimits) {
  const std::string key(kMaxKeyLimit, 'k'), value(kMaxValueBytes, 'v');
  for (char c = 'a'; c <= 'z'; ++c) {
    std::string k = key;
    k.back() = c;
    ASSERT_TRUE(tree_->put(k, value).ok());
    ASSERT_TRUE(tree_->put(k, "").ok());
    ASSERT_TRUE(tree_->put(k, value).ok());
  }
  ASSERT_TRUE(tree_->put("", "empty key").ok());
  EXPECT_EQ(**tree_->get(""), "empty key");
  reload();
  for (char c = 'a'; c <= 'z'; ++c) {
    std::string k = key;
    k.back() = c;
    EXPECT_EQ(**tree_->get(k), value);
  }
}

// 8-byte keys in order, as free space and extents make them: pages end up full.
TEST_F(TreeTest, AscendingKeysFillPages) {
  constexpr uint64_t kKeys = 20000;
  for (uint64_t i = 0; i < kKeys; ++i) {
    const be64 key = i;
    ASSERT_TRUE(tree_->put(struct_text(key), "12345678").ok());
  }
  const uint64_t used = kPages - pages_->map().free_count();
  const uint64_t full = kKeys * Node::cell_bytes("12345678", "12345678") / Node::kCapacity;
  EXPECT_LT(used, full * 11 / 10 + 3);
}

TEST_F(TreeTest, TwoTreesShareTheRegion) {
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(tree_->put("t" + std::to_string(i), std::to_string(i)).ok());
    ASSERT_TRUE(other_->put("o" + std::to_string(i), std::to_string(i * 2)).ok());
  }
  reload();
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(**tree_->get("t" + std::to_string(i)), std::to_string(i));
    ASSERT_EQ(**other_->get("o" + std::to_string(i)), std::to_string(i * 2));
  }
}

TEST_F(TreeTest, AFullRegionIsAnErrorAndNothingIsWrittenOver) {
  Status status;
  unsigned put = 0;
  for (; status.ok(); ++put)
    status = tree_->put("key" + std::to_string(put), std::string(500, 'v'));
  EXPECT_EQ(status.code(), StatusCode::no_space) << status.to_string();
  EXPECT_GT(put, kPages * 4);
  EXPECT_EQ(pages_->map().free_count(), 0u);
}

// ---- Pages whose checksums are right and whose content is not

class ForgedTree : public TreeTest {
 protected:
  void SetUp() override {
    TreeTest::SetUp();
    for (int i = 0; i < 400; ++i) {
      ASSERT_TRUE(tree_->put("key" + std::to_string(1000 + i), std::string(100, 'v')).ok());
    }
    checkpoint();
    ASSERT_EQ(tree_->root.level, 1u);
    checkpoint();
  }
  // Lets `change` edit the page, fixes the checksums of it and returns the reference it would have.
  template <typename Change>
  PageRef forge(PageRef ref, Change change) {
    std::vector<std::byte> bytes = read_raw(pages_->block_of(ref.page, 0));
    auto& header = *reinterpret_cast<PageHeader*>(bytes.data());
    change(Node(bytes.data()));
    header.crc = 0;
    header.crc = crc32c(bytes);
    for (unsigned copy = 0; copy < 2; ++copy) write_raw(pages_->block_of(ref.page, copy), bytes);
    ref.crc = header.crc;
    return ref;
  }
  void forget_cache() {
    const PageRef root = tree_->root;
    const uint64_t building = pages_->building();
    make_pages();
    pages_->set_building(building);
    ASSERT_TRUE(pages_->load_page_map(map_root_, kPages).ok());
    tree_->root = root;
  }
  void expect_corruption() {
    for (const char* key : {"", "key1000", "key1399", "z"}) {
      const auto got = tree_->get(key);
      const Status put = tree_->put(key, "new");
      Tree::Cursor cursor(*tree_);
      Status walk = cursor.seek("");
      for (int n = 0; walk.ok() && cursor.valid() && n < 10000; ++n) walk = cursor.next();
      EXPECT_EQ(walk.code(), StatusCode::corruption) << walk.to_string();
      EXPECT_TRUE(got || got.error().code() == StatusCode::corruption);
      EXPECT_TRUE(put.ok() || put.code() == StatusCode::corruption) << put.to_string();
    }
  }
};

TEST_F(ForgedTree, AChildOfItsParentsLevelIsRefused) {
  tree_->root = forge(tree_->root, [&](Node node) {
    PageRef child = node.child(1);
    child.level = 1;
    node.set_child(1, child);
  });
  forget_cache();
  EXPECT_EQ(tree_->get("key1000").error().code(), StatusCode::corruption);
  expect_corruption();
}

TEST_F(ForgedTree, AChildNewerThanItsParentIsRefused) {
  tree_->root = forge(tree_->root, [&](Node node) {
    PageRef child = node.child(1);
    child.generation = pages_->building();
    node.set_child(1, child);
  });
  forget_cache();
  expect_corruption();
}

TEST_F(ForgedTree, AChildThatIsCachedAsSomethingElseIsRefused) {
  const PageRef root = tree_->root;
  tree_->root = forge(root, [&](Node node) {
    PageRef child = node.child(0);
    child.page = root.page;  // itself, said to be a leaf
    node.set_child(0, child);
  });
  forget_cache();
  EXPECT_EQ(tree_->get("key1000").error().code(), StatusCode::corruption);
}

TEST_F(ForgedTree, AChildOutsideTheRegionIsRefused) {
  tree_->root = forge(tree_->root, [&](Node node) {
    PageRef child = node.child(1);
    child.page = kPages;
    node.set_child(1, child);
  });
  forget_cache();
  expect_corruption();
}

TEST_F(ForgedTree, APageOfAnotherTreeIsRefused) {
  Tree wrong(*pages_, TreeId::space);
  wrong.root = tree_->root;
  EXPECT_EQ(wrong.get("key1000").error().code(), StatusCode::corruption);
  forget_cache();
  Tree again(*pages_, TreeId::space);
  again.root = tree_->root;
  EXPECT_EQ(again.get("key1000").error().code(), StatusCode::corruption);
}

// The map calls pages free that the tree uses: changing the tree must not end the process.
TEST_F(ForgedTree, AMapThatForgotPagesIsCorruption) {
  const PageRef root = tree_->root;
  const uint64_t building = pages_->building();
  make_pages();
  pages_->set_building(building);
  pages_->map().reset(kPages);  // everything free
  tree_->root = root;
  EXPECT_TRUE(*tree_->get("key1000"));
  Status status;
  for (int i = 0; i < 50 && status.ok(); ++i) status = tree_->put("key10" + std::to_string(i), "x");
  EXPECT_EQ(status.code(), StatusCode::corruption) << status.to_string();
}

}  // namespace
}  // namespace basalt::blob
