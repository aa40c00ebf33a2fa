// See faults.h.
#include "nvme/model/faults.h"

#include <mutex>
#include <utility>

#include "base/check.h"

namespace basalt::nvme::model {
namespace {

using Occasion = Faults::Occasion;

Occasion occasion_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::completion_overrun: return Occasion::queue_full;
    case FaultKind::unsolicited_completion: return Occasion::step_completion;
    case FaultKind::spurious_interrupt: return Occasion::step_interrupt;
    case FaultKind::never_ready:
    case FaultKind::fatal_on_enable: return Occasion::enable;
    case FaultKind::never_unready: return Occasion::disable;
    case FaultKind::slow_ready: return Occasion::enable_change;
    case FaultKind::shutdown_hangs: return Occasion::shutdown;
    case FaultKind::removal_by_access: return Occasion::register_access;
    case FaultKind::register_value: return Occasion::register_read;
    case FaultKind::queue_silent: return Occasion::queue_look;
    case FaultKind::identify_damaged: return Occasion::identify;
    case FaultKind::log_page_damaged: return Occasion::log_page;
    case FaultKind::fewer_queues: return Occasion::queue_count;
    default: return Occasion::command;
  }
}

// What a kind is about by itself, beyond what the fault's fields ask for.
bool kind_matches(FaultKind kind, const Faults::Details& details) {
  switch (kind) {
    case FaultKind::admin_timeout: return details.queue_id == 0;
    case FaultKind::abort_ignored:
      return details.queue_id == 0 && details.opcode == static_cast<uint8_t>(AdminOpcode::abort);
    case FaultKind::corrupt_read:
    case FaultKind::short_read:
      return details.queue_id != 0 && details.opcode == static_cast<uint8_t>(IoOpcode::read);
    case FaultKind::dropped_write:
      return details.queue_id != 0 &&
             (details.opcode == static_cast<uint8_t>(IoOpcode::write) ||
              details.opcode == static_cast<uint8_t>(IoOpcode::write_zeroes) ||
              details.opcode == static_cast<uint8_t>(IoOpcode::dataset_management));
    case FaultKind::torn_write:
      return details.queue_id != 0 && details.opcode == static_cast<uint8_t>(IoOpcode::write);
    default: return true;
  }
}

template <typename T>
bool agrees(const std::optional<T>& wanted, const std::optional<T>& found) {
  return !wanted || wanted == found;
}

bool matches(const Fault& fault, Occasion occasion, const Faults::Details& details) {
  // An unsolicited completion's queue is where it goes, not what it waits for.
  const bool queue_agrees =
      occasion == Occasion::step_completion || agrees(fault.queue_id, details.queue_id);
  return occasion_of(fault.kind) == occasion && kind_matches(fault.kind, details) && queue_agrees &&
         agrees(fault.opcode, details.opcode) && agrees(fault.selector, details.selector);
}

}  // namespace

void Faults::arm(Fault fault) {
  BASALT_CHECK(fault.kind < FaultKind::kCount && fault.times > 0, "a fault strikes at least once");
  const std::lock_guard guard(mutex_);
  faults_.push_back(std::move(fault));
  armed_.store(faults_.size(), std::memory_order_relaxed);
}

void Faults::clear() {
  const std::lock_guard guard(mutex_);
  faults_.clear();
  armed_.store(0, std::memory_order_relaxed);
}

uint64_t Faults::struck(FaultKind kind) const {
  const std::lock_guard guard(mutex_);
  return struck_[static_cast<size_t>(kind)];
}

std::optional<Fault> Faults::strike(Occasion occasion, const Details& details) {
  const std::lock_guard guard(mutex_);
  std::optional<Fault> found;
  for (auto fault = faults_.begin(); fault != faults_.end(); ++fault) {
    if (!matches(*fault, occasion, details)) continue;
    if (fault->skip > 0) {
      --fault->skip;
      continue;
    }
    found = *fault;
    ++struck_[static_cast<size_t>(fault->kind)];
    if (fault->times != Fault::kForEver && --fault->times == 0) faults_.erase(fault);
    break;
  }
  armed_.store(faults_.size(), std::memory_order_relaxed);
  return found;
}

}  // namespace basalt::nvme::model
