// PcieQueue: a submission and a completion queue as rings in memory, and their doorbells.
//
// NVM Express base specification 2.0, §3.3.1 (queues), §3.3.3.2.2 (phase tag); NVMe over PCIe 1.0, §3.1.2.
// post() writes the command at the submission tail; ring() stores the new tail to the doorbell. reap() reads
// the completion at its head while its phase tag says it is new, and stores the new head once per batch.
//
// Memory ordering. A doorbell store is a release: the controller, which reads the doorbell and then memory,
// sees the whole command. The phase tag is loaded with acquire before the rest of its completion is read: the
// controller writes it last. Doorbells may be shared memory as well as device memory; on device memory the
// same instructions are what x86 and ARM need for stores to coherent memory to come first.
// With shadow doorbells (§5.8, Doorbell Buffer Config) the value goes to memory the controller polls, and the
// register is written only when the controller's event index asks for it; between storing the one and loading
// the other there must be a full fence, as the controller does the same the other way round.
// Threads: one at a time.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <span>

#include "nvme/data_pointer.h"
#include "nvme/dma_buffer.h"
#include "nvme/dma_map.h"
#include "nvme/queue_pair.h"

namespace basalt::nvme {

// Where a queue's doorbell is stored.
struct Doorbell {
  PciFunction* function = nullptr;
  uint32_t offset = 0;                   // in BAR 0
  volatile std::byte* mapped = nullptr;  // the same, mapped; null: through the function
  std::byte* shadow = nullptr;           // null: no shadow doorbells
  std::byte* event_index = nullptr;      // written by the controller

  // `previous` is the value stored before.
  void store(uint16_t previous, uint16_t value) const noexcept;
  // Before its queue is made: nothing an earlier one has left may pass for a tail, or for how far the controller
  // has looked, since it would then never be told.
  void clear() const noexcept;
};

struct PcieQueueShape {
  uint16_t id = 0;
  uint32_t entries = 0;     // of either ring, at least 2
  uint32_t page_bytes = 0;  // as the controller was told
  uint32_t list_bytes = 0;  // per command, for PRP lists and SGLs
  bool sgl = false;         // the controller takes SGLs
};

class PcieQueue final : public CommandQueue {
 public:
  // How much memory such a queue takes, and what of it each command's list.
  static size_t memory_bytes(const PcieQueueShape& shape);
  static uint32_t list_bytes(uint64_t max_transfer_bytes, uint32_t page_bytes);

  // `memory` has memory_bytes(). The rings are empty; the controller is yet to be told of them.
  PcieQueue(const PcieQueueShape& shape, DmaBuffer memory, const DmaMap& dma, Doorbell submission,
            Doorbell completion, int event_fd);

  uint64_t submission_iova() const { return memory_.iova(); }
  uint64_t completion_iova() const { return memory_.iova() + completion_offset(shape_); }

  uint16_t depth() const override { return static_cast<uint16_t>(shape_.entries - 1); }
  StatusCode post(uint16_t slot, uint16_t cid, const Request& request) noexcept override;
  void ring() noexcept override;
  unsigned reap(std::span<Completion> out) noexcept override;
  void sleep(Duration limit) noexcept override;
  int event_fd() const override { return event_fd_; }

 private:
  static uint64_t completion_offset(const PcieQueueShape& shape);
  static uint64_t lists_offset(const PcieQueueShape& shape);
  // The data pointer of `request`; false when the controller cannot be told of its data.
  bool describe_data(uint16_t slot, const Request& request, Command& command) const noexcept;
  template <class Builder>
  bool build(Builder builder, const Request& request, Command& command) const noexcept;

  const PcieQueueShape shape_;
  const DmaBuffer memory_;
  const DmaMap& dma_;
  const Doorbell submission_, completion_;
  const int event_fd_;
  std::byte* const commands_;
  std::byte* const completions_;
  std::byte* const lists_;
  uint16_t tail_ = 0;  // the next command's place
  uint16_t rung_ = 0;  // the tail the controller was told
  uint16_t head_ = 0;  // the next completion's place
  bool phase_ = true;  // of a new completion at head_
};

}  // namespace basalt::nvme
