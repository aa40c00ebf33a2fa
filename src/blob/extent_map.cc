#include "blob/extent_map.h"

#include <algorithm>

namespace basalt::blob {

std::vector<Extent>::const_iterator ExtentMap::lower(uint64_t logical) const {
  return std::partition_point(extents_.begin(), extents_.end(),
                              [&](const Extent& e) { return e.end() <= logical; });
}

const Extent* ExtentMap::find(uint64_t logical) const {
  const auto at = lower(logical);
  return at != extents_.end() && at->logical <= logical ? &*at : nullptr;
}

size_t ExtentMap::split(uint64_t at) {
  const size_t i = static_cast<size_t>(lower(at) - extents_.begin());
  if (i == extents_.size() || extents_[i].logical >= at) return i;
  Extent right = extents_[i];
  const uint64_t left_count = at - right.logical;
  extents_[i].count = left_count;
  right.logical += left_count;
  right.physical += left_count;
  right.count -= left_count;
  extents_.insert(extents_.begin() + static_cast<ptrdiff_t>(i) + 1, right);
  return i + 1;
}

// Merges neighbours among the extents [first - 1, last + 1].
void ExtentMap::merge_around(size_t first, size_t last) {
  if (extents_.empty()) return;
  size_t into = first == 0 ? 0 : first - 1;
  const size_t stop = std::min(last + 1, extents_.size() - 1);
  size_t from = into + 1;
  for (; from <= stop; ++from) {
    Extent& left = extents_[into];
    const Extent& right = extents_[from];
    if (left.end() == right.logical && left.physical + left.count == right.physical &&
        left.state == right.state) {
      left.count += right.count;
    } else {
      extents_[++into] = right;
    }
  }
  extents_.erase(extents_.begin() + static_cast<ptrdiff_t>(into) + 1,
                 extents_.begin() + static_cast<ptrdiff_t>(std::max(from, into + 1)));
}

void ExtentMap::erase(BlockRange range) {
  if (range.empty()) return;
  const size_t first = split(range.first);
  const size_t last = split(range.end());
  extents_.erase(extents_.begin() + static_cast<ptrdiff_t>(first),
                 extents_.begin() + static_cast<ptrdiff_t>(last));
}

void ExtentMap::set(const Extent& extent) {
  if (extent.count == 0) return;
  // Growing at the end, the usual case, moves nothing.
  if (!extents_.empty() && extents_.back().end() <= extent.logical) {
    extents_.push_back(extent);
    merge_around(extents_.size() - 1, extents_.size() - 1);
    return;
  }
  erase({extent.logical, extent.count});
  const size_t at = static_cast<size_t>(lower(extent.logical) - extents_.begin());
  extents_.insert(extents_.begin() + static_cast<ptrdiff_t>(at), extent);
  merge_around(at, at);
}

void ExtentMap::set_state(BlockRange range, ExtentState state, std::optional<ExtentState> only) {
  if (range.empty()) return;
  const size_t first = split(range.first);
  const size_t last = split(range.end());
  for (size_t i = first; i < last; ++i) {
    if (!only || extents_[i].state == *only) extents_[i].state = state;
  }
  if (!extents_.empty()) merge_around(first, last);
}

uint64_t ExtentMap::mapped_blocks() const {
  uint64_t total = 0;
  for (const Extent& extent : extents_) total += extent.count;
  return total;
}

}  // namespace basalt::blob
