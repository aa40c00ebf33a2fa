// Physical addresses: what the kernel tells, as files of the test's own tell it; and what it tells of a real hugepage.
#include "nvme/vfio/physical_memory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "mem/arena.h"

namespace basalt::nvme {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63, kHugetlb = uint64_t{1} << 17;

class PhysicalMemoryTest : public testing::Test {
 protected:
  PhysicalMemoryTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  ~PhysicalMemoryTest() override { std::filesystem::remove_all(directory_); }

  // Four pages at address 0x10000, which the kernel says lie so, in frames that are so.
  Result<uint64_t> ask(const std::vector<uint64_t>& entries, const std::vector<uint64_t>& flags) {
    write("pagemap", 0x10, entries);
    write("flags", 0x200, flags);
    const PhysicalMemory physical({directory_ + "/pagemap", directory_ + "/flags"});
    return physical.address_of({reinterpret_cast<const std::byte*>(0x10000), 4 * 4096});
  }
  void expect_refused(const Result<uint64_t>& answer, StatusCode code, const std::string& part) {
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), code);
    EXPECT_NE(answer.error().to_string().find(part), std::string::npos)
        << answer.error().to_string();
  }

  std::string directory_;

 private:
  void write(const std::string& name, size_t first, const std::vector<uint64_t>& words) const {
    std::vector<uint64_t> all(first);
    all.insert(all.end(), words.begin(), words.end());
    std::ofstream(directory_ + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(all.data()),
               static_cast<std::streamsize>(all.size() * sizeof(uint64_t)));
  }
};

TEST_F(PhysicalMemoryTest, IsWhereTheKernelSaysItIs) {
  const auto address = ask({kPresent | 0x200, kPresent | 0x201, kPresent | 0x202, kPresent | 0x203},
                           {kHugetlb, kHugetlb, kHugetlb, kHugetlb});
  ASSERT_TRUE(address) << address.error().to_string();
  EXPECT_EQ(*address, 0x200'000u);
}

TEST_F(PhysicalMemoryTest, OnlyOfMemoryThatStaysWhereItIs) {
  const std::vector<uint64_t> entries{kPresent | 0x200, kPresent | 0x201, kPresent | 0x202,
                                      kPresent | 0x203};
  expect_refused(ask(entries, {kHugetlb, kHugetlb, kHugetlb, 0}), StatusCode::unsupported,
                 "not in hugepages");
  const std::vector<uint64_t> huge(16, kHugetlb);
  expect_refused(ask({kPresent | 0x200, 0, kPresent | 0x202, kPresent | 0x203}, huge),
                 StatusCode::unsupported, "not there yet");
  expect_refused(
      ask({kPresent | 0x200, kPresent | 0x201, kPresent | 0x209, kPresent | 0x203}, huge),
      StatusCode::unsupported, "not in one piece");
  expect_refused(ask({kPresent, kPresent, kPresent, kPresent}, huge), StatusCode::permission_denied,
                 "CAP_SYS_ADMIN");
  expect_refused(ask({}, huge), StatusCode::io_error, "pagemap");
}

TEST_F(PhysicalMemoryTest, OnlyOfWholePages) {
  const PhysicalMemory physical({directory_ + "/pagemap", directory_ + "/flags"});
  const auto expect = [&](uintptr_t begin, size_t bytes) {
    expect_refused(physical.address_of({reinterpret_cast<const std::byte*>(begin), bytes}),
                   StatusCode::invalid_argument, "whole pages");
  };
  expect(0x10000, 0);
  expect(0x10000, 4095);
  expect(0x10000, 4100);
  expect(0x10010, 4096);
}

TEST_F(PhysicalMemoryTest, OrdinaryPagesOfThisProcessAreRefused) {
  auto arena = Arena::create({.bytes = 65536, .hugepages = Hugepages::no});
  ASSERT_TRUE(arena);
  std::fill((*arena)->memory().begin(), (*arena)->memory().end(), std::byte{1});
  const auto address = PhysicalMemory().address_of((*arena)->memory());
  ASSERT_FALSE(address);
  EXPECT_TRUE(address.error().code() == StatusCode::unsupported ||
              address.error().code() == StatusCode::permission_denied)
      << address.error().to_string();
}

TEST_F(PhysicalMemoryTest, AHugepageIsInOnePiece) {
  auto arena = Arena::create({.bytes = PhysicalMemory::kHugepageBytes});
  ASSERT_TRUE(arena);
  if ((*arena)->page_bytes() != PhysicalMemory::kHugepageBytes) GTEST_SKIP() << "no hugepages here";
  std::fill((*arena)->memory().begin(), (*arena)->memory().end(), std::byte{1});
  const auto address = PhysicalMemory().address_of((*arena)->memory());
  if (!address && address.error().code() == StatusCode::permission_denied) {
    GTEST_SKIP() << address.error().to_string();
  }
  ASSERT_TRUE(address) << address.error().to_string();
  EXPECT_EQ(*address % PhysicalMemory::kHugepageBytes, 0u);
  EXPECT_NE(*address, 0u);
}

}  // namespace
}  // namespace basalt::nvme
