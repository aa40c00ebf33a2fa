// The registers of a ControllerModel: bring-up, shutdown, the kinds of reset, and presence.
//
// NVMe base 2.0: properties (§3.1.3), controller initialisation (§3.5.1), shutdown (§3.6), resets
// (§3.7). What CC asks for happens at once inside the model; CSTS tells of it after
// ModelOptions::ready_polls reads, so that hosts are made to wait. A configuration the specification
// does not allow ends in CSTS.CFS instead of CSTS.RDY.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

constexpr uint32_t kSubsystemResetKey = 0x4e56'4d65;  // "NVMe"
constexpr uint32_t kVersion20 = 2 << 16;

constexpr uint64_t low_half(uint64_t old, uint32_t value) { return (old >> 32) << 32 | value; }
constexpr uint64_t high_half(uint64_t old, uint32_t value) {
  return (old & 0xffff'ffff) | uint64_t{value} << 32;
}

}  // namespace

uint32_t ControllerModel::read32(uint32_t offset) {
  const std::lock_guard guard(lock_);
  if (!touch_registers()) return ~uint32_t{0};
  if (faults_.any()) {
    const auto fault = faults_.strike(Faults::Occasion::register_read, {.selector = offset});
    if (fault) return static_cast<uint32_t>(fault->value);
  }
  return read_register(offset);
}

uint64_t ControllerModel::read64(uint32_t offset) {
  const std::lock_guard guard(lock_);
  if (!touch_registers()) return ~uint64_t{0};
  if (faults_.any()) {
    const auto fault = faults_.strike(Faults::Occasion::register_read, {.selector = offset});
    if (fault) return fault->value;
  }
  const uint64_t low = read_register(offset);
  return low | uint64_t{read_register(offset + 4)} << 32;
}

void ControllerModel::write32(uint32_t offset, uint32_t value) {
  const std::lock_guard guard(lock_);
  if (touch_registers()) write_register(offset, value);
}

void ControllerModel::write64(uint32_t offset, uint64_t value) {
  const std::lock_guard guard(lock_);
  if (!touch_registers()) return;
  write_register(offset, static_cast<uint32_t>(value));
  write_register(offset + 4, static_cast<uint32_t>(value >> 32));
}

bool ControllerModel::touch_registers() {
  if (!removed_ && faults_.any() && faults_.strike(Faults::Occasion::register_access)) disappear();
  return !removed_;
}

uint32_t ControllerModel::read_register(uint32_t offset) {
  if (offset >= kFirstDoorbell) {
    if (offset % 4 != 0 || offset - kFirstDoorbell >= doorbells_.size()) return 0;
    return __atomic_load_n(reinterpret_cast<uint32_t*>(doorbell(offset)), __ATOMIC_ACQUIRE);
  }
  const auto low = [](uint64_t value) { return static_cast<uint32_t>(value); };
  const auto high = [](uint64_t value) { return static_cast<uint32_t>(value >> 32); };
  switch (offset) {
    case 0x00: return low(cap_);
    case 0x04: return high(cap_);
    case 0x08: return kVersion20;
    case 0x0c:
    case 0x10: return interrupt_mask_;
    case 0x14: return cc_;
    case 0x1c: return read_status();
    case 0x24: return aqa_;
    case 0x28: return low(asq_);
    case 0x2c: return high(asq_);
    case 0x30: return low(acq_);
    case 0x34: return high(acq_);
    default: return 0;  // NSSR reads as zero; there is no controller memory buffer
  }
}

