// Goal: opening pmem: what it promises with and without persistent memory, the journal it keeps,
// one owner, errors. Method: real files; run twice, the second time with libpmem taking all for
// pmem.
#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "bdev/pmem/format.h"
#include "bdev/pmem/pmem_device.h"
#include "test/bdev/uring/fixture.h"

namespace basalt {
namespace {

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class PmemOpen : public UringTest {
 protected:
  PmemOpen() { register_pmem_scheme(*context_); }
  std::string pmem_uri(const std::string& keys) const {
    return "pmem:" + directory_ + "/disk" + (keys.empty() ? "" : "?" + keys);
  }
  static bool assumed() {
    const char* forced = std::getenv("PMEM_IS_PMEM_FORCE");
    return forced != nullptr && std::string_view(forced) == "1";
  }
  // Puts bytes into the file, from its end.
  void patch(uint64_t from_end, std::span<const std::byte> bytes) {
    std::fstream file(directory_ + "/disk", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-static_cast<std::streamoff>(from_end), std::ios::end);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    ASSERT_TRUE(file.good());
  }
};

TEST_F(PmemOpen, SaysWhatItPromises) {
  auto device = open(pmem_uri("size=4M"));
  ASSERT_TRUE(device) << device.error().to_string();
  const DeviceInfo& info = (*device)->info();
  EXPECT_EQ(info.block_size, 512u);
  EXPECT_EQ(info.block_count.value * info.block_size, (4u << 20) - pmem_format::kJournalBytes);
  EXPECT_EQ(info.volatile_write_cache, !assumed());
  EXPECT_EQ(info.atomic_write_blocks, assumed() ? 128u : 1u);
  EXPECT_EQ(log_.count(LogLevel::info, assumed() ? "durable when done" : "not persistent memory"),
            1u);
}

TEST_F(PmemOpen, TakesSpaceAtOnce) {
  ASSERT_EQ(why_not(pmem_uri("size=4M")), "opened");
  struct stat status {};
  ASSERT_EQ(stat((directory_ + "/disk").c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, 4 << 20) << "a hole could end in SIGBUS later";
}

TEST_F(PmemOpen, RefusesBadKeysAndFiles) {
  EXPECT_SAYS(why_not(pmem_uri("")), "size= creates it");
  EXPECT_SAYS(why_not(pmem_uri("size=1M")), "write journal");
  EXPECT_SAYS(why_not(pmem_uri("size=5000000")), "multiple of 4K");
  EXPECT_SAYS(why_not(pmem_uri("size=4M&block=100")), "power of two");
  EXPECT_SAYS(why_not(pmem_uri("size=4M&atomic=100")), "at least the block");
  EXPECT_SAYS(why_not(pmem_uri("size=4M&depth=3")), "depth");
  EXPECT_SAYS(why_not("pmem:/dev/null"), "not a regular file");
  ASSERT_EQ(why_not(file_uri("size=4M")), "opened");
  EXPECT_SAYS(why_not(pmem_uri("")), "not made by pmem:");
  std::filesystem::remove(directory_ + "/disk");
  if (assumed()) {
    EXPECT_SAYS(why_not(pmem_uri("size=4M&atomic=128K")), "no more than 64K");
  } else {
    EXPECT_EQ(why_not(pmem_uri("size=4M&atomic=128K")), "opened") << "the user's word";
  }
  EXPECT_SAYS(why_not(pmem_uri("size=8M")), "size= says 8388608 B");
}

TEST_F(PmemOpen, RefusesADamagedOrNewerJournal) {
  ASSERT_EQ(why_not(pmem_uri("size=4M")), "opened");
  pmem_format::JournalHeader header;
  {
    std::ifstream file(directory_ + "/disk", std::ios::binary);
    file.seekg(-static_cast<std::streamoff>(pmem_format::kJournalBytes), std::ios::end);
    file.read(reinterpret_cast<char*>(&header), sizeof header);
  }
  EXPECT_EQ(header.magic, pmem_format::kMagic);
  header.version = 2;
  patch(pmem_format::kJournalBytes, std::as_bytes(std::span(&header, 1)));
  EXPECT_SAYS(why_not(pmem_uri("")), "header is damaged");
}

TEST_F(PmemOpen, HasOneOwner) {
  auto device = open(pmem_uri("size=4M"));
  ASSERT_TRUE(device);
  EXPECT_SAYS(why_not(pmem_uri("")), "in use by this process");
  EXPECT_SAYS(why_not(file_uri("")), "in use by this process") << "file: and pmem: alike";
  device->reset();
  EXPECT_EQ(why_not(pmem_uri("")), "opened");
}

TEST_F(PmemOpen, FailsCleanlyWithoutSpace) {
  const std::string mount_point = directory_ + "/small";
  std::filesystem::create_directory(mount_point);
  if (mount("basalt-test", mount_point.c_str(), "tmpfs", 0, "size=8m") != 0) {
    GTEST_SKIP() << "cannot mount a tmpfs here";
  }
  EXPECT_SAYS(why_not("pmem:" + mount_point + "/disk?size=16M"), "no space");
  EXPECT_FALSE(std::filesystem::exists(mount_point + "/disk"));
  EXPECT_EQ(umount(mount_point.c_str()), 0);
}

}  // namespace
}  // namespace basalt
