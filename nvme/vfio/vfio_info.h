// What VFIO answers about an IOMMU and about a region of a device, read into plain structs.
//
// Both answers are a fixed struct followed by a chain of capabilities, each with the offset of the next
// (linux/vfio.h). The kernel says how long the answer is when the buffer was too short, so it is asked twice.
// The parsers take bytes, and believe no offset and no count that leads out of them.
// Thread rules: any thread.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nvme/vfio/iova_space.h"

namespace basalt::nvme {

struct IommuInfo {
  std::vector<IovaRange> usable;
  uint64_t page_sizes = 0;                // bit n: pages of 2^n B; never 0
  std::optional<uint32_t> mappings_left;  // none: the kernel does not say (before 5.10)

  uint64_t granule() const { return page_sizes & (~page_sizes + 1); }
};

// Part of a region that can be mapped, as offsets within the region.
struct RegionArea {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

struct RegionInfo {
  uint64_t bytes = 0;
  uint64_t file_offset = 0;          // where the region is in the device's descriptor
  std::vector<RegionArea> mappable;  // ascending; empty: only pread() and pwrite()
};

// `answer`: a vfio_iommu_type1_info and what follows it. Kernels before 5.4 name no ranges; then those that any
// x86 IOMMU has: 39 bits, without the addresses that interrupts are written to.
IommuInfo parse_iommu_info(std::span<const std::byte> answer);
// `answer`: a vfio_region_info and what follows it.
RegionInfo parse_region_info(std::span<const std::byte> answer);

// `name`: the function, for messages.
Result<IommuInfo> query_iommu_info(int container_fd, const std::string& name);
Result<RegionInfo> query_region_info(int device_fd, uint32_t index, const std::string& name);

}  // namespace basalt::nvme
