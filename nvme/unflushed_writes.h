// UnflushedWrites: whether a controller has acknowledged writes which no flush has covered since.
//
// A connection that is lost may have been lost because the target lost its power, and its write cache with it:
// were the host to connect again and go on, the next flush would call lost writes safe. So a transport that
// cannot tell asks here first.
// A flush covers the writes to its namespace that had completed when it was sent. Each flush takes the next number
// when it is sent; a queue keeps, of its last write, the last number given out then: the write is covered once a
// flush with a higher number has completed. A queue that writes to several namespaces is covered only by a flush of
// all of them.
// Threads: wrote() is its queue's, the rest anybody's. A write costs a load that all share and a store that nobody
// does; a flush takes a lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "base/sync.h"
#include "wire/nvme/command.h"

namespace basalt::nvme {

class UnflushedWrites {
 public:
  // For queues 0 … queue_count - 1.
  explicit UnflushedWrites(size_t queue_count) : queues_(queue_count) {}

  void wrote(uint16_t queue_id, uint32_t nsid) noexcept {
    Queue& queue = queues_[queue_id];
    if (queue.nsid.load(std::memory_order_relaxed) != nsid) change_namespace(queue, nsid);
    queue.last.store(begun_.load(std::memory_order_acquire) + 1, std::memory_order_release);
  }
  // The number of a flush about to be sent.
  uint64_t flush_begins() noexcept { return begun_.fetch_add(1, std::memory_order_acq_rel) + 1; }
  void flushed(uint32_t nsid, uint64_t number) noexcept {
    const MutexLock lock(mutex_);
    uint64_t& highest = flushed_[nsid];
    highest = highest > number ? highest : number;
  }

  bool any() const {
    const MutexLock lock(mutex_);
    for (const Queue& queue : queues_) {
      if (!is_covered(queue)) return true;
    }
    return false;
  }

 private:
  struct alignas(64) Queue {
    std::atomic<uint64_t> last{
        0};  // one more than the last flush sent before its last write completed
    std::atomic<uint32_t> nsid{0};  // that it writes to; kAllNamespaces: several
  };
  // Both under mutex_.
  uint64_t number_of(uint32_t nsid) const {
    const auto found = flushed_.find(nsid);
    return found == flushed_.end() ? 0 : found->second;
  }
  bool is_covered(const Queue& queue) const {
    const uint64_t last = queue.last.load(std::memory_order_acquire);
    if (last == 0) return true;  // it never wrote
    return number_of(queue.nsid.load()) >= last || number_of(kAllNamespaces) >= last;
  }
  void change_namespace(Queue& queue, uint32_t nsid) noexcept {
    const MutexLock lock(mutex_);
    queue.nsid.store(is_covered(queue) ? nsid : kAllNamespaces);
  }

  std::atomic<uint64_t> begun_{0};
  std::vector<Queue> queues_;
  mutable Mutex mutex_;                   // protects flushed_
  std::map<uint32_t, uint64_t> flushed_;  // by namespace: the highest number completed
};

}  // namespace basalt::nvme
