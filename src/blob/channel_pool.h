// ChannelPool: whole channel stacks leased to threads that block.
//
// A thread that must wait for I/O leases a stack, submits, completes its own I/O on it and gives it
// back: no dispatcher and no hand-over. The slot is chosen by the core the thread runs on and taken by
// try-lock; stacks are opened as needed up to a bound, beyond which lease() waits for one. A leased
// stack has nothing outstanding when it is returned.
#pragma once

#include <basalt/device.h>

#include "base/sync.h"

#include <atomic>
#include <memory>
#include <vector>

namespace basalt::blob {

struct ChannelTotals {
  uint64_t reads = 0, writes = 0, flushes = 0, read_bytes = 0, written_bytes = 0;
};

class ChannelPool {
 public:
  ChannelPool(Device& device, unsigned max_channels);

  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept : pool_(other.pool_), slot_(other.slot_) {
      other.pool_ = nullptr;
    }
    Lease& operator=(Lease&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(slot_, other.slot_);
      return *this;
    }
    ~Lease();
    Channel& operator*() const;
    Channel* operator->() const { return &**this; }

   private:
    friend class ChannelPool;
    Lease(ChannelPool* pool, unsigned slot) : pool_(pool), slot_(slot) {}
    ChannelPool* pool_ = nullptr;
    unsigned slot_ = 0;
  };

  // Waits while all stacks are leased. Fails only when no stack could ever be opened.
  Result<Lease> lease();
  Device& device() { return device_; }
  // Sums over all stacks; waits for none (a stack in use is counted as of its last return).
  ChannelTotals totals();

 private:
  struct alignas(64) Slot {
    std::atomic<bool> taken{false};
    std::unique_ptr<Channel> channel;
    // Copied from the channel's counters by the holder before it returns the slot.
    std::atomic<uint64_t> reads{0}, writes{0}, flushes{0}, read_bytes{0}, written_bytes{0};
  };
  void give_back(unsigned slot);
  bool try_take(unsigned slot);

  Device& device_;
  std::vector<Slot> slots_;
  Mutex mutex_;  // guards opening and waiting
  CondVar returned_;
  std::atomic<unsigned> waiting_{0};
  std::atomic<unsigned> opened_{0};
};

}  // namespace basalt::blob
