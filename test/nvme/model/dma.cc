// See dma.h.
#include "nvme/model/dma.h"

#include <algorithm>
#include <string>

namespace basalt::nvme::model {
namespace {

std::string range_text(uint64_t iova, size_t bytes) {
  return "device address " + std::to_string(iova) + " (" + std::to_string(bytes) + " B)";
}

}  // namespace

Status DmaTable::map(uint64_t iova, std::span<std::byte> bytes) {
  if (bytes.empty() || iova + (bytes.size() - 1) < iova) {
    return {StatusCode::invalid_argument, range_text(iova, bytes.size()) + ": not a range"};
  }
  const auto after = std::lower_bound(mappings_.begin(), mappings_.end(), iova,
                                      [](const Mapping& m, uint64_t a) { return m.iova < a; });
  const bool meets_next = after != mappings_.end() && after->iova - iova < bytes.size();
  const bool meets_previous = after != mappings_.begin() && std::prev(after)->contains(iova);
  if (meets_next || meets_previous) {
    return {StatusCode::already_exists, range_text(iova, bytes.size()) + ": overlaps another"};
  }
  mappings_.insert(after, {iova, bytes});
  ++generation_;
  return {};
}

Status DmaTable::unmap(uint64_t iova, size_t bytes) {
  if (!search(iova) || mappings_[last_hit_].iova != iova ||
      mappings_[last_hit_].bytes.size() != bytes) {
    return {StatusCode::not_found, range_text(iova, bytes) + ": not mapped so"};
  }
  mappings_.erase(mappings_.begin() + static_cast<std::ptrdiff_t>(last_hit_));
  last_hit_ = 0;
  ++generation_;
  return {};
}

bool DmaTable::search(uint64_t iova) const {
  const auto after = std::upper_bound(mappings_.begin(), mappings_.end(), iova,
                                      [](uint64_t a, const Mapping& m) { return a < m.iova; });
  if (after == mappings_.begin() || !std::prev(after)->contains(iova)) return false;
  last_hit_ = static_cast<size_t>(std::prev(after) - mappings_.begin());
  return true;
}

}  // namespace basalt::nvme::model
