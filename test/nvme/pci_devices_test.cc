// PciDevices: what is found in sysfs, and which writes change a driver.
// Method: a sysfs of this test's own in a temporary folder. Its "kernel" sees each write and moves the driver's link as
// the real one does, as far as the test lets it.
#include "nvme/pci_devices.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace basalt::nvme {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kBdf = "0000:01:00.0";

std::string message(const Status& status) { return status.to_string(); }

class PciDevicesTest : public testing::Test {
 protected:
  PciDevicesTest() {
    char name[] = "/tmp/basalt_pci_XXXXXX";
    root_ = mkdtemp(name);
    fs::create_directories(root_ / "sys/bus/pci/devices");
    add_driver("nvme");
    add_driver("vfio-pci");
    add_function(kBdf, "0x1b36", "0x0010", "0x010802", "nvme", 4);
    put("mounts", "proc /proc proc rw 0 0\n/dev/sda1 / ext4 rw 0 0\n");
    put("swaps", "Filename\tType\tSize\tUsed\tPriority\n");
    paths_.sysfs = root_ / "sys";
    paths_.dev = root_ / "dev";
    paths_.mounts = root_ / "mounts";
    paths_.swaps = root_ / "swaps";
    paths_.write = [this](const std::string& path, std::string_view text) {
      return kernel(fs::path(path), std::string(text));
    };
  }
  ~PciDevicesTest() override { fs::remove_all(root_); }

  PciDevices devices() const { return PciDevices(paths_); }
  fs::path function(const std::string& bdf) const { return root_ / "sys/bus/pci/devices" / bdf; }
  void put(const fs::path& relative, const std::string& text) {
    fs::create_directories((root_ / relative).parent_path());
    std::ofstream(root_ / relative) << text;
  }
  void add_driver(const std::string& name) {
    fs::create_directories(root_ / "sys/bus/pci/drivers" / name);
  }
  void set_driver(const std::string& bdf, const std::string& driver) {
    fs::remove(function(bdf) / "driver");
    if (driver.empty()) return;
    fs::create_symlink("../../../../bus/pci/drivers/" + driver, function(bdf) / "driver");
  }
  void add_function(const std::string& bdf, const std::string& vendor, const std::string& device,
                    const std::string& class_code, const std::string& driver, int group) {
    const fs::path folder = fs::path("sys/bus/pci/devices") / bdf;
    put(folder / "vendor", vendor + "\n");
    put(folder / "device", device + "\n");
    put(folder / "class", class_code + "\n");
    put(folder / "numa_node", "1\n");
    put(folder / "driver_override", "(null)\n");
    set_driver(bdf, driver);
    if (group < 0) return;
    const fs::path members = root_ / "sys/kernel/iommu_groups" / std::to_string(group) / "devices";
    fs::create_directories(members);
    fs::create_symlink("../../../../kernel/iommu_groups/" + std::to_string(group),
                       function(bdf) / "iommu_group");
    fs::create_symlink(function(bdf), members / bdf);
  }
  // `path_name`: what the namespace is called in the controller's folder.
  void add_namespace(const std::string& path_name, const std::string& name,
                     const std::string& partition = "") {
    fs::create_directories(function(kBdf) / "nvme/nvme0" / path_name);
    fs::create_directories(function(kBdf) / "nvme/nvme0/power");
    fs::create_directories(function(kBdf) / "nvme/nvme0/ng0n1");
    fs::create_directories(root_ / "sys/block" / name / "holders");
    if (!partition.empty()) {
      fs::create_directories(root_ / "sys/block" / name / partition / "holders");
    }
  }
  std::string driver_of(const std::string& bdf) const {
    const auto found = devices().find(bdf);
    return found ? found->driver : message(found.error());
  }

  fs::path root_;
  PciPaths paths_;
  std::vector<std::string> writes_;  // "driver_override=vfio-pci"
  std::string override_;
  std::string refused_attribute_;  // writes to it fail with refusal_
  int refusal_ = EACCES;
  int refusals_left_ = 1000;
  std::vector<std::string> willing_{"vfio-pci", "nvme"};  // drivers that take a function