void ControllerModel::write_register(uint32_t offset, uint32_t value) {
  if (offset >= kFirstDoorbell) {
    if (offset % 4 != 0 || offset - kFirstDoorbell >= doorbells_.size()) return;
    __atomic_store_n(reinterpret_cast<uint32_t*>(doorbell(offset)), value, __ATOMIC_RELEASE);
    return;
  }
  const bool enabled = (cc_ & kEnable) != 0;  // then the admin queue's registers do not change
  switch (offset) {
    case 0x0c: interrupt_mask_ |= value; return;  // MSI-X takes no notice of the mask
    case 0x10: interrupt_mask_ &= ~value; return;
    case 0x14: write_configuration(value); return;
    case 0x1c: csts_ &= ~(value & kResetOccurred); return;
    case 0x20:
      if (value != kSubsystemResetKey || !options_.subsystem_reset) return;
      power_on();
      csts_ |= kResetOccurred;
      return;
    case 0x24:
      if (!enabled) aqa_ = value & 0x0fff'0fff;
      return;
    case 0x28:
      if (!enabled) asq_ = low_half(asq_, value & ~uint32_t{0xfff});
      return;
    case 0x2c:
      if (!enabled) asq_ = high_half(asq_, value);
      return;
    case 0x30:
      if (!enabled) acq_ = low_half(acq_, value & ~uint32_t{0xfff});
      return;
    case 0x34:
      if (!enabled) acq_ = high_half(acq_, value);
      return;
    default: return;
  }
}

void ControllerModel::write_configuration(uint32_t value) {
  const uint32_t old = cc_;
  cc_ = value & 0x00ff'fff1;
  if ((value & kEnable) != 0 && (old & kEnable) == 0) enable();
  if ((value & kEnable) == 0 && (old & kEnable) != 0) disable();
  const uint32_t shutdown = value & kShutdownMask;
  if (shutdown != 0 && shutdown != (old & kShutdownMask)) shut_down();
}

unsigned ControllerModel::transition_polls() {
  if (!faults_.any()) return options_.ready_polls;
  const auto slow = faults_.strike(Faults::Occasion::enable_change);
  return slow ? static_cast<unsigned>(slow->value) : options_.ready_polls;
}

void ControllerModel::enable() {
  ++counters_.enables;
  if (transition_ == Transition::never && (csts_ & kReady) != 0) return;  // stuck at ready
  csts_ &= ~(kReady | kShutdownProcessing | kShutdownComplete);
  transition_ = can_enable() ? Transition::ready : Transition::fatal;
  if (faults_.any()) {
    if (const auto fault = faults_.strike(Faults::Occasion::enable)) {
      transition_ = fault->kind == FaultKind::never_ready ? Transition::never : Transition::fatal;
    }
  }
  polls_left_ = transition_polls();
  if (transition_ != Transition::ready) return;

  page_bytes_ = 4096u << (cc_ >> 7 & 0xf);
  SubmissionQueue& sq = sqs_[0];
  sq = {.exists = true, .entries = (aqa_ & 0xfff) + 1, .iova = asq_};
  CompletionQueue& cq = cqs_[0];
  cq = {.exists = true, .entries = (aqa_ >> 16 & 0xfff) + 1, .iova = acq_, .users = 1};
  cq.interrupts = options_.interrupt_vectors > 0;
  zero_doorbell(submission_doorbell(0, stride_));
  zero_doorbell(completion_doorbell(0, stride_));
  active_sqs_ = {0};
  queue_generation_ = 0;
}

bool ControllerModel::can_enable() const {
  const unsigned page_shift = cc_ >> 7 & 0xf;
  const uint32_t command_set = cc_ & kCommandSetAdminOnly;
  const uint64_t page_mask = (uint64_t{4096} << page_shift) - 1;
  return page_shift >= options_.min_page_shift && page_shift <= options_.max_page_shift &&
         (command_set == kCommandSetNvm ||
          (command_set == kCommandSetAll && options_.more_command_sets)) &&
         (cc_ >> 11 & 7) == 0 &&  // AMS: round robin
         (aqa_ & 0xfff) >= 1 && (aqa_ >> 16 & 0xfff) >= 1 && ((asq_ | acq_) & page_mask) == 0;
}

void ControllerModel::disable() {
  transition_ = Transition::not_ready;
  if (faults_.any() && faults_.strike(Faults::Occasion::disable)) transition_ = Transition::never;
  polls_left_ = transition_polls();
  reset_controller();
}

