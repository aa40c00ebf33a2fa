// Records of the catalog: they come back as they went, keys sort as they should, and no bytes are taken
// that no version writes.
#include "blobfs/inode.h"

#include <gtest/gtest.h>

#include <random>

namespace basalt::blobfs {
namespace {

InodeRecord log_record() {
  InodeRecord record;
  record.kind = InodeKind::log;
  record.lifetime = 2;
  record.open_log = true;
  record.links = 3;
  record.modified_us = 1234567890123;
  record.length = 987654321;
  record.log_epoch = 77;
  record.sealed_bytes = 512;
  return record;
}

TEST(Inode, RecordsComeBack) {
  InodeRecord directory;
  directory.kind = InodeKind::directory;
  directory.parent = 42;
  InodeRecord table;
  table.length = 5;
  for (const InodeRecord& record : {log_record(), directory, table}) {
    const auto decoded = decode_inode(7, encode(record));
    ASSERT_TRUE(decoded.has_value()) << decoded.error().to_string();
    EXPECT_EQ(*decoded, record);
  }
  const Entry entry{true, 99};
  EXPECT_EQ(*decode_entry(1, "name", encode(entry)), entry);
  EXPECT_TRUE(check_file_system_record(encode_file_system_record()).ok());
}

// A time from a damaged record that no Duration can hold is the latest one.
TEST(Inode, TimesAreBoundedByWhatADurationHolds) {
  EXPECT_EQ(modified_time(0), Duration::zero());
  EXPECT_EQ(modified_time(1'700'000'000'000'000), std::chrono::seconds(1'700'000'000));
  for (const uint64_t written : {uint64_t{1008807420337585934}, ~uint64_t{0}}) {
    EXPECT_GT(modified_time(written), Duration::max() - std::chrono::microseconds(1));
  }
}

TEST(Inode, KeysSortByDirectoryAndName) {
  EXPECT_LT(entry_key(1, "zzz"), entry_key(2, "a"));
  EXPECT_LT(entry_key(255, "z"), entry_key(256, "a"));
  EXPECT_LT(entry_key(5, "a"), entry_key(5, "ab"));
  EXPECT_LT(directory_prefix(5), entry_key(5, std::string(1, '\x01')));
  uint64_t id = 0;
  std::string_view name;
  const std::string key = entry_key(0x0102030405060708, "n/a");
  ASSERT_TRUE(parse_entry_key(key, id, name));
  EXPECT_EQ(id, 0x0102030405060708u);
  EXPECT_EQ(name, "n/a");
  EXPECT_FALSE(parse_entry_key(directory_prefix(5), id, name)) << "an entry has a name";
  ASSERT_TRUE(parse_inode_key(inode_key(9), id));
  EXPECT_EQ(id, 9u);
  EXPECT_FALSE(parse_inode_key(key, id));
}

TEST(Inode, ImpossibleFieldsAreCorruption) {
  const std::string good = encode(log_record());
  const auto with = [&](size_t at, uint8_t value) {
    std::string bytes = good;
    bytes[at] = static_cast<char>(value);
    return decode_inode(7, bytes);
  };
  const auto later = with(0, 2);
  ASSERT_FALSE(later.has_value());
  EXPECT_EQ(later.error().code(), StatusCode::unsupported);
  const struct {
    size_t at;
    uint8_t value;
    const char* what;
  } cases[] = {{1, 0, "kind 0"},       {1, 4, "kind 4"},
               {3, 2, "unknown flag"}, {4, 0, "link count 0"},
               {23, 0xff, "length"},   {24, 0, "epoch 0"},
               {28, 1, "block size"},  {1, 1, "log fields in a table"}};
  for (const auto& c : cases) {
    const auto decoded = with(c.at, c.value);
    ASSERT_FALSE(decoded.has_value()) << c.what;
    EXPECT_EQ(decoded.error().code(), StatusCode::corruption) << c.what;
  }
  std::string table = encode(InodeRecord{});
  table[1] = 4;
  EXPECT_FALSE(decode_inode(7, table).has_value()) << "no log fields, and kind 4";
  EXPECT_FALSE(decode_inode(7, std::string_view(good).substr(1)).has_value());
  EXPECT_FALSE(decode_entry(1, "n", std::string(9, '\0')).has_value());
  std::string entry = encode(Entry{false, 20});
  entry[0] = 3;
  EXPECT_FALSE(decode_entry(1, "n", entry).has_value());
  EXPECT_FALSE(decode_entry(1, "..", encode(Entry{false, 20})).has_value());
  EXPECT_FALSE(decode_entry(1, "a/b", encode(Entry{false, 20})).has_value());
  EXPECT_FALSE(decode_entry(1, "n", encode(Entry{true, kRootDirectory})).has_value());
}

TEST(Inode, ALaterFileSystemIsNotOurs) {
  std::string record = encode_file_system_record();
  record[0] = kNamesVersion + 1;
  EXPECT_EQ(check_file_system_record(record).code(), StatusCode::unsupported);
  EXPECT_EQ(check_file_system_record(record.substr(1)).code(), StatusCode::corruption);
}

TEST(Inode, AnyBytesAreJudgedWithoutHarm) {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % 3 == 0 ? random() % 60 : sizeof(RawInode), '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 4 == 0 ? random() : random() % 3);
    const auto decoded = decode_inode(1, bytes);
    if (decoded) {
      EXPECT_EQ(encode(*decoded), bytes);
    }
  }
}

}  // namespace
}  // namespace basalt::blobfs