 private:
  int kernel(const fs::path& path, std::string text) {
    const std::string attribute = path.filename();
    writes_.push_back(attribute + "=" + (text == "\n" ? "" : text));
    if (attribute == refused_attribute_ && refusals_left_-- > 0) return refusal_;
    if (attribute == "driver_override") override_ = text == "\n" ? "" : text;
    if (attribute == "unbind") set_driver(text, "");
    if (attribute == "drivers_probe") {
      const std::string wanted = override_.empty() ? "nvme" : override_;
      for (const std::string& driver : willing_) {
        if (driver == wanted && !fs::is_symlink(function(text) / "driver"))
          set_driver(text, driver);
      }
    }
    return 0;
  }
};

TEST_F(PciDevicesTest, ListsControllers) {
  add_function("0000:00:1f.2", "0x8086", "0x2922", "0x010601", "ahci", 3);
  add_function("0000:02:00.0", "0x144d", "0xa80a", "0x010802", "", -1);
  add_namespace("nvme0n1", "nvme0n1");
  add_namespace("nvme0n2", "nvme0n2");
  const auto found = devices().list();
  ASSERT_TRUE(found) << message(found.error());
  ASSERT_EQ(found->size(), 2u);
  const PciDevice& first = found->front();
  EXPECT_EQ(first.address, kBdf);
  EXPECT_EQ(first.vendor_id, 0x1b36);
  EXPECT_EQ(first.device_id, 0x0010);
  EXPECT_EQ(first.class_code, kNvmeClass);
  EXPECT_EQ(first.driver, "nvme");
  EXPECT_EQ(first.iommu_group, 4u);
  EXPECT_EQ(first.numa_node, 1);
  ASSERT_EQ(first.block_devices.size(), 2u);
  EXPECT_EQ(first.block_devices[0].name, "nvme0n1");
  EXPECT_EQ(first.block_devices[1].name, "nvme0n2");
  EXPECT_THAT(first.block_devices[0].users, IsEmpty());
  const PciDevice& second = found->back();
  EXPECT_EQ(second.driver, "");
  EXPECT_FALSE(second.iommu_group.has_value());
  EXPECT_THAT(second.block_devices, IsEmpty());
}

TEST_F(PciDevicesTest, SaysWhenThereIsNoPci) {
  fs::remove_all(root_ / "sys/bus/pci/devices");
  EXPECT_EQ(devices().list().error().code(), StatusCode::unsupported);
}

TEST_F(PciDevicesTest, ListsAGroup) {
  add_function("0000:01:00.1", "0x1b36", "0x0001", "0x040300", "snd", 4);
  add_function("0000:02:00.0", "0x1b36", "0x0010", "0x010802", "nvme", 5);
  const auto members = devices().group_members(4);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].address, kBdf);
  EXPECT_EQ(members[1].driver, "snd");
  EXPECT_THAT(devices().group_members(6), IsEmpty());
}

TEST_F(PciDevicesTest, ChecksAddresses) {
  for (const char* good : {"0000:00:04.0", "0000:ff:1f.7", "10000:e1:00.0", "00010000:e1:00.0"}) {
    EXPECT_TRUE(check_pci_address(good).ok()) << good;
  }
  for (const char* bad :
       {"", "04:00.0", "0000:00:04", "0000:00:04.8", "0000:00:20.0", "000:00:04.0", "0000:00:04.00",
        "0000:0g:04.0", "0000:0A:04.0", "0000-00:04.0", "0000:00.04.0", " 0000:00:04.0",
        "0000:00:04.0/", "../../../../etc", "000000000:00:04.0"}) {
    const Status status = check_pci_address(bad);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument) << bad;
    EXPECT_THAT(message(status), HasSubstr("as in 0000:00:04.0"));
    EXPECT_EQ(devices().find(bad).error().code(), StatusCode::invalid_argument);
  }
  EXPECT_EQ(devices().find("0000:09:00.0").error().code(), StatusCode::not_found);
}

