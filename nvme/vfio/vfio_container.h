// VfioContainer: one IOMMU group opened through VFIO, and the address space its devices see, if there is an IOMMU.
//
// A VFIO container is an IOMMU address space; a group is the least set of functions that the IOMMU can tell apart,
// and can be opened by one process at a time. This holds one group in one container of its own: closing it ends
// all of its DMA whatever else the process does, a controller's mappings count against no other controller's
// limit, and the price (memory mapped for several controllers is pinned and counted once for each) is paid only by
// whoever opens several.
// Owns both descriptors. Devices opened from it must be closed before it goes.
// Thread rules: any thread; the kernel orders the mappings.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nvme/pci_devices.h"
#include "base/unique_fd.h"
#include "nvme/vfio/vfio_info.h"

namespace basalt::nvme {

struct VfioOptions {
  // Whether a group without an IOMMU may be used. Nothing then keeps the controller from writing to any memory of the
  // machine, also to what this process had and has given back, should it be killed. It takes root and hugepages
  // (physical_memory.h), and a kernel with VFIO's no-IOMMU mode on (vfio.enable_unsafe_noiommu_mode=1).
  bool allow_noiommu = false;
  PciPaths paths;
};

class VfioContainer {
 public:
  // Opens the group of `device`. Errors: not_found (not bound to vfio-pci, or VFIO is not loaded), busy (another
  // process has the group, or a driver of the kernel has a function of it), permission_denied, unsupported
  // (interface or IOMMU type).
  static Result<std::unique_ptr<VfioContainer>> open(const PciDevice& device,
                                                     const VfioOptions& options);

  // Opens a function of the group.
  Result<UniqueFd> open_device(const std::string& bdf) const;

  // Without an IOMMU there are no mappings: devices take physical addresses.
  bool has_iommu() const { return has_iommu_; }
  const IommuInfo& iommu() const { return iommu_; }

  // Lets the group's devices read and write `memory` at `iova`, and pins its pages. Errors: no_space (the limit of
  // locked memory, or of mappings), invalid_argument (memory that cannot be pinned, or an address the IOMMU does
  // not have).
  Status map(uint64_t iova, std::span<std::byte> memory) const;
  // `iova` and `bytes` of one whole mapping.
  Status unmap(uint64_t iova, uint64_t bytes) const;

 private:
  VfioContainer(std::string name, UniqueFd container, UniqueFd group)
      : name_(std::move(name)), container_(std::move(container)), group_(std::move(group)) {}
  Status map_error(uint64_t iova, std::span<std::byte> memory, int why) const;

  const std::string name_;  // the function it was opened for, for messages
  UniqueFd container_;
  UniqueFd group_;  // destroyed first
  bool has_iommu_ = true;
  IommuInfo iommu_;
};

}  // namespace basalt::nvme
