// Goal: format() makes a sound empty store of any legal shape, refuses impossible shapes with a sentence
// that says what would be right, and never writes to a device that holds something known without force.
// Method: a table of shapes; the signatures of other software put where they put them.
#include "store_fixture.h"

namespace basalt::blob {
namespace {

class FormatTest : public StoreFixture {
 protected:
  Status format(const FormatOptions& options) {
    return BlobStore::format(*context_, *device_, options);
  }
  void place(uint64_t offset, std::string_view magic) {
    auto bytes = read_raw(offset / kBlockBytes, 2);
    std::memcpy(bytes.data() + offset % kBlockBytes, magic.data(), magic.size());
    write_raw(offset / kBlockBytes, bytes);
  }
};

TEST_F(FormatTest, LegalShapesAreSound) {
  for (const char* uri : {"ram:16M", "ram:17M", "ram:100M", "ram:8G", "ram:33333248"}) {
    for (const uint32_t cluster : {16384u, 65536u, 1u << 20}) {
      make_device(uri);
      FormatOptions options;
      options.cluster_bytes = cluster;
      options.label = std::string(63, 'l');
      const Status status = format(options);
      if (cluster == 1u << 20 &&
          device_->info().block_count.value * device_->info().block_size < (30u << 20)) {
        // 16 clusters of data do not fit beside the regions.
        EXPECT_EQ(status.code(), StatusCode::invalid_argument);
        continue;
      }
      ASSERT_TRUE(status.ok()) << uri << " " << cluster << ": " << status.to_string();
      expect_sound();
      open();
      const StoreSpace space = store_->space();
      EXPECT_EQ(space.cluster_bytes, cluster);
      const BlobId id =
          make_blob(space.free_clusters * cluster / kBlockBytes);  // every one of them
      EXPECT_EQ(store_->space().free_clusters, 0u);
      ASSERT_TRUE(store_->delete_blob(id).ok());
      EXPECT_EQ(store_->space().free_clusters, space.free_clusters);
      close();
      expect_sound();
    }
  }
}

TEST_F(FormatTest, ImpossibleShapesAreRefusedAndNothingIsWritten) {
  make_device("ram:32M");
  const auto before = read_raw(0, 8192);
  const auto refused = [&](auto&& change, StatusCode code = StatusCode::invalid_argument) {
    FormatOptions options;
    change(options);
    const Status status = format(options);
    EXPECT_EQ(status.code(), code) << status.to_string();
    EXPECT_EQ(read_raw(0, 8192), before);
  };
  refused([](auto& o) { o.cluster_bytes = 0; });
  refused([](auto& o) { o.cluster_bytes = 8192; });
  refused([](auto& o) { o.cluster_bytes = 65535; });
  refused([](auto& o) { o.cluster_bytes = 2 << 20; });
  refused([](auto& o) { o.journal_bytes = 1; });
  refused([](auto& o) { o.journal_bytes = 512 * 1024 - 1; });
  refused([](auto& o) { o.journal_bytes = 30 << 20; });
  refused([](auto& o) { o.journal_bytes = ~uint64_t{0}; });
  refused([](auto& o) { o.metadata_bytes = 1; });
  refused([](auto& o) { o.metadata_bytes = 16 << 20; });
  refused([](auto& o) { o.metadata_bytes = ~uint64_t{0} - 4096; });
  refused([](auto& o) { o.label = std::string(64, 'l'); });
  make_device("ram:16773120");  // a block less than 16 MiB
  EXPECT_EQ(format({}).code(), StatusCode::invalid_argument);
}

TEST_F(FormatTest, ADeviceOf512ByteBlocks) {
  make_device("ram:32M?block=512");
  ASSERT_TRUE(format({}).ok());
  open();
  put("key", "value");
  close();
  expect_sound();
}

TEST_F(FormatTest, KnownContentIsRefusedWithoutForce) {
  using std::string_view_literals::operator""sv;
  const struct {
    uint64_t offset;
    std::string_view magic;
    const char* named;
  } known[] = {
      {0x438, "\x53\xef"sv, "ext4"},
      {0, "XFSB"sv, "XFS"},
      {0x10040, "_BHRfS_M"sv, "Btrfs"},
      {1024, "\x10\x20\xf5\xf2"sv, "F2FS"},
      {0, "SPDKBLOB"sv, "SPDK"},
      {512, "EFI PART"sv, "GPT"},
      {0, "LUKS\xba\xbe"sv, "LUKS"},
      {512 + 24, "LVM2 001"sv, "LVM2"},
      {4096, "\xfc\x4e\x2b\xa9"sv, "RAID"},
      {4086, "SWAPSPACE2"sv, "swap"},
      {3, "NTFS    "sv, "NTFS"},
      {82, "FAT32"sv, "FAT"},
      {32769, "CD001"sv, "ISO 9660"},
      {0, "bluestore block device"sv, "BlueStore"},
      {510, "\x55\xaa"sv, "MBR"},
  };
  for (const auto& signature : known) {
    make_device("ram:32M?block=512");
    place(signature.offset, signature.magic);
    const auto before = read_raw(0, 8192);
    const Status status = format({});
    EXPECT_EQ(status.code(), StatusCode::already_exists) << signature.named;
    EXPECT_NE(status.message().find(signature.named), std::string_view::npos) << status.to_string();
    EXPECT_EQ(read_raw(0, 8192), before);
    FormatOptions force;
    force.force = true;
    EXPECT_TRUE(format(force).ok());
    expect_sound();
  }
}

TEST_F(FormatTest, AStoreIsNotOverwrittenUnlessForced) {
  make_store();
  put("key", "value");
  const auto uuid = store_->identity().uuid;
  close();
  EXPECT_EQ(format(small_format()).code(), StatusCode::already_exists);
  damage(0, 3);  // not even when its first superblock's magic is gone
  EXPECT_EQ(format(small_format()).code(), StatusCode::already_exists);
  open();
  EXPECT_EQ(get("key"), "value");
  close();
  FormatOptions force = small_format();
  force.force = true;
  ASSERT_TRUE(format(force).ok());
  open();
  EXPECT_EQ(store_->catalog_get("key").error().code(), StatusCode::not_found);
  EXPECT_NE(store_->identity().uuid, uuid);
  close();
  expect_sound();
}

}  // namespace
}  // namespace basalt::blob
