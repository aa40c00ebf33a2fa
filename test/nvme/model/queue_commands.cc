// Creation and deletion of I/O queues.
//
// NVMe base 2.0 §5.4 to §5.7, in the order of the checks that hosts get wrong: id, size, contiguity,
// vector or completion queue, address. A ring that the model cannot reach is refused at once with a
// data transfer error.
#include <algorithm>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kInvalidDeletion{1, 0x0c};
constexpr unsigned kCommandShift = 6, kCompletionShift = 4;

uint16_t queue_id(const Command& command) { return static_cast<uint16_t>(command.cdw10 & 0xffff); }
uint32_t queue_entries(const Command& command) { return (command.cdw10 >> 16) + 1; }

}  // namespace

CompletionStatus ControllerModel::check_new_queue(const Command& command, bool exists,
                                                  unsigned entry_shift,
                                                  unsigned entry_shift_set) const {
  if (exists) return kInvalidQueueId;
  const uint32_t entries = queue_entries(command);
  if (entries < 2 || entries > options_.max_queue_entries) return kInvalidQueueSize;
  if (entry_shift_set != entry_shift) return kInvalidQueueSize;  // CC.IOSQES or CC.IOCQES
  if ((command.cdw11 & kQueueContiguous) == 0) return kInvalidField;
  return {};
}

Outcome ControllerModel::create_completion_queue(const Command& command) {
  const uint16_t id = queue_id(command);
  if (id == 0 || id > granted_queues_) return {.status = kInvalidQueueId};
  const CompletionStatus status =
      check_new_queue(command, cqs_[id].exists, kCompletionShift, cc_ >> 20 & 0xf);
  if (!status.ok()) return {.status = status};
  const bool interrupts = (command.cdw11 & kQueueInterrupts) != 0;
  const auto vector = static_cast<uint16_t>(command.cdw11 >> 16);
  if (vector >= std::max<uint32_t>(options_.interrupt_vectors, 1) ||
      (interrupts && options_.interrupt_vectors == 0)) {
    return {.status = kInvalidInterruptVector};
  }
  const uint64_t iova = command.data.prp1;
  if ((iova & (page_bytes_ - 1)) != 0) return {.status = kInvalidPrpOffset};
  const uint32_t entries = queue_entries(command);
  std::byte* memory = dma_.find_all(iova, entries * sizeof(Completion));
  if (memory == nullptr) return {.status = kDataTransferError};

  cqs_[id] = {.exists = true,
              .id = id,
              .entries = entries,
              .interrupts = interrupts,
              .vector = vector,
              .iova = iova,
              .memory = memory};
  zero_doorbell(completion_doorbell(id, stride_));
  return {};
}

Outcome ControllerModel::create_submission_queue(const Command& command) {
  const uint16_t id = queue_id(command);
  if (id == 0 || id > granted_queues_) return {.status = kInvalidQueueId};
  const CompletionStatus status =
      check_new_queue(command, sqs_[id].exists, kCommandShift, cc_ >> 16 & 0xf);
  if (!status.ok()) return {.status = status};
  const auto cq_id = static_cast<uint16_t>(command.cdw11 >> 16);
  if (cq_id == 0 || cq_id > granted_queues_) return {.status = kInvalidQueueId};
  if (!cqs_[cq_id].exists) return {.status = kCompletionQueueInvalid};
  const uint64_t iova = command.data.prp1;
  if ((iova & (page_bytes_ - 1)) != 0) return {.status = kInvalidPrpOffset};
  const uint32_t entries = queue_entries(command);
  const std::byte* memory = dma_.find_all(iova, entries * sizeof(Command));
  if (memory == nullptr) return {.status = kDataTransferError};

  sqs_[id] = {
      .exists = true, .id = id, .cq_id = cq_id, .entries = entries, .iova = iova, .memory = memory};
  ++cqs_[cq_id].users;
  active_sqs_.insert(std::lower_bound(active_sqs_.begin(), active_sqs_.end(), id), id);
  start_submission_doorbell(id);
  return {};
}

Outcome ControllerModel::delete_completion_queue(const Command& command) {
  const uint16_t id = queue_id(command);
  if (id == 0 || id >= cqs_.size() || !cqs_[id].exists) return {.status = kInvalidQueueId};
  if (cqs_[id].users > 0) return {.status = kInvalidDeletion};
  cqs_[id] = {};
  zero_doorbell(completion_doorbell(id, stride_));
  return {};
}

// What a fault still holds of the queue is aborted first. What the host has put into the ring and the
// model has not fetched goes without a completion; the host knows from the queue's end.
Outcome ControllerModel::delete_submission_queue(const Command& command) {
  const uint16_t id = queue_id(command);
  if (id == 0 || id >= sqs_.size() || !sqs_[id].exists) return {.status = kInvalidQueueId};
  SubmissionQueue& sq = sqs_[id];
  for (const HeldCommand& held : held_) {
    if (held.sq_id == id && has_room(cqs_[sq.cq_id], 1)) {
      complete(sq, held.command, {.status = kAbortSubmissionQueueDeleted});
    }
  }
  std::erase_if(held_, [&](const HeldCommand& held) { return held.sq_id == id; });
  --cqs_[sq.cq_id].users;
  std::erase(active_sqs_, id);
  sq = {};
  zero_doorbell(submission_doorbell(id, stride_));
  return {};
}

}  // namespace basalt::nvme::model
