// Binding: how a controller changes its driver.
//
// driver_override ties a function to one driver by name; unbind takes it from the present driver; drivers_probe
// offers it to all that match, and returns when one has taken it. The order matters: with the override in place
// first, no other driver can slip in between.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>

#include "base/sync.h"
#include "base/try.h"
#include "nvme/pci_devices.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

constexpr std::string_view kVfioDriver = "vfio-pci";

// One write(): sysfs takes an attribute in one piece.
int write_file(const std::string& path, std::string_view text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  const ssize_t written = ::write(fd, text.data(), text.size());
  const int why = written < 0 ? errno : 0;
  close(fd);
  return why;
}

// Whether somebody else holds what can be held once. Opening reads nothing and changes nothing.
bool is_held(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) return errno == EBUSY;
  close(fd);
  return false;
}

}  // namespace

Status PciDevices::bind(std::string_view bdf, InUse in_use) const {
  BASALT_TRY_ASSIGN(const PciDevice device, find(bdf));
  if (device.class_code != kNvmeClass) return not_nvme(device);
  if (device.driver == kVfioDriver) return {};
  if (!device.iommu_group) {
    return Status(StatusCode::unsupported,
                  device.address +
                      ": is in no IOMMU group, so its DMA could not be confined; turn the IOMMU "
                      "(VT-d, AMD-Vi) on in the BIOS setup and boot the kernel with intel_iommu=on "
                      "(AMD: amd_iommu=on)");
  }
  if (in_use == InUse::refuse) BASALT_TRY(check_not_used(device));
  std::error_code failed;
  if (!std::filesystem::exists(paths_.sysfs + "/bus/pci/drivers/vfio-pci", failed)) {
    return Status(StatusCode::not_found, device.address +
                                             ": the kernel's vfio-pci driver is not loaded; run "
                                             "`modprobe vfio-pci` and try again");
  }
  Status status = release(device, kVfioDriver);
  if (status.ok()) status = probe(device.address);
  if (status.ok() && read_device(device.address).driver == kVfioDriver) return {};
  if (status.ok()) {
    status =
        Status(StatusCode::io_error,
               device.address + ": vfio-pci did not take it; the kernel's log (`dmesg`) says why");
  }
  // Back to where it was, as far as that goes; `status` is the news in any case.
  (void)write(device.address, folder(device.address) + "/driver_override", "\n");
  if (read_device(device.address).driver.empty()) (void)probe(device.address);
  if (device.driver.empty() || !read_device(device.address).driver.empty()) return status;
  return Status(status.code(), std::string(status.message()) + "; it is without a driver now");
}

Status PciDevices::unbind(std::string_view bdf, InUse in_use) const {
  BASALT_TRY_ASSIGN(const PciDevice device, find(bdf));
  if (device.class_code != kNvmeClass) return not_nvme(device);
  if (!device.driver.empty() && device.driver != kVfioDriver) return {};
  if (in_use == InUse::refuse) BASALT_TRY(check_not_open(device));
  BASALT_TRY(release(device, ""));
  // A process that had it open closes the device and then its group; in between no other driver gets it.
  Status probed = probe(device.address);
  for (int i = 0; i < 20 && !probed.ok() && in_use == InUse::take_anyway; ++i) {
    sleep_for(std::chrono::milliseconds(50));
    probed = probe(device.address);
  }
  if (!probed.ok()) return probed;
  if (const PciDevice now = read_device(device.address); now.driver.empty()) {
    return Status(StatusCode::not_found, device.address +
                                             ": no driver of the kernel took it; run `modprobe "
                                             "nvme`, or see the kernel's log (`dmesg`)");
  }
  return {};
}

// driver_override takes a name, or a lone newline for none.
Status PciDevices::release(const PciDevice& device, std::string_view driver_override) const {
  const std::string path = folder(device.address);
  BASALT_TRY(write(device.address, path + "/driver_override",
                   driver_override.empty() ? "\n" : driver_override));
  if (device.driver.empty()) return {};
  return write(device.address, path + "/driver/unbind", device.address);
}

Status PciDevices::probe(const std::string& bdf) const {
  return write(bdf, paths_.sysfs + "/bus/pci/drivers_probe", bdf);
}

Status PciDevices::write(const std::string& bdf, const std::string& path,
                         std::string_view text) const {
  const int why = paths_.write ? paths_.write(path, text) : write_file(path, text);
  if (why == 0) return {};
  const Status status = system_error(bdf + ": write " + path, why);
  switch (why) {
    case EACCES:
    case EPERM:
      return Status(status.code(),
                    std::string(status.message()) + "; changing a driver takes root");
    case EROFS:
      return Status(status.code(),
                    std::string(status.message()) +
                        "; sysfs is mounted read-only, as in containers: run this on the host");
    default: return status;
  }
}

Status PciDevices::check_not_used(const PciDevice& device) const {
  std::string reasons;
  for (const PciBlockDevice& block : device.block_devices) {
    for (const std::string& user : block.users) reasons += (reasons.empty() ? "" : ", ") + user;
    // What no table shows (a pool's member, another user-space store) holds the device exclusively all the same.
    if (block.users.empty() && is_held(paths_.dev + "/" + block.name, O_RDONLY | O_EXCL)) {
      reasons += (reasons.empty() ? "" : ", ") + block.name + " is held by the kernel or a program";
    }
  }
  if (reasons.empty()) return {};
  return Status(StatusCode::busy,
                device.address + ": in use: " + reasons +
                    "; end that first, or force it and lose what is not written yet");
}

// A VFIO group can be open once.
Status PciDevices::check_not_open(const PciDevice& device) const {
  if (device.driver != kVfioDriver || !device.iommu_group) return {};
  const std::string group = paths_.dev + "/vfio/" + std::to_string(*device.iommu_group);
  if (!is_held(group, O_RDWR)) return {};
  return Status(StatusCode::busy,
                device.address + ": in use: a process has " + group +
                    " open; end that process first, or force it and wait until it lets go");
}

}  // namespace basalt::nvme