void ControllerModel::shut_down() {
  for (const auto& media : media_) media->flush();
  csts_ = (csts_ & ~kShutdownComplete) | kShutdownProcessing;
  shutdown_polls_left_ = options_.ready_polls;
  shutdown_hangs_ = faults_.any() && faults_.strike(Faults::Occasion::shutdown).has_value();
}

// What is due when `polls_left_` reads have shown the old state: the read after them shows the new one.
uint32_t ControllerModel::read_status() {
  if (transition_ != Transition::none && transition_ != Transition::never && polls_left_-- == 0) {
    if (transition_ == Transition::ready) csts_ |= kReady;
    if (transition_ == Transition::not_ready) csts_ &= ~kReady;
    if (transition_ == Transition::fatal) fail();
    transition_ = Transition::none;
  }
  if ((csts_ & kShutdownProcessing) != 0 && !shutdown_hangs_ && shutdown_polls_left_-- == 0) {
    csts_ = (csts_ & ~kShutdownProcessing) | kShutdownComplete;
  }
  return csts_;
}

bool ControllerModel::processing() const {
  return (csts_ & (kReady | kFatal | kShutdownProcessing | kShutdownComplete)) == kReady &&
         transition_ == Transition::none && (cc_ & kEnable) != 0 && bus_master_ && !removed_;
}

void ControllerModel::reset_controller() {
  for (SubmissionQueue& sq : sqs_) sq = {};
  for (CompletionQueue& cq : cqs_) cq = {};
  active_sqs_.clear();
  for (uint32_t offset = 0; offset < doorbells_.size(); offset += sizeof(uint32_t)) {
    zero_doorbell(kFirstDoorbell + offset);
  }
  held_.clear();
  shadow_iova_ = event_index_iova_ = 0;
  shadow_page_ = event_index_page_ = nullptr;
  signals_due_ = false;
  for (uint8_t id = 0; id < kFeatureCount; ++id) features_[id] = feature_default(id);
  host_behavior_.fill(std::byte{0});
  granted_queues_ = options_.queue_pairs;
  event_requests_.clear();
  waiting_events_.clear();
  masked_by_.fill(std::nullopt);
  shutdown_hangs_ = false;
  csts_ &= kReady | kResetOccurred;
}

void ControllerModel::power_on() {
  cc_ = aqa_ = interrupt_mask_ = 0;
  asq_ = acq_ = 0;
  transition_ = Transition::none;
  reset_controller();
  csts_ = 0;
}

void ControllerModel::zero_doorbell(uint32_t offset) {
  __atomic_store_n(reinterpret_cast<uint32_t*>(doorbell(offset)), 0, __ATOMIC_RELAXED);
}

void ControllerModel::power_off() {
  if (processing()) ++unsafe_shutdowns_;
  ++power_cycles_;
  for (const auto& media : media_) media->power_cut();
  power_on();
}

void ControllerModel::disappear() {
  if (removed_) return;
  power_on();
  removed_ = true;
  if (removal_fd_ >= 0) ::eventfd_write(removal_fd_, 1);
}

void ControllerModel::set_bus_master(bool on) {
  const std::lock_guard guard(lock_);
  bus_master_ = on;
}

void ControllerModel::function_reset() {
  const std::lock_guard guard(lock_);
  if (!removed_) power_on();
}

void ControllerModel::power_cut() {
  const std::lock_guard guard(lock_);
  if (!removed_) power_off();
}

void ControllerModel::remove() {
  const std::lock_guard guard(lock_);
  disappear();
}

void ControllerModel::plug_in() {
  const std::lock_guard guard(lock_);
  if (!removed_) return;
  removed_ = false;
  eventfd_t count = 0;
  if (removal_fd_ >= 0) ::eventfd_read(removal_fd_, &count);
}

bool ControllerModel::removed() const {
  const std::lock_guard guard(lock_);
  return removed_;
}

bool ControllerModel::ready() const {
  const std::lock_guard guard(lock_);
  return (csts_ & kReady) != 0;
}

bool ControllerModel::fatal() const {
  const std::lock_guard guard(lock_);
  return (csts_ & kFatal) != 0;
}

}  // namespace basalt::nvme::model
