// Goal: what opening a file or block device accepts, creates and refuses, and that each refusal
// says what was wrong and what would be right. Method: real files in a temporary folder.
#include <sys/stat.h>

#include <cerrno>
#include <fstream>

#include "bdev/uring/ring_setup.h"
#include "test/bdev/uring/fixture.h"
#include "test/bdev/uring/loop_device.h"

namespace basalt {
namespace {

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class UringOpen : public UringTest {
 protected:
  void make_file(const std::string& name, uint64_t bytes) {
    std::ofstream(directory_ + "/" + name).close();
    std::filesystem::resize_file(directory_ + "/" + name, bytes);
  }
  uint64_t size_on_disk(const std::string& name) {
    return std::filesystem::file_size(directory_ + "/" + name);
  }
};

TEST_F(UringOpen, CreatesAMissingFileOnlyWithASize) {
  EXPECT_SAYS(why_not(file_uri("")), "size= creates it");
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/disk"));
  ASSERT_EQ(why_not(file_uri("size=8M")), "opened");
  EXPECT_EQ(size_on_disk("disk"), 8u << 20);
  struct stat status {};
  ASSERT_EQ(stat((directory_ + "/disk").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u) << "a new device is its owner's alone";
  EXPECT_EQ(why_not(file_uri("")), "opened");
  EXPECT_EQ(why_not(file_uri("size=8M")), "opened");
}

TEST_F(UringOpen, NeverCreatesForReading) {
  EXPECT_SAYS(why_not(file_uri("size=8M"), {.mode = OpenMode::read_only}), "not found");
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/disk"));
}

TEST_F(UringOpen, RefusesAnotherSizeAndGrowsWhenTold) {
  make_file("disk", 4 << 20);
  std::string why = why_not(file_uri("size=8M"));
  EXPECT_SAYS(why, "invalid argument");
  EXPECT_SAYS(why, "4194304 B");
  EXPECT_SAYS(why, "8388608");
  EXPECT_SAYS(why, "grow=1");
  EXPECT_SAYS(why_not(file_uri("size=1M")), "4194304 B");
  EXPECT_SAYS(why_not(file_uri("size=1M&grow=1")), "4194304 B") << "growing never shrinks";
  EXPECT_SAYS(why_not(file_uri("size=8M&grow=1"), {.mode = OpenMode::read_only}), "read-only");
  EXPECT_EQ(size_on_disk("disk"), 4u << 20);
  auto device = open(file_uri("size=8M&grow=1"));
  ASSERT_TRUE(device) << device.error().to_string();
  EXPECT_EQ((*device)->info().block_count.value * (*device)->info().block_size, 8u << 20);
}

TEST_F(UringOpen, TakesAnEmptyFileAsMissing) {
  make_file("disk", 0);
  EXPECT_SAYS(why_not(file_uri("")), "less than one block");
  EXPECT_EQ(why_not(file_uri("size=1M")), "opened");
}

TEST_F(UringOpen, IgnoresATailOfLessThanABlock) {
  const struct {
    uint64_t bytes, blocks;
  } rows[] = {{512, 1}, {513, 1}, {1023, 1}, {1024, 2}, {4097, 8}};
  for (const auto& row : rows) {
    make_file("disk", row.bytes);
    auto device = open(file_uri(""));
    ASSERT_TRUE(device) << device.error().to_string();
    if ((*device)->info().block_size != 512) GTEST_SKIP() << "the file system has larger blocks";
    EXPECT_EQ((*device)->info().block_count.value, row.blocks) << row.bytes;
    auto channel = (*device)->open_channel();
    ASSERT_TRUE(channel);
    const Pages memory(512, 0xAA);
    EXPECT_EQ(io(**channel, Op::read, row.blocks - 1, memory.span(), 512), StatusCode::ok);
    EXPECT_TRUE(memory.all(0));
    EXPECT_EQ(io(**channel, Op::read, row.blocks, memory.span(), 512), StatusCode::out_of_range);
  }
  make_file("disk", 511);
  EXPECT_SAYS(why_not(file_uri("")), "511 B, less than one block");
}

TEST_F(UringOpen, RefusesWhatIsNoDevice) {
  EXPECT_SAYS(why_not("file:"), "no path");
  EXPECT_SAYS(why_not("file:" + directory_), "is a directory");
  EXPECT_SAYS(why_not("file:/dev/null"), "neither a regular file nor a block device");
  EXPECT_SAYS(why_not("uring:(file:/x)"), "takes a path");
  EXPECT_SAYS(why_not("file:" + directory_ + "/none/disk?size=1M"), "the folder does not exist");
  std::filesystem::create_symlink(directory_ + "/loop", directory_ + "/loop");
  EXPECT_SAYS(why_not("file:" + directory_ + "/loop?size=1M"), "symbolic links");
}

TEST_F(UringOpen, RefusesBadKeys) {
  make_file("disk", 1 << 20);
  const struct {
    const char* keys;
    const char* says;
  } rows[] = {{"block=100", "power of two"},
              {"block=256", "no less than 512"},
              {"block=128K", "power of two"},
              {"atomic=256", "from the block"},
              {"atomic=1536", "power of two"},
              {"atomic=1G", "what is written at once"},
              {"depth=0", "depth"},
              {"depth=5000", "depth"},
              {"size=0", "multiple of the block"},
              {"size=1000", "multiple of the block"},
              {"direct=maybe", "direct"},
              {"sizes=1M", "sizes"},
              {"size=1M&block=4096&grow=2", "grow"}};
  for (const auto& row : rows) {
    const std::string why = why_not(file_uri(row.keys));
    EXPECT_SAYS(why, "invalid argument");
    EXPECT_SAYS(why, row.says);
  }
}

TEST_F(UringOpen, TellsWhatIsAtomic) {
  make_file("disk", 1 << 20);
  auto device = open(file_uri(""));
  ASSERT_TRUE(device);
  EXPECT_EQ((*device)->info().atomic_write_blocks, 1u) << "one logical block is assumed, no more";
  EXPECT_TRUE((*device)->info().volatile_write_cache) << "a file's cache is always volatile";
  EXPECT_EQ(log_.count(LogLevel::warning, "taken as atomic"), 0u);
  device->reset();
  device = open(file_uri("block=4096&atomic=64K"));
  ASSERT_TRUE(device) << device.error().to_string();
  EXPECT_EQ((*device)->info().atomic_write_blocks, 16u);
}

TEST_F(UringOpen, BufferedOpenTakesAnyMemoryAndStaysVolatile) {
  make_file("disk", 1 << 20);
  auto device = open(file_uri("direct=0"));
  ASSERT_TRUE(device);
  EXPECT_EQ((*device)->info().memory_alignment, 1u);
  EXPECT_TRUE((*device)->info().volatile_write_cache);
}

TEST_F(UringOpen, KnowsWhatForgetsAtRestart) {
  if (!std::filesystem::exists("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
  const std::string path = "/dev/shm/basalt-uring-test-" + std::to_string(getpid());
  auto device = open("file:" + path + "?size=1M&direct=0");
  std::filesystem::remove(path);
  ASSERT_TRUE(device) << device.error().to_string();
  EXPECT_FALSE((*device)->info().persistent);
}

TEST_F(UringOpen, RefusesASizeThatIsNotTheBlockDevices) {
  const std::string why = why_no_loop_devices();
  if (!why.empty()) GTEST_SKIP() << why;
  auto loop = LoopDevice::create(directory_ + "/backing", 8 << 20, 4096);
  ASSERT_TRUE(loop) << loop.error().to_string();
  EXPECT_SAYS(why_not("uring:" + loop->path() + "?size=16M"), "8388608 B");
  EXPECT_SAYS(why_not("uring:" + loop->path() + "?block=512"), "no less than 4K");
  auto device = open("uring:" + loop->path() + "?size=8M");
  ASSERT_TRUE(device) << device.error().to_string();
  EXPECT_EQ((*device)->info().block_size, 4096u);
  EXPECT_EQ((*device)->info().block_count.value, 2048u);
}

// Goal: each way in which io_uring can be missing names the setting that brings it back.
TEST(RingErrors, NameWhatToChange) {
  const struct {
    int error_number;
    std::optional<int> disabled;
    const char* says;
  } rows[] = {{ENOSYS, std::nullopt, "CONFIG_IO_URING"},
              {EPERM, 2, "sysctl kernel.io_uring_disabled=0"},
              {EPERM, 1, "kernel.io_uring_group"},
              {EPERM, 0, "seccomp"},
              {EPERM, std::nullopt, "seccomp"},
              {ENOMEM, 0, "ulimit -l"},
              {EMFILE, 0, "ulimit -n"}};
  for (const auto& row : rows) {
    EXPECT_SAYS(explain_ring_error(row.error_number, row.disabled).to_string(), row.says);
  }
}

}  // namespace
}  // namespace basalt
