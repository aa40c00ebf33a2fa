// Which admin command is which; Abort, Format NVM, Doorbell Buffer Config, and data for the host.
//
// NVMe base 2.0 §5. Admin data goes by PRPs only, as over PCIe it must.
#include <algorithm>
#include <mutex>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kInvalidFormat{1, 0x0a};
constexpr uint8_t kPointerMask = 0xc0;

}  // namespace

Outcome ControllerModel::admin_command(const Command& command) {
  if ((command.flags & (kFusedMask | kPointerMask)) != 0) return {.status = kInvalidField};
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::delete_submission_queue: return delete_submission_queue(command);
    case AdminOpcode::create_submission_queue: return create_submission_queue(command);
    case AdminOpcode::get_log_page: return get_log_page(command);
    case AdminOpcode::delete_completion_queue: return delete_completion_queue(command);
    case AdminOpcode::create_completion_queue: return create_completion_queue(command);
    case AdminOpcode::identify: return identify(command);
    case AdminOpcode::abort: return abort(command);
    case AdminOpcode::set_features: return set_features(command);
    case AdminOpcode::get_features: return get_features(command);
    case AdminOpcode::async_event_request: return async_event_request(command);
    case AdminOpcode::keep_alive: return {};
    case AdminOpcode::doorbell_buffer_config: return doorbell_buffer_config(command);
    case AdminOpcode::format_nvm: return format(command);
    default: return {.status = kInvalidOpcode};
  }
}

CompletionStatus ControllerModel::send(const Command& command, std::span<const std::byte> data) {
  const CompletionStatus status =
      transfer_.parse_prps(dma_, page_bytes_, command.data, data.size());
  if (status.ok()) transfer_.to_host(data);
  return status;
}

// Finds asynchronous event requests and what a fault delays; everything else is over before Abort is
// fetched.
Outcome ControllerModel::abort(const Command& command) {
  const auto sq_id = static_cast<uint16_t>(command.cdw10 & 0xffff);
  const auto cid = static_cast<uint16_t>(command.cdw10 >> 16);
  if (abort_held(sq_id, cid)) return {};
  const auto request = std::find(event_requests_.begin(), event_requests_.end(), cid);
  if (sq_id != 0 || request == event_requests_.end()) return {.result = kNotAborted};
  event_requests_.erase(request);
  Command aborted;
  aborted.cid = cid;
  held_.push_back({0, aborted, {.status = kAbortRequested}, true, 0});
  return {};
}

// NVMe base 2.0 §5.8, §B.5: one page of shadow doorbells, one of event indices.
Outcome ControllerModel::doorbell_buffer_config(const Command& command) {
  if (options_.shadow_doorbells == ShadowDoorbells::absent) return {.status = kInvalidOpcode};
  const uint64_t shadow_iova = command.data.prp1, index_iova = command.data.prp2;
  if (((shadow_iova | index_iova) & (page_bytes_ - 1)) != 0) return {.status = kInvalidPrpOffset};
  if (2 * sqs_.size() * stride_ > page_bytes_) return {.status = kInvalidField};
  std::byte* shadow_memory = dma_.find_all(shadow_iova, page_bytes_);
  std::byte* index_memory = dma_.find_all(index_iova, page_bytes_);
  if (shadow_memory == nullptr || index_memory == nullptr) return {.status = kDataTransferError};
  shadow_iova_ = shadow_iova;
  event_index_iova_ = index_iova;
  shadow_page_ = shadow_memory;
  event_index_page_ = index_memory;
  // Queues that were there before have their state in the doorbells.
  for (const uint16_t id : active_sqs_) {
    if (id == 0) continue;
    for (const uint32_t offset :
         {submission_doorbell(id, stride_), completion_doorbell(id, stride_)}) {
      const uint32_t value = read_register(offset);
      __atomic_store_n(reinterpret_cast<uint32_t*>(shadow(shadow_page_, offset)), value,
                       __ATOMIC_RELEASE);
    }
    sqs_[id].shadow_rung = true;
  }
  return {};
}

Outcome ControllerModel::format(const Command& command) {
  if (!options_.format) return {.status = kInvalidOpcode};
  const uint32_t nsid = command.nsid;
  if (nsid == 0 || (nsid > media_.size() && nsid != kAllNamespaces)) {
    return {.status = kInvalidNamespace};
  }
  const uint32_t index = command.cdw10 & 0xf;
  if (index > 1 || (command.cdw10 >> 4 & 0x1f) != 0) return {.status = kInvalidFormat};
  if ((command.cdw10 >> 9 & 7) > 2) return {.status = kInvalidField};
  for (uint32_t i = 0; i < media_.size(); ++i) {
    if (nsid != kAllNamespaces && i != nsid - 1) continue;
    media_[i]->format(index == 0 ? 512 : 4096);
    note_changed(i + 1);
  }
  return {};
}

}  // namespace basalt::nvme::model
