// Goal: everything a metadata page's header says is compared with what leads to the page, each field for
// itself; the checksum is not the only one that can tell. Method: the root of the catalog with one field
// forged in both copies, while its checksum and those of the superblocks vouch for it.
#include "base/crc32c.h"
#include "store_fixture.h"

#include <functional>

namespace basalt::blob {
namespace {

constexpr unsigned kCatalog = static_cast<unsigned>(TreeId::catalog);

class PageHeaderTest : public StoreFixture {
 protected:
  using Forgery = std::function<void(PageHeader& header, PageRef& parent)>;

  void SetUp() override {
    make_store();
    put("key", "value");
    close();
    image_ = read_raw(0, 8192);
  }
  // `change` takes effect on the header before its checksum is put right, on the parent's reference after.
  void forge(const Forgery& change) {
    write_raw(0, image_);
    const Superblock newest = superblock(newest_slot());
    const uint64_t page = newest.trees[kCatalog].page;
    PageRef parent = newest.trees[kCatalog];
    for (const uint64_t first : newest.metadata_runs[0].first_block) {
      auto bytes = read_raw(first + page);
      PageHeader header;
      std::memcpy(&header, bytes.data(), sizeof header);
      PageRef unused = parent;
      change(header, unused);
      header.crc = 0;
      std::memcpy(bytes.data(), &header, sizeof header);
      header.crc = crc32c(bytes);
      std::memcpy(bytes.data(), &header, sizeof header);
      write_raw(first + page, bytes);
      parent.crc = header.crc;
    }
    PageHeader unused{};
    change(unused, parent);
    for (unsigned slot = 0; slot < 2; ++slot) {
      Superblock sb = superblock(slot);
      if (sb.trees[kCatalog].page == page) sb.trees[kCatalog] = parent;
      sb.crc = 0;
      sb.crc = crc32c(std::as_bytes(std::span(&sb, 1)));
      write_raw(kSuperblockOffset[slot] / kBlockBytes, std::as_bytes(std::span(&sb, 1)));
    }
  }
  std::string read_key() {
    open(OpenMode::read_only);
    std::string value = get("key");
    close();
    return value;
  }
  std::vector<std::byte> image_;
};

TEST_F(PageHeaderTest, EveryFieldIsCompared) {
  const struct {
    const char* says;
    Forgery change;
  } forgeries[] = {
      {": magic 1, expected", [](auto& header, auto&) { header.magic = 1; }},
      {": of another store", [](auto& header, auto&) { header.uuid[3] ^= std::byte{1}; }},
      {": page number ", [](auto& header, auto&) { header.page = header.page + 1; }},
      {": generation ", [](auto& header, auto&) { header.generation = header.generation - 1; }},
      {": checksum in the parent ", [](auto&, auto& parent) { parent.crc = parent.crc ^ 1; }},
      {": kind 2, expected 1",
       [](auto& header, auto&) { header.kind = static_cast<uint8_t>(PageKind::page_map_leaf); }},
      {": not a node of tree 1, level 0",
       [](auto& header, auto&) { header.tree = static_cast<uint8_t>(TreeId::space); }},
      {": not a node of tree 1, level 1", [](auto&, auto& parent) { parent.level = 1; }},
  };
  forge([](auto&, auto&) {});
  ASSERT_EQ(read_key(), "value");
  for (const auto& [says, change] : forgeries) {
    forge(change);
    const std::string answer = read_key();
    EXPECT_NE(answer.find(says), std::string::npos) << answer << " instead of" << says;
  }
}

}  // namespace
}  // namespace basalt::blob
