// RangeSet: a set of non-overlapping [first, first + count) ranges of 64-bit positions.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>

namespace basalt::blob {

class RangeSet {
 public:
  struct Range {
    uint64_t first = 0, count = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };

  uint64_t total() const { return total_; }
  bool empty() const { return ranges_.empty(); }

  void add(uint64_t first, uint64_t count) {
    if (count == 0) return;
    remove(first, count);
    uint64_t end = first + count;
    total_ += count;
    auto next = ranges_.lower_bound(first);
    if (next != ranges_.end() && next->first == end) {
      end = next->second;
      next = ranges_.erase(next);
    }
    if (next != ranges_.begin()) {
      const auto before = std::prev(next);
      if (before->second == first) {
        before->second = end;
        return;
      }
    }
    ranges_.emplace(first, end);
  }

  void remove(uint64_t first, uint64_t count) {
    if (count == 0) return;
    const uint64_t end = first + count;
    auto at = ranges_.upper_bound(first);
    if (at != ranges_.begin() && std::prev(at)->second > first) --at;
    while (at != ranges_.end() && at->first < end) {
      const uint64_t old_first = at->first, old_end = at->second;
      at = ranges_.erase(at);
      if (old_first < first) ranges_.emplace(old_first, first);
      if (old_end > end) ranges_.emplace(end, old_end);
      total_ -= (old_end < end ? old_end : end) - (old_first > first ? old_first : first);
    }
  }

  std::optional<Range> front() const {
    if (ranges_.empty()) return {};
    return Range{ranges_.begin()->first, ranges_.begin()->second - ranges_.begin()->first};
  }
  // The end of the range that holds `position`, or 0 if none does.
  uint64_t end_of_range_at(uint64_t position) const {
    const auto at = ranges_.upper_bound(position);
    if (at == ranges_.begin()) return 0;
    const uint64_t end = std::prev(at)->second;
    return end > position ? end : 0;
  }
  // The start of the first range beyond `position`, or ~0.
  uint64_t next_range_after(uint64_t position) const {
    const auto at = ranges_.upper_bound(position);
    return at == ranges_.end() ? ~uint64_t{0} : at->first;
  }

 private:
  std::map<uint64_t, uint64_t> ranges_;  // first → end
  uint64_t total_ = 0;
};

}  // namespace basalt::blob
