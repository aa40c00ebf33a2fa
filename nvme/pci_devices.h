// PciDevices: the NVMe controllers of this machine, and which driver has them.
//
// All of it is in sysfs: a PCI function's folder names its class, its driver and its IOMMU group, and writing to
// driver_override, unbind and drivers_probe moves it from the kernel's nvme driver to vfio-pci and back.
// Each call looks anew and keeps nothing. The folders can be other ones than the system's, for tests.
// Thread rules: any thread. Two that move the same function at once are not kept apart, here or by the kernel.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::nvme {

inline constexpr uint32_t kNvmeClass = 0x010802;  // mass storage, non-volatile memory, NVM Express

// A namespace's block device, made by the kernel's nvme driver.
struct PciBlockDevice {
  std::string name;                // "nvme0n1"
  std::vector<std::string> users;  // "nvme0n1p1 is mounted at /data", "nvme0n1 is used by dm-0"
};

struct PciDevice {
  std::string address;  // "0000:00:04.0"
  uint16_t vendor_id = 0;
  uint16_t device_id = 0;
  uint32_t class_code = 0;              // base class, subclass, programming interface
  std::string driver;                   // empty: none
  std::optional<uint32_t> iommu_group;  // none: no IOMMU, or it is off
  int numa_node = -1;                   // -1: not known
  std::vector<PciBlockDevice> block_devices;
};

// Where the system's files are.
struct PciPaths {
  std::string sysfs = "/sys";
  std::string dev = "/dev";
  std::string mounts = "/proc/mounts";
  std::string swaps = "/proc/swaps";
  // Writes `text` to a sysfs attribute; answers 0 or errno. Empty: writes to the file.
  std::function<int(const std::string& path, std::string_view text)> write;
};

// What to do about a controller that is in use.
enum class InUse : uint8_t { refuse, take_anyway };

// ok for "0000:00:04.0"; else invalid_argument with what would be right.
Status check_pci_address(std::string_view bdf);

// "0000:00:03.0: class 0x020000 (vendor 8086, device 100e) is …": why this is no NVMe controller.
Status not_nvme(const PciDevice& device);

class PciDevices {
 public:
  explicit PciDevices(PciPaths paths = {});

  // All functions of class 0x0108xx (non-volatile memory controllers), by address.
  // Errors: unsupported when there is no PCI in sysfs.
  Result<std::vector<PciDevice>> list() const;
  // Any PCI function. Errors: invalid_argument for a malformed address, not_found.
  Result<PciDevice> find(std::string_view bdf) const;
  // All functions of an IOMMU group, by address.
  std::vector<PciDevice> group_members(uint32_t group) const;

  // Takes the controller from its driver and gives it to vfio-pci; ok when vfio-pci has it already. When vfio-pci
  // does not take it, its old driver gets it back.
  // Errors: invalid_argument (no NVMe controller), busy (namespaces mounted, used as swap, or held by another
  // device: the message names them; not asked with take_anyway), unsupported (no IOMMU group), not_found
  // (vfio-pci is not loaded), permission_denied.
  Status bind(std::string_view bdf, InUse in_use = InUse::refuse) const;
  // Takes the controller from vfio-pci and gives it to the kernel's driver; ok when that has it already.
  // Errors: busy (a process has the controller open; with take_anyway the kernel asks that process to let go, and
  // this call waits until it does), not_found (no driver took it), permission_denied.
  Status unbind(std::string_view bdf, InUse in_use = InUse::refuse) const;

  const PciPaths& paths() const { return paths_; }

 private:
  std::string folder(std::string_view bdf) const;
  PciDevice read_device(std::string address) const;
  std::vector<PciBlockDevice> block_devices(const std::string& folder) const;
  std::vector<std::string> users(const std::string& block_device) const;

  Status write(const std::string& bdf, const std::string& path, std::string_view text) const;
  Status check_not_used(const PciDevice& device) const;
  Status check_not_open(const PciDevice& device) const;
  // Takes the function from its driver, so that only `driver_override` (empty: any) can have it next.
  Status release(const PciDevice& device, std::string_view driver_override) const;
  // Offers the function to the drivers.
  Status probe(const std::string& bdf) const;

  const PciPaths paths_;
};

}  // namespace basalt::nvme