// Goal: all that makes a namespace used: mounts of it and of its partitions (through links and with odd names),
// swap, and devices above it.
TEST_F(PciDevicesTest, FindsUsers) {
  add_namespace("nvme0n1", "nvme0n1", "nvme0n1p2");
  fs::create_directories(root_ / "sys/block/nvme0n1/nvme0n1p2/holders/dm-3");
  put("dev/nvme0n1p2", "");
  fs::create_symlink("nvme0n1p2", root_ / "dev/by-label");
  put("mounts", "/dev/nvme0n1 /a\\040b\\134c ext4 rw 0 0\n" + (root_ / "dev/by-label").string() +
                    " /boot vfat rw 0 0\n/dev/nvme0n11 /other ext4 rw 0 0\n");
  put("swaps", "Filename\tType\n/dev/nvme0n1p2   partition\t1\t0\t-2\n");
  const auto found = devices().find(kBdf);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->block_devices.size(), 1u);
  EXPECT_THAT(found->block_devices[0].users,
              ElementsAre("nvme0n1 is mounted at /a b\\c", "nvme0n1p2 is mounted at /boot",
                          "nvme0n1p2 is used as swap", "nvme0n1p2 is used by dm-3"));
}

// Goal: behind multipath, the controller's folder has the hidden path, and what is mounted is the namespace.
TEST_F(PciDevicesTest, SeesThroughMultipath) {
  add_namespace("nvme3c0n1", "nvme3n1");
  put("mounts", "/dev/nvme3n1 /data xfs rw 0 0\n");
  const auto found = devices().find(kBdf);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->block_devices.size(), 1u);
  EXPECT_EQ(found->block_devices[0].name, "nvme3n1");
  EXPECT_THAT(found->block_devices[0].users, ElementsAre("nvme3n1 is mounted at /data"));
}

TEST_F(PciDevicesTest, BindsAndUnbinds) {
  add_namespace("nvme0n1", "nvme0n1");
  Status status = devices().bind(kBdf);
  ASSERT_TRUE(status.ok()) << message(status);
  EXPECT_EQ(driver_of(kBdf), "vfio-pci");
  EXPECT_THAT(writes_, ElementsAre("driver_override=vfio-pci", "unbind=0000:01:00.0",
                                   "drivers_probe=0000:01:00.0"));
  writes_.clear();
  EXPECT_TRUE(devices().bind(kBdf).ok());
  EXPECT_THAT(writes_, IsEmpty()) << "it is bound already";

  status = devices().unbind(kBdf);
  ASSERT_TRUE(status.ok()) << message(status);
  EXPECT_EQ(driver_of(kBdf), "nvme");
  EXPECT_THAT(writes_,
              ElementsAre("driver_override=", "unbind=0000:01:00.0", "drivers_probe=0000:01:00.0"));
  writes_.clear();
  EXPECT_TRUE(devices().unbind(kBdf).ok());
  EXPECT_THAT(writes_, IsEmpty()) << "the kernel's driver has it already";
}

TEST_F(PciDevicesTest, BindsWhatHasNoDriver) {
  set_driver(kBdf, "");
  ASSERT_TRUE(devices().bind(kBdf).ok());
  EXPECT_EQ(driver_of(kBdf), "vfio-pci");
  EXPECT_THAT(writes_, ElementsAre("driver_override=vfio-pci", "drivers_probe=0000:01:00.0"));
}

TEST_F(PciDevicesTest, RefusesWhatIsInUse) {
  add_namespace("nvme0n1", "nvme0n1", "nvme0n1p1");
  put("mounts", "/dev/nvme0n1p1 /data ext4 rw 0 0\n");
  const Status status = devices().bind(kBdf);
  EXPECT_EQ(status.code(), StatusCode::busy);
  EXPECT_THAT(message(status), HasSubstr("nvme0n1p1 is mounted at /data"));
  EXPECT_THAT(writes_, IsEmpty());
  EXPECT_EQ(driver_of(kBdf), "nvme");
  EXPECT_TRUE(devices().bind(kBdf, InUse::take_anyway).ok());
  EXPECT_EQ(driver_of(kBdf), "vfio-pci");
}

