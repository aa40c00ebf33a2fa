// VfioBar: mapped parts, the rest by pread() and pwrite(), and offsets that are no register.
// Method: a file in memory takes the place of the device's descriptor, with the BAR somewhere inside it.
#include "nvme/vfio/vfio_bar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace basalt::nvme {
namespace {

constexpr uint64_t kFileOffset = 0x10000;
constexpr uint64_t kBytes = 0x4000;

class VfioBarTest : public testing::Test {
 protected:
  VfioBarTest() : file_(memfd_create("bar", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(file_.get(), kFileOffset + kBytes), 0);
  }
  std::unique_ptr<VfioBar> open(std::vector<RegionArea> mappable) {
    auto bar = VfioBar::open(
        file_.get(), {.bytes = kBytes, .file_offset = kFileOffset, .mappable = std::move(mappable)},
        "bar");
    EXPECT_TRUE(bar) << bar.error().to_string();
    return std::move(*bar);
  }
  uint32_t in_file(uint64_t offset) {
    uint32_t value = 0;
    EXPECT_EQ(pread(file_.get(), &value, 4, static_cast<off_t>(kFileOffset + offset)), 4);
    return value;
  }

  UniqueFd file_;
};

// Goal: every register is reached at its place, whichever parts are mapped. The middle case is what kernels before
// 4.16 allow when the MSI-X table is at 0x2000.
TEST_F(VfioBarTest, ReachesEveryRegister) {
  const std::vector<std::vector<RegionArea>> layouts{
      {}, {{0, kBytes}}, {{0, 0x2000}, {0x3000, 0x1000}}, {{0x1000, 0x1000}}};
  uint32_t value = 1;
  for (const auto& layout : layouts) {
    const auto bar = open(layout);
    EXPECT_EQ(bar->size_bytes(), kBytes);
    for (const uint32_t offset :
         {0x0u, 0x14u, 0xffcu, 0x1000u, 0x1ffcu, 0x2000u, 0x2ffcu, 0x3000u, 0x3ffcu}) {
      const Status written = bar->write32(offset, ++value);
      ASSERT_TRUE(written.ok()) << written.to_string();
      EXPECT_EQ(in_file(offset), value);
      EXPECT_EQ(bar->read32(offset), value);
    }
  }
}

TEST_F(VfioBarTest, MapsDoorbellsAsFarAsItCan) {
  EXPECT_TRUE(open({})->mapped_from(0x1000).empty());
  EXPECT_TRUE(open({{0, 0x1000}})->mapped_from(0x1000).empty());
  EXPECT_EQ(open({{0, kBytes}})->mapped_from(0x1000).size(), 0x3000u);
  EXPECT_EQ(open({{0, 0x2000}, {0x3000, 0x1000}})->mapped_from(0x1000).size(), 0x1000u);
  const auto bar = open({{0x1000, 0x1000}});
  const auto doorbells = bar->mapped_from(0x1000);
  ASSERT_EQ(doorbells.size(), 0x1000u);
  doorbells[8] = std::byte{7};
  EXPECT_EQ(in_file(0x1008), 7u);
}

TEST_F(VfioBarTest, RefusesOffsetsWithoutRegister) {
  const auto bar = open({{0, kBytes}});
  for (const uint32_t offset : {1u, 2u, 0x3ffdu, 0x4000u, 0xffff'fffcu}) {
    EXPECT_EQ(bar->read32(offset).error().code(), StatusCode::invalid_argument);
    EXPECT_EQ(bar->write32(offset, 0).code(), StatusCode::invalid_argument);
  }
}

TEST_F(VfioBarTest, RefusesABarWithoutDoorbells) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{0x1000}, uint64_t{0x1007}}) {
    const auto bar = VfioBar::open(file_.get(), {.bytes = bytes, .mappable = {}}, "bar");
    ASSERT_FALSE(bar);
    EXPECT_EQ(bar.error().code(), StatusCode::io_error);
  }
}

// Goal: a function that is gone answers all ones everywhere; one register of all ones is an answer.
TEST_F(VfioBarTest, TellsAllOnesFromRemoval) {
  const std::vector<std::byte> ones(kBytes, std::byte{0xff});
  for (const std::vector<RegionArea>& layout :
       {std::vector<RegionArea>{}, std::vector<RegionArea>{{0, kBytes}}}) {
    ASSERT_EQ(pwrite(file_.get(), ones.data(), kBytes, kFileOffset), ssize_t{kBytes});
    const auto bar = open(layout);
    for (const uint32_t offset : {0x0u, 0x8u, 0x1cu, 0x1000u}) {
      const auto gone = bar->read32(offset);
      ASSERT_FALSE(gone);
      EXPECT_EQ(gone.error().code(), StatusCode::device_removed);
    }
    EXPECT_TRUE(bar->write32(0x8, 0x10400).ok()) << "a write cannot tell";
    EXPECT_EQ(bar->read32(0x8), 0x10400u) << "and if it comes back, it is back";
    EXPECT_EQ(bar->read32(0x1c), 0xffff'ffffu);
  }
}

// Goal: the descriptor's errors are the register's.
TEST_F(VfioBarTest, PassesErrorsOn) {
  const auto bar = open({{0, 0x1000}});
  ASSERT_EQ(ftruncate(file_.get(), kFileOffset + 0x1000), 0);
  EXPECT_EQ(bar->read32(0x1000).error().code(), StatusCode::io_error) << "short";
  const UniqueFd read_only(
      ::open(("/proc/self/fd/" + std::to_string(file_.get())).c_str(), O_RDONLY | O_CLOEXEC));
  const auto other =
      VfioBar::open(read_only.get(), {.bytes = kBytes, .file_offset = 0, .mappable = {}}, "bar");
  ASSERT_TRUE(other);
  EXPECT_EQ((*other)->write32(0, 1).code(), StatusCode::io_error);
}

}  // namespace
}  // namespace basalt::nvme
