// VfioContainer: why a group cannot be opened, as far as files tell. The rest needs a kernel with VFIO
// (guest/vfio_function_test.cc).
// Method: a /dev of this test's own in a temporary folder.
#include "nvme/vfio/vfio_container.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace basalt::nvme {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class VfioContainerTest : public testing::Test {
 protected:
  VfioContainerTest() {
    char name[] = "/tmp/basalt_vfio_XXXXXX";
    root_ = mkdtemp(name);
    fs::create_directories(root_ / "vfio");
    options_.paths.sysfs = root_ / "sys";
    options_.paths.dev = root_;
    device_.address = "0000:01:00.0";
    device_.class_code = kNvmeClass;
    device_.driver = "vfio-pci";
    device_.iommu_group = 7;
  }
  ~VfioContainerTest() override { fs::remove_all(root_); }

  void expect(StatusCode code, const std::string& part) {
    const auto opened = VfioContainer::open(device_, options_);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), code) << opened.error().to_string();
    EXPECT_THAT(opened.error().to_string(), HasSubstr("0000:01:00.0"));
    EXPECT_THAT(opened.error().to_string(), HasSubstr(part));
  }
  void add(const std::string& node) { std::ofstream(root_ / "vfio" / node) << ""; }

  fs::path root_;
  VfioOptions options_;
  PciDevice device_;
};

TEST_F(VfioContainerTest, SaysWhenItIsNotBound) {
  device_.driver = "nvme";
  expect(StatusCode::not_found, "to the driver nvme; run `basalt nvme bind 0000:01:00.0`");
  device_.driver = "";
  expect(StatusCode::not_found, "to no driver; run `basalt nvme bind 0000:01:00.0`");
  add("7");
  expect(StatusCode::not_found, "to no driver");  // another function of the group is bound
}

TEST_F(VfioContainerTest, SaysWhenThereIsNoGroup) {
  expect(StatusCode::not_found, "there is no " + (root_ / "vfio/7").string());
  device_.iommu_group.reset();
  expect(StatusCode::unsupported, "intel_iommu=on");
}

// Goal: without an IOMMU nothing is opened unless that is allowed; then the group's own file is, and what is behind it asked.
TEST_F(VfioContainerTest, RefusesNoIommuMode) {
  add("noiommu-7");
  expect(StatusCode::permission_denied, "writing to any memory of this machine");
  options_.allow_noiommu = true;
  expect(StatusCode::not_found, "open " + (root_ / "vfio/vfio").string());
  add("vfio");
  expect(StatusCode::unsupported, "ask " + (root_ / "vfio/vfio").string());
}

TEST_F(VfioContainerTest, SaysWhenVfioIsNotThere) {
  add("7");
  expect(StatusCode::not_found, "`modprobe vfio-pci`");
  add("vfio");
  expect(StatusCode::unsupported, "ask " + (root_ / "vfio/vfio").string());
}

}  // namespace
}  // namespace basalt::nvme
