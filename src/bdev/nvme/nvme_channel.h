// NvmeChannel: a channel that is one NVMe queue pair, or several as one (nvme/multipath.h).
//
// Each native command takes one of a fixed pool of slots: the driver's Request, two of them for a compare_and_write, and
// room for the one range of a discard, which the controller reads from memory. reap() polls the queue pair, kick() rings its doorbell.
// Threads: one at a time.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "bdev/native.h"
#include "bdev/nvme/nvme_device.h"
#include "mem/arena.h"
#include "nvme/multipath.h"
#include "nvme/queue_pair.h"

namespace basalt {

// Bytes that a discard's range takes.
inline constexpr size_t kDiscardRangeBytes = 16;

// Queue: nvme::QueuePair or nvme::MultipathQueue.
template <class Queue>
class NvmeChannel final : public NativeChannel<NvmeChannel<Queue>> {
 public:
  // `ranges` is registered memory for as many discards as the queue is deep.
  NvmeChannel(NvmeDevice& device, std::unique_ptr<Queue> queue, std::unique_ptr<Arena> ranges);
  ~NvmeChannel() override;

  bool start(Io& command) noexcept;
  void reap() noexcept { queue_->poll(); }
  void kick() noexcept { queue_->send(); }
  bool sleep(Duration timeout, unsigned wanted) noexcept;
  int native_fd() noexcept { return queue_->event_fd(); }

 private:
  struct Slot {
    nvme::Request request;
    nvme::Request fused;            // a compare_and_write's write
    std::array<iovec, 2> halves{};  // its data, where both are one piece
    unsigned left = 0;              // Requests that have not completed
    iovec range{};                  // where its discard's range lies
    Io* io = nullptr;
    NvmeChannel* channel = nullptr;
    Slot* next = nullptr;  // free
  };

  void submit_fused(const Io& io, Slot& slot) noexcept;
  nvme::Command translate(const Io& io, Slot& slot) const noexcept;
  nvme::Command protect(nvme::Command command) const noexcept;
  static void done(nvme::Request& request) noexcept;

  NvmeDevice& device_;
  const uint32_t nsid_;
  const uint8_t protection_;
  const std::unique_ptr<Arena> ranges_;
  const std::unique_ptr<Queue> queue_;
  std::vector<Slot> slots_;
  Slot* free_ = nullptr;
};

}  // namespace basalt
