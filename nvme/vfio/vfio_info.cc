// See vfio_info.h.
#include "nvme/vfio/vfio_info.h"

#include <linux/vfio.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/try.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

constexpr size_t kMaxAnswer = size_t{1} << 20;

// The struct at `offset`; all zeroes when it does not lie within `bytes`.
template <typename T>
T read_at(std::span<const std::byte> bytes, size_t offset) {
  T value{};
  if (offset <= bytes.size() && sizeof(T) <= bytes.size() - offset) {
    std::memcpy(&value, bytes.data() + offset, sizeof(T));
  }
  return value;
}

// The bytes from the head of capability `id` to the end of the answer; empty: there is none. The chain only
// goes forwards, so that it ends.
std::span<const std::byte> find_capability(std::span<const std::byte> answer, uint32_t offset,
                                           uint16_t id) {
  while (offset != 0 && offset < answer.size()) {
    const auto head = read_at<vfio_info_cap_header>(answer, offset);
    if (head.id == id) return answer.subspan(offset);
    if (head.next <= offset) break;
    offset = head.next;
  }
  return {};
}

// `count` entries behind a capability's fixed part, or as many as there are.
template <typename Entry>
std::vector<Entry> entries(std::span<const std::byte> capability, size_t fixed_bytes,
                           uint32_t count) {
  std::vector<Entry> result;
  if (capability.size() < fixed_bytes) return result;
  const size_t fit = (capability.size() - fixed_bytes) / sizeof(Entry);
  for (size_t i = 0; i < std::min<size_t>(count, fit); ++i) {
    result.push_back(read_at<Entry>(capability, fixed_bytes + i * sizeof(Entry)));
  }
  return result;
}

// The whole answer to a request whose struct begins with argsz.
template <typename Info>
Result<std::vector<std::byte>> ask(int fd, unsigned long request, Info info,
                                   const std::string& context) {
  std::vector<std::byte> answer(sizeof(Info));
  for (;;) {
    info.argsz = static_cast<uint32_t>(answer.size());
    std::memcpy(answer.data(), &info, sizeof(Info));
    if (ioctl(fd, request, answer.data()) != 0) return error(system_error(context, errno));
    const size_t needed = read_at<Info>(answer, 0).argsz;
    if (needed <= answer.size()) return answer;
    if (needed > kMaxAnswer) {
      return error(StatusCode::io_error,
                   context + ": an answer of " + std::to_string(needed) + " B is not believable");
    }
    answer.assign(needed, std::byte{0});
  }
}

}  // namespace

IommuInfo parse_iommu_info(std::span<const std::byte> answer) {
  constexpr uint64_t kPage = 4096;
  const auto fixed = read_at<vfio_iommu_type1_info>(answer, 0);
  IommuInfo info;
  info.page_sizes = (fixed.flags & VFIO_IOMMU_INFO_PGSIZES) != 0 ? fixed.iova_pgsizes : 0;
  if (info.page_sizes == 0) info.page_sizes = kPage;
  const uint32_t chain = (fixed.flags & VFIO_IOMMU_INFO_CAPS) != 0 ? fixed.cap_offset : 0;

  const auto ranges = find_capability(answer, chain, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE);
  if (ranges.empty()) {
    info.usable = {{0, 0xfedf'ffff}, {0xfef0'0000, 0x7f'ffff'ffff}};
  } else {
    using Capability = vfio_iommu_type1_info_cap_iova_range;
    const auto count = read_at<uint32_t>(ranges, offsetof(Capability, nr_iovas));
    for (const auto& range : entries<vfio_iova_range>(ranges, sizeof(Capability), count)) {
      info.usable.push_back({range.start, range.end});
    }
  }
  const auto left = find_capability(answer, chain, VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL);
  if (!left.empty()) {
    info.mappings_left = read_at<vfio_iommu_type1_info_dma_avail>(left, 0).avail;
  }
  return info;
}

RegionInfo parse_region_info(std::span<const std::byte> answer) {
  const auto fixed = read_at<vfio_region_info>(answer, 0);
  RegionInfo info{.bytes = fixed.size, .file_offset = fixed.offset, .mappable = {}};
  if ((fixed.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) return info;
  const uint32_t chain = (fixed.flags & VFIO_REGION_INFO_FLAG_CAPS) != 0 ? fixed.cap_offset : 0;
  const auto sparse = find_capability(answer, chain, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
  if (sparse.empty()) {
    // Kernels before 4.16 do not let the MSI-X table be mapped, and say so with a sparse capability. Later ones
    // have VFIO_REGION_INFO_CAP_MSIX_MAPPABLE instead, which asks for nothing.
    info.mappable.push_back({0, fixed.size});
    return info;
  }
  using Capability = vfio_region_info_cap_sparse_mmap;
  const auto count = read_at<uint32_t>(sparse, offsetof(Capability, nr_areas));
  for (const auto& area :
       entries<vfio_region_sparse_mmap_area>(sparse, sizeof(Capability), count)) {
    const bool inside = area.offset <= fixed.size && area.size <= fixed.size - area.offset;
    if (inside && area.size != 0) info.mappable.push_back({area.offset, area.size});
  }
  std::sort(info.mappable.begin(), info.mappable.end(),
            [](const RegionArea& a, const RegionArea& b) { return a.offset < b.offset; });
  return info;
}

Result<IommuInfo> query_iommu_info(int container_fd, const std::string& name) {
  BASALT_TRY_ASSIGN(const auto answer,
                    ask(container_fd, VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info{},
                        name + ": ask about the IOMMU"));
  return parse_iommu_info(answer);
}

Result<RegionInfo> query_region_info(int device_fd, uint32_t index, const std::string& name) {
  vfio_region_info request{};
  request.index = index;
  BASALT_TRY_ASSIGN(const auto answer,
                    ask(device_fd, VFIO_DEVICE_GET_REGION_INFO, request,
                        name + ": ask about PCI region " + std::to_string(index)));
  return parse_region_info(answer);
}

}  // namespace basalt::nvme
