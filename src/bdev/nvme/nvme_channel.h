// NvmeChannel: a channel that is one NVMe queue pair.
//
// Each native command takes one of a fixed pool of slots: the driver's Request, and room for the one range of a
// discard, which the controller reads from memory. reap() polls the queue pair, kick() rings its doorbell.
// Threads: one at a time.
#pragma once

#include <memory>
#include <vector>

#include "bdev/native.h"
#include "bdev/nvme/nvme_device.h"
#include "mem/arena.h"
#include "nvme/queue_pair.h"

namespace basalt {

class NvmeChannel final : public NativeChannel<NvmeChannel> {
 public:
  // `ranges` is registered memory for as many discards as the queue pair is deep.
  NvmeChannel(NvmeDevice& device, std::unique_ptr<nvme::QueuePair> pair,
              std::unique_ptr<Arena> ranges);
  ~NvmeChannel() override;

  // Bytes that a discard's range takes.
  static constexpr size_t kRangeBytes = 16;

  bool start(Io& command) noexcept;
  void reap() noexcept { pair_->poll(); }
  void kick() noexcept { pair_->send(); }
  bool sleep(Duration timeout, unsigned wanted) noexcept;
  int native_fd() noexcept { return pair_->event_fd(); }

 private:
  struct Slot {
    nvme::Request request;
    iovec range{};  // where its discard's range lies
    Io* io = nullptr;
    NvmeChannel* channel = nullptr;
    Slot* next = nullptr;  // free
  };

  nvme::Command translate(const Io& io, Slot& slot) const noexcept;
  static void done(nvme::Request& request) noexcept;

  NvmeDevice& device_;
  const uint32_t nsid_;
  const std::unique_ptr<Arena> ranges_;
  const std::unique_ptr<nvme::QueuePair> pair_;
  std::vector<Slot> slots_;
  Slot* free_ = nullptr;
};

}  // namespace basalt
