// See vfio_container.h. The order is the kernel's: group and container, group into container, IOMMU.
#include "nvme/vfio/vfio_container.h"

#include <fcntl.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/try.h"
#include "nvme/hex.h"
#include "nvme/page.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

// The same code, and what to do about it.
Status with_advice(const Status& status, const std::string& advice) {
  return Status(status.code(), std::string(status.message()) + "; " + advice);
}

Result<UniqueFd> open_container(const PciDevice& device, const VfioOptions& options) {
  const std::string path = options.paths.dev + "/vfio/vfio";
  UniqueFd container(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!container) {
    const int why = errno;
    const Status status = system_error(device.address + ": open " + path, why);
    if (why == EACCES || why == EPERM) {
      return error(with_advice(status, "it takes root or the file's group"));
    }
    return error(with_advice(status, "is the kernel's vfio module loaded? `modprobe vfio-pci`"));
  }
  const int version = ioctl(container.get(), VFIO_GET_API_VERSION);
  if (version < 0) return error(system_error(device.address + ": ask " + path, errno));
  if (version != VFIO_API_VERSION) {
    return error(StatusCode::unsupported, device.address + ": this kernel's VFIO has interface " +
                                              std::to_string(version) + "; version " +
                                              std::to_string(VFIO_API_VERSION) + " is needed");
  }
  return container;
}

// Why there is no file for the group.
Status no_group_file(const PciDevice& device, const VfioOptions& options) {
  const std::string path = options.paths.dev + "/vfio/" + std::to_string(*device.iommu_group);
  std::error_code failed;
  if (std::filesystem::exists(
          options.paths.dev + "/vfio/noiommu-" + std::to_string(*device.iommu_group), failed)) {
    return Status(
        StatusCode::permission_denied,
        device.address +
            ": VFIO has it in its no-IOMMU mode, in which nothing keeps the controller from "
            "writing to any memory of this machine; turn the IOMMU on (BIOS setup, "
            "intel_iommu=on), or say unsafe_noiommu=1 if that is what you want");
  }
  if (device.driver != "vfio-pci") {
    return Status(StatusCode::not_found,
                  device.address + ": is not bound to vfio-pci but " +
                      (device.driver.empty() ? std::string("to no driver")
                                             : "to the driver " + device.driver) +
                      "; run `basalt nvme bind " + device.address + "`");
  }
  return Status(StatusCode::not_found, device.address + ": bound to vfio-pci, but there is no " +
                                           path +
                                           "; the kernel was built without VFIO groups "
                                           "(CONFIG_VFIO_GROUP), or /dev is a container's own");
}

// Which functions of the group keep it from being used. A bridge's own driver does no DMA, and is tolerated.
Status group_not_viable(const PciDevice& device, const VfioOptions& options) {
  std::string others;
  for (const PciDevice& member : PciDevices(options.paths).group_members(*device.iommu_group)) {
    const bool tolerated = member.driver.empty() || member.driver == "vfio-pci" ||
                           member.driver == "pci-stub" || member.driver == "pcieport";
    if (!tolerated) {
      others += (others.empty() ? "" : ", ") + member.address + " (" + member.driver + ")";
    }
  }
  return Status(StatusCode::busy,
                device.address + ": the IOMMU cannot tell it from the other functions of group " +
                    std::to_string(*device.iommu_group) +
                    ", and drivers of the kernel have some of them: " +
                    (others.empty() ? std::string("which, sysfs does not say") : others) +
                    "; unbind those, or put the controller into another slot");
}

// With no IOMMU its file has another name, so that neither is taken for the other.
Result<UniqueFd> open_group(const PciDevice& device, const VfioOptions& options, bool with_iommu) {
  const std::string path = options.paths.dev + "/vfio/" + (with_iommu ? "" : "noiommu-") +
                           std::to_string(*device.iommu_group);
  UniqueFd group(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (group) return group;
  const int why = errno;
  const Status status = system_error(device.address + ": open " + path, why);
  switch (why) {
    case ENOENT: return error(no_group_file(device, options));
    case EBUSY:
      return error(with_advice(
          status,
          "another process uses a function of this IOMMU group; `fuser " + path + "` shows it"));
    case EACCES:
    case EPERM:
      if (!with_iommu) return error(with_advice(status, "without an IOMMU it takes root"));
      return error(with_advice(
          status, "run as root, or give yourself the file: `chown $USER " + path + "` as root"));
    default: return error(status);
  }
}

}  // namespace