TEST_F(PciDevicesTest, RefusesWhatIsNoController) {
  add_function("0000:00:1f.2", "0x8086", "0x2922", "0x010601", "ahci", 3);
  for (const Status& status : {devices().bind("0000:00:1f.2"), devices().unbind("0000:00:1f.2")}) {
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    EXPECT_THAT(message(status), HasSubstr("class 0x010601 (vendor 0x8086, device 0x2922)"));
  }
  EXPECT_THAT(writes_, IsEmpty());
}

TEST_F(PciDevicesTest, SaysWhatIsMissing) {
  add_function("0000:02:00.0", "0x1b36", "0x0010", "0x010802", "nvme", -1);
  Status status = devices().bind("0000:02:00.0");
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_THAT(message(status), HasSubstr("intel_iommu=on"));

  fs::remove_all(root_ / "sys/bus/pci/drivers/vfio-pci");
  status = devices().bind(kBdf);
  EXPECT_EQ(status.code(), StatusCode::not_found);
  EXPECT_THAT(message(status), HasSubstr("`modprobe vfio-pci`"));
  EXPECT_THAT(writes_, IsEmpty());
}

// Goal: a write the system refuses says which and what to do, and nothing has changed.
TEST_F(PciDevicesTest, SaysWhenItMayNot) {
  for (const auto& [why, advice] :
       {std::pair{EACCES, "root"}, std::pair{EPERM, "root"}, std::pair{EROFS, "read-only"}}) {
    refusal_ = why;
    for (const char* attribute : {"driver_override", "unbind"}) {
      refused_attribute_ = attribute;
      const Status status = devices().bind(kBdf);
      EXPECT_EQ(status.code(), StatusCode::permission_denied);
      EXPECT_THAT(message(status), HasSubstr(advice));
      EXPECT_THAT(message(status), HasSubstr(attribute));
      EXPECT_EQ(driver_of(kBdf), "nvme");
      EXPECT_EQ(override_, "");
    }
  }
}

// Goal: when vfio-pci does not take it, the old driver has it again, and the message says so if not.
TEST_F(PciDevicesTest, GoesBackWhenVfioDoesNotTakeIt) {
  willing_ = {"nvme"};
  Status status = devices().bind(kBdf);
  EXPECT_EQ(status.code(), StatusCode::io_error);
  EXPECT_THAT(message(status), HasSubstr("vfio-pci did not take it"));
  EXPECT_EQ(driver_of(kBdf), "nvme");
  EXPECT_EQ(override_, "");

  willing_ = {};
  status = devices().bind(kBdf);
  EXPECT_THAT(message(status), HasSubstr("it is without a driver now"));
}

TEST_F(PciDevicesTest, SaysWhenNoDriverTakesItBack) {
  set_driver(kBdf, "vfio-pci");
  willing_ = {};
  const Status status = devices().unbind(kBdf);
  EXPECT_EQ(status.code(), StatusCode::not_found);
  EXPECT_THAT(message(status), HasSubstr("`modprobe nvme`"));
}

// The bug: a process that lets go closes its device first and the IOMMU group after it, and the kernel gave the function
// to no driver in between, so unbinding failed with "Invalid argument".
TEST_F(PciDevicesTest, WaitsForTheGroupToBeClosed) {
  set_driver(kBdf, "vfio-pci");
  refused_attribute_ = "drivers_probe";
  refusal_ = EINVAL;
  refusals_left_ = 2;
  const Status status = devices().unbind(kBdf, InUse::take_anyway);
  EXPECT_TRUE(status.ok()) << message(status);
  EXPECT_EQ(driver_of(kBdf), "nvme");
}

// Goal: without a hook, attributes are written for real. Method: plain files take the place of sysfs's.
TEST_F(PciDevicesTest, WritesFiles) {
  paths_.write = nullptr;
  set_driver(kBdf, "");
  put("sys/bus/pci/drivers_probe", "");
  EXPECT_EQ(devices().bind(kBdf).code(), StatusCode::io_error) << "no kernel listens";
  std::string probed;
  std::ifstream(root_ / "sys/bus/pci/drivers_probe") >> probed;
  EXPECT_EQ(probed, kBdf);
  fs::remove(function(kBdf) / "driver_override");
  EXPECT_EQ(devices().bind(kBdf).code(), StatusCode::not_found);
}

}  // namespace
}  // namespace basalt::nvme
