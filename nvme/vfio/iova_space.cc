// See iova_space.h.
#include "nvme/vfio/iova_space.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/try.h"
#include "nvme/hex.h"

namespace basalt::nvme {
namespace {

constexpr uint64_t kHugepageBytes = uint64_t{2} << 20;
constexpr uint64_t kLastAddress = std::numeric_limits<uint64_t>::max();

// Ascending and joined, so that memory may lie across two ranges that touch.
std::vector<IovaRange> joined(std::vector<IovaRange> ranges) {
  std::erase_if(ranges, [](const IovaRange& range) { return range.first > range.last; });
  std::sort(ranges.begin(), ranges.end(),
            [](const IovaRange& a, const IovaRange& b) { return a.first < b.first; });
  std::vector<IovaRange> result;
  for (const IovaRange& range : ranges) {
    const bool touches = !result.empty() && (result.back().last == kLastAddress ||
                                             range.first <= result.back().last + 1);
    if (touches) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

}  // namespace

IovaSpace::IovaSpace(std::vector<IovaRange> usable, uint64_t granule)
    : usable_(joined(std::move(usable))), granule_(granule) {
  BASALT_CHECK(std::has_single_bit(granule), "an IOMMU's page size is a power of two");
}

Result<uint64_t> IovaSpace::allocate(uint64_t address, uint64_t bytes) {
  const bool wraps = bytes != 0 && address > kLastAddress - (bytes - 1);
  if (bytes == 0 || wraps || address % granule_ != 0 || bytes % granule_ != 0) {
    return error(StatusCode::invalid_argument,
                 "IOVAs for " + std::to_string(bytes) + " B at " + hex(address) +
                     ": both must be multiples of the IOMMU's page of " + std::to_string(granule_) +
                     " B, and at least one page");
  }
  uint64_t iova = address;
  const IovaRange identity{address, address + (bytes - 1)};
  if (address == 0 || !is_usable(identity) || !is_free(identity)) {
    // An IOMMU uses a large page only where both addresses lie alike within one, so keep the place
    // within a hugepage if there is room for that.
    iova = bytes >= kHugepageBytes && granule_ < kHugepageBytes
               ? first_fit(bytes, kHugepageBytes, address % kHugepageBytes)
               : 0;
    if (iova == 0) iova = first_fit(bytes, granule_, 0);
  }
  if (iova == 0) {
    return error(StatusCode::no_space,
                 "no IOVAs left for " + std::to_string(bytes) + " B; the IOMMU accepts " +
                     (usable_.empty() ? std::string("none") : ranges()) + ", of which " +
                     std::to_string(allocated_bytes_) + " B in " + std::to_string(taken_.size()) +
                     " mappings are in use");
  }
  taken_.emplace(iova, iova + (bytes - 1));
  allocated_bytes_ += bytes;
  return iova;
}

Status IovaSpace::check_allocated(uint64_t iova, uint64_t bytes) const {
  const std::string context = "IOVA " + hex(iova) + ", " + std::to_string(bytes) + " B: ";
  const auto at = taken_.find(iova);
  if (at == taken_.end()) {
    return Status(StatusCode::invalid_argument, context + "no mapping begins there");
  }
  if (bytes != 0 && at->second - iova == bytes - 1) return {};
  return Status(StatusCode::invalid_argument, context + "the mapping there has " +
                                                  std::to_string(at->second - iova + 1) +
                                                  " B, and can be unmapped as a whole only");
}

Status IovaSpace::free(uint64_t iova, uint64_t bytes) {
  BASALT_TRY(check_allocated(iova, bytes));
  taken_.erase(iova);
  allocated_bytes_ -= bytes;
  return {};
}

std::string IovaSpace::ranges() const {
  std::string text;
  for (const IovaRange& range : usable_) {
    if (!text.empty()) text += ", ";
    text += hex(range.first) + "-" + hex(range.last);
  }
  return text;
}

bool IovaSpace::is_usable(IovaRange wanted) const {
  return std::any_of(usable_.begin(), usable_.end(), [&](const IovaRange& range) {
    return range.first <= wanted.first && wanted.last <= range.last;
  });
}

bool IovaSpace::is_free(IovaRange wanted) const {
  const auto after = taken_.upper_bound(wanted.last);  // the first that begins behind `wanted`
  return after == taken_.begin() || std::prev(after)->second < wanted.first;
}

uint64_t IovaSpace::first_fit(uint64_t bytes, uint64_t alignment, uint64_t phase) const {
  for (const IovaRange& range : usable_) {
    // Each round either ends or steps over one mapping.
    uint64_t from = std::max(range.first, granule_);
    while (from <= range.last) {
      const uint64_t step = (phase - from) & (alignment - 1);
      if (step > range.last - from) break;
      const uint64_t begin = from + step;
      if (range.last - begin < bytes - 1) break;
      const uint64_t last = begin + (bytes - 1);
      const auto after = taken_.upper_bound(last);
      if (after == taken_.begin() || std::prev(after)->second < begin) return begin;
      const uint64_t obstacle = std::prev(after)->second;
      if (obstacle == kLastAddress) break;
      from = obstacle + 1;
    }
  }
  return 0;
}

}  // namespace basalt::nvme