Result<std::unique_ptr<VfioContainer>> VfioContainer::open(const PciDevice& device,
                                                           const VfioOptions& options) {
  const std::string& name = device.address;
  if (!device.iommu_group) {
    return error(StatusCode::unsupported, name +
                                              ": is in no IOMMU group; turn the IOMMU (VT-d, "
                                              "AMD-Vi) on in the BIOS setup and boot the "
                                              "kernel with intel_iommu=on (AMD: amd_iommu=on)");
  }
  // A group's file is there when any function of it is bound, so this one's driver is looked at first.
  if (device.driver != "vfio-pci") return error(no_group_file(device, options));
  std::error_code failed;
  const bool noiommu =
      options.allow_noiommu &&
      std::filesystem::exists(
          options.paths.dev + "/vfio/noiommu-" + std::to_string(*device.iommu_group), failed);
  BASALT_TRY_ASSIGN(UniqueFd group, open_group(device, options, !noiommu));
  BASALT_TRY_ASSIGN(UniqueFd container, open_container(device, options));

  vfio_group_status status{};
  status.argsz = sizeof status;
  if (ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status) != 0) {
    return error(system_error(name + ": ask about the IOMMU group", errno));
  }
  if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
    return error(group_not_viable(device, options));
  const int container_fd = container.get();
  if (ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &container_fd) != 0) {
    return error(system_error(name + ": put the IOMMU group into a VFIO container", errno));
  }
  const bool version2 = ioctl(container_fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) > 0;
  const int type = noiommu ? VFIO_NOIOMMU_IOMMU : version2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU;
  if (ioctl(container_fd, VFIO_SET_IOMMU, type) != 0) {
    if (noiommu) {
      return error(with_advice(system_error(name + ": set the VFIO container to no IOMMU", errno),
                               "it takes CAP_SYS_RAWIO, and vfio.enable_unsafe_noiommu_mode=1"));
    }
    return error(
        with_advice(system_error(name + ": set the VFIO container's IOMMU type (1)", errno),
                    "`modprobe vfio_iommu_type1` loads it; without interrupt remapping the kernel "
                    "refuses, and says so in its log (`dmesg`)"));
  }
  std::unique_ptr<VfioContainer> opened(
      new VfioContainer(name, std::move(container), std::move(group)));
  opened->has_iommu_ = !noiommu;
  if (noiommu) {
    opened->iommu_.page_sizes = kPageBytes;
  } else {
    BASALT_TRY_ASSIGN(opened->iommu_, query_iommu_info(container_fd, name));
  }
  return opened;
}

Result<UniqueFd> VfioContainer::open_device(const std::string& bdf) const {
  UniqueFd device(ioctl(group_.get(), VFIO_GROUP_GET_DEVICE_FD, bdf.c_str()));
  if (device) return device;
  return error(system_error(bdf + ": open through its IOMMU group", errno));
}

Status VfioContainer::map(uint64_t iova, std::span<std::byte> memory) const {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  request.vaddr = reinterpret_cast<uintptr_t>(memory.data());
  request.iova = iova;
  request.size = memory.size();
  if (ioctl(container_.get(), VFIO_IOMMU_MAP_DMA, &request) == 0) return {};
  return map_error(iova, memory, errno);
}

Status VfioContainer::map_error(uint64_t iova, std::span<std::byte> memory, int why) const {
  const Status status = system_error(
      name_ + ": map " + std::to_string(memory.size()) + " B for DMA at IOVA " + hex(iova), why);
  switch (why) {
    case ENOMEM: {
      rlimit limit{};
      getrlimit(RLIMIT_MEMLOCK, &limit);
      if (limit.rlim_cur == RLIM_INFINITY) {
        return with_advice(status, "the machine has not enough memory that can be locked");
      }
      return with_advice(
          status, "this process may lock " + std::to_string(limit.rlim_cur) +
                      " B of memory, of which some is in use, and needs " +
                      std::to_string(memory.size()) +
                      " B more; raise the limit (`ulimit -l`, LimitMEMLOCK= of a systemd unit)");
    }
    case ENOSPC:
      return with_advice(
          status, "the kernel's limit of mappings is reached" +
                      (iommu_.mappings_left ? " (" + std::to_string(*iommu_.mappings_left) +
                                                  " were left when the controller was opened)"
                                            : std::string()) +
                      "; register fewer and larger pieces of memory, or raise "
                      "vfio_iommu_type1.dma_entry_limit");
    case EFAULT: return with_advice(status, "the memory must be mapped for reading and writing");
    case EINVAL:
      return with_advice(status, "address and length must be multiples of " +
                                     std::to_string(iommu_.granule()) + " B");
    default: return status;
  }
}

Status VfioContainer::unmap(uint64_t iova, uint64_t bytes) const {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.iova = iova;
  request.size = bytes;
  const std::string context =
      name_ + ": unmap " + std::to_string(bytes) + " B at IOVA " + hex(iova);
  if (ioctl(container_.get(), VFIO_IOMMU_UNMAP_DMA, &request) != 0) {
    return system_error(context, errno);
  }
  if (request.size == bytes) return {};
  return Status(StatusCode::internal,
                context + ": the kernel unmapped " + std::to_string(request.size) + " B instead");
}

}  // namespace basalt::nvme
