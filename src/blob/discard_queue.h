// DiscardQueue: freed clusters on their way to be discarded.
//
// Ranges that touch are joined, so that many deletions make few commands; one command covers at most
// kMaxCommandBytes, and the next is due when the rate allows, so that the device keeps time for others.
// What is here is not allocatable: its owner gives it back once the command is done, or at once when space
// runs out, since a discard is only a hint. Not synchronised.
#pragma once

#include <basalt/context.h>

#include "blob/range_set.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

namespace basalt::blob {

class DiscardQueue {
 public:
  static constexpr uint64_t kMaxCommandBytes = uint64_t{256} << 20;
  // From the first range on, so long is waited for neighbours.
  static constexpr Duration kGatherTime = std::chrono::milliseconds(100);

  // `bytes_per_second` 0: no limit.
  DiscardQueue(uint64_t cluster_bytes, uint64_t bytes_per_second)
      : cluster_bytes_(cluster_bytes), bytes_per_second_(bytes_per_second) {}

  bool empty() const { return ranges_.empty(); }
  void add(uint64_t first_cluster, uint64_t count) { ranges_.add(first_cluster, count); }

  // The next command's clusters, if one is due at `now`; they leave the queue.
  std::optional<RangeSet::Range> take(Duration now) {
    if (empty() || now < due_) return {};
    RangeSet::Range range = *ranges_.front();
    range.count = std::min(range.count, std::max<uint64_t>(kMaxCommandBytes / cluster_bytes_, 1));
    ranges_.remove(range.first, range.count);
    if (bytes_per_second_ != 0) {
      const double seconds = static_cast<double>(range.count * cluster_bytes_) /
                             static_cast<double>(bytes_per_second_);
      due_ = now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    }
    return range;
  }
  // How long after `now` the next command is due.
  Duration wait_time(Duration now) const { return std::max(due_ - now, Duration::zero()); }
  // A range that is not going to be discarded; nothing when the queue is empty.
  std::optional<RangeSet::Range> give_up() {
    const auto range = ranges_.front();
    if (range) ranges_.remove(range->first, range->count);
    return range;
  }

 private:
  const uint64_t cluster_bytes_;
  const uint64_t bytes_per_second_;
  RangeSet ranges_;
  Duration due_{};
};

}  // namespace basalt::blob
