// Set Features and Get Features.
//
// NVMe base 2.0 §5.15, §5.27. Values are kept and answered; those that change what the model does are
// the queue count, the volatile write cache and the asynchronous event configuration. None can be
// saved.
#include <algorithm>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kNotSaveable{1, 0x0d}, kSequenceError{0, 0x0c};
constexpr uint8_t kInterruptVectorConfig = 0x09;
constexpr uint32_t kRoomTemperature = 343;  // K; where the threshold starts

}  // namespace

bool ControllerModel::has_feature(uint8_t id) const {
  switch (static_cast<Feature>(id)) {
    case Feature::arbitration:
    case Feature::power_management:
    case Feature::temperature_threshold:
    case Feature::error_recovery:
    case Feature::queue_count:
    case Feature::interrupt_coalescing:
    case Feature::write_atomicity:
    case Feature::async_event_config:
    case Feature::keep_alive_timer:
    case Feature::host_behavior: return true;
    case Feature::volatile_write_cache: return options_.volatile_cache;
    default: return id == kInterruptVectorConfig;
  }
}

uint32_t ControllerModel::feature_default(uint8_t id) const {
  const uint32_t pairs = options_.queue_pairs - 1u;
  switch (static_cast<Feature>(id)) {
    case Feature::arbitration: return 7;  // no limit to a burst
    case Feature::temperature_threshold: return kRoomTemperature;
    case Feature::volatile_write_cache: return options_.volatile_cache ? 1 : 0;
    case Feature::queue_count: return pairs << 16 | pairs;
    default: return 0;
  }
}

Outcome ControllerModel::set_features(const Command& command) {
  const auto id = static_cast<uint8_t>(command.cdw10 & 0xff);
  if (!has_feature(id)) return {.status = kInvalidField};
  if ((command.cdw10 & kSaveFeature) != 0) return {.status = kNotSaveable};
  const uint32_t value = command.cdw11;
  switch (static_cast<Feature>(id)) {
    case Feature::queue_count: return set_queue_count(value);
    case Feature::host_behavior: return set_host_behavior(command);
    case Feature::power_management:
      if ((value & 0x1f) != 0) return {.status = kInvalidField};  // there is one power state
      break;
    case Feature::volatile_write_cache:
      if ((value & 1) == 0) {
        for (const auto& media : media_) media->flush();
      }
      break;
    default: break;
  }
  features_[id] = value;
  return {};
}

// Word 11 and the result: completion queues in the upper half, submission queues in the lower, minus
// one each.
Outcome ControllerModel::set_queue_count(uint32_t value) {
  if ((value & 0xffff) == 0xffff || value >> 16 == 0xffff) return {.status = kInvalidField};
  const bool queues_exist = std::any_of(cqs_.begin() + 1, cqs_.end(),
                                        [](const CompletionQueue& cq) { return cq.exists; });
  if (queues_exist) return {.status = kSequenceError};
  // A pair needs both, and the model grants pairs.
  uint32_t granted =
      std::min<uint32_t>({(value & 0xffff) + 1, (value >> 16) + 1, options_.queue_pairs});
  if (faults_.any()) {
    if (const auto fault = faults_.strike(Faults::Occasion::queue_count)) {
      granted = std::clamp<uint32_t>(static_cast<uint32_t>(fault->value), 1, granted);
    }
  }
  granted_queues_ = static_cast<uint16_t>(granted);
  feature(Feature::queue_count) = (granted - 1) << 16 | (granted - 1);
  return {.result = feature(Feature::queue_count)};
}

Outcome ControllerModel::set_host_behavior(const Command& command) {
  const CompletionStatus status =
      transfer_.parse_prps(dma_, page_bytes_, command.data, host_behavior_.size());
  if (status.ok()) transfer_.from_host(host_behavior_);
  return {.status = status};
}

Outcome ControllerModel::get_features(const Command& command) {
  const auto id = static_cast<uint8_t>(command.cdw10 & 0xff);
  if (!has_feature(id)) return {.status = kInvalidField};
  const auto select = static_cast<FeatureSelect>(command.cdw10 >> 8 & 7);
  switch (select) {
    case FeatureSelect::current: break;
    case FeatureSelect::defaults:
    case FeatureSelect::saved: return {.result = feature_default(id)};
    case FeatureSelect::capabilities: return {.result = kFeatureChangeable};
    default: return {.status = kInvalidField};
  }
  if (id == static_cast<uint8_t>(Feature::host_behavior)) {
    return {.status = send(command, host_behavior_)};
  }
  // One configuration for all vectors: the answer repeats the vector asked about.
  if (id == kInterruptVectorConfig) return {.result = command.cdw11 & 0xffff};
  return {.result = features_[id]};
}

}  // namespace basalt::nvme::model
