// Goal: the keys of basalt:// are taken off the device URI, checked, and told from the device's
// own. Method: URIs in, fields and messages out.
#include "rocksdb_env/store_uri.h"

#include <gtest/gtest.h>

namespace basalt::rocksdb_env {
namespace {

StoreUri parse(std::string_view text) {
  Result<StoreUri> uri = parse_store_uri(text);
  EXPECT_TRUE(uri) << text << ": " << uri.error().to_string();
  return uri ? *uri : StoreUri();
}

std::string complaint(std::string_view text) {
  Result<StoreUri> uri = parse_store_uri(text);
  EXPECT_FALSE(uri) << text;
  if (uri) return "";
  EXPECT_EQ(uri.error().code(), StatusCode::invalid_argument) << text;
  return uri.error().to_string();
}

TEST(StoreUri, TakesItsKeysAndLeavesTheDevices) {
  const StoreUri uri = parse(
      "basalt://file:/tmp/s.img?create=8G&size=16G&cache=256M&metadata_cache=32M&tail=8M"
      "&atomic=4096&flush=device&discard=1&discard_rate=64M&scrub_rate=10M&checksums=1&force=1");
  EXPECT_EQ(uri.device_text(), "file:/tmp/s.img?size=16G");
  EXPECT_EQ(uri.create_bytes, uint64_t{8} << 30);
  EXPECT_TRUE(uri.force);
  EXPECT_TRUE(uri.checksums);
  const MountOptions options = uri.mount_options();
  EXPECT_EQ(options.mode, OpenMode::read_write);
  EXPECT_EQ(options.cache_bytes, uint64_t{256} << 20);
  EXPECT_EQ(options.metadata_cache_bytes, uint64_t{32} << 20);
  EXPECT_EQ(options.tail_bytes, uint64_t{8} << 20);
  EXPECT_EQ(options.atomic_write_bytes, 4096u);
  EXPECT_EQ(options.flush_to, MountOptions::FlushTo::device);
  EXPECT_TRUE(options.discard);
  EXPECT_EQ(options.discard_bytes_per_second, uint64_t{64} << 20);
  EXPECT_EQ(options.scrub_bytes_per_second, uint64_t{10} << 20);
}

TEST(StoreUri, CreateNeedsNoSizeWhereTheDeviceHasOne) {
  const StoreUri uri = parse("basalt://nvme:pci:0000:00:04.0/1?create&force=1");
  EXPECT_TRUE(uri.create);
  EXPECT_FALSE(uri.create_bytes);
  EXPECT_EQ(uri.device_text(), "nvme:pci:0000:00:04.0/1");
  EXPECT_FALSE(parse("basalt://ram:64M").create);
  EXPECT_NE(complaint("basalt://ram:64M?create=much").find("\"much\" is not a size"),
            std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?cache").find("\"\" is not a size"), std::string::npos);
}

TEST(StoreUri, SaysNothingTakesTheDefaults) {
  const MountOptions options = parse("basalt://ram:64M").mount_options();
  const MountOptions defaults;
  EXPECT_EQ(options.mode, defaults.mode);
  EXPECT_EQ(options.cache_bytes, defaults.cache_bytes);
  EXPECT_EQ(options.tail_bytes, defaults.tail_bytes);
  EXPECT_EQ(options.flush_to, defaults.flush_to);
  EXPECT_EQ(options.discard, defaults.discard);
}

TEST(StoreUri, ReadsWithoutThePrefix) { EXPECT_EQ(parse("ram:64M").device_text(), "ram:64M"); }

TEST(StoreUri, ReadOnly) {
  EXPECT_EQ(parse("basalt://ram:64M?readonly=1").mount_options().mode, OpenMode::read_only);
  EXPECT_EQ(parse("basalt://ram:64M?readonly=0").mount_options().mode, OpenMode::read_write);
}

TEST(StoreUri, KeysOfChildrenAreTheirs) {
  const StoreUri uri = parse("basalt://part:(ram:4G?block=512)?offset=1M&cache=1M");
  EXPECT_EQ(uri.device_text(), "part:(ram:4G?block=512)?offset=1M");
  EXPECT_EQ(uri.cache_bytes, uint64_t{1} << 20);
}

TEST(StoreUri, OrderOfKeysDoesNotMatter) {
  EXPECT_EQ(parse("file:/a?b=1&cache=1M&a=2").device_text(),
            parse("file:/a?a=2&b=1").device_text());
}

TEST(StoreUri, RefusesWhatMakesNoSense) {
  EXPECT_NE(complaint("basalt://ram:64M?cache=lots").find("cache"), std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?flush=never").find("memory"), std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?readonly=2").find("readonly"), std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?create=1G&readonly=1").find("readonly=1"),
            std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?force=1").find("create="), std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?checksums=1").find("create="), std::string::npos);
  EXPECT_NE(complaint("basalt://ram:64M?atomic=8G").find("atomic"), std::string::npos);
  complaint("basalt://");
  complaint("basalt://?cache=1M");
  complaint("basalt:///tmp/s.img");
}

TEST(StoreUri, SharesAMountOnlyOnItsTerms) {
  const MountOptions mounted = parse("ram:64M?cache=1M&discard=1").mount_options();
  EXPECT_TRUE(parse("ram:64M").check_shares(mounted).ok());
  EXPECT_TRUE(parse("ram:64M?cache=1M&create=1G").check_shares(mounted).ok());
  for (const char* other :
       {"ram:64M?cache=2M", "ram:64M?readonly=1", "ram:64M?discard=0", "ram:64M?discard_rate=1M",
        "ram:64M?scrub_rate=1M", "ram:64M?flush=device", "ram:64M?tail=1M", "ram:64M?atomic=4096",
        "ram:64M?metadata_cache=1M"}) {
    EXPECT_EQ(parse(other).check_shares(mounted).code(), StatusCode::invalid_argument) << other;
  }
}

}  // namespace
}  // namespace basalt::rocksdb_env
