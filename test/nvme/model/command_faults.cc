// How a ControllerModel carries its faults out: those of commands, of steps, and of admin data. See
// faults.h.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {

void ControllerModel::handle_faulty(SubmissionQueue& sq, const Command& command,
                                    const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::status: return complete(sq, command, {.status = fault.status});
    case FaultKind::lost_command:
    case FaultKind::admin_timeout: return;
    case FaultKind::delayed_command:
      held_.push_back({sq.id, command, {}, false, fault.delay_steps});
      return;
    case FaultKind::fatal_status: return fail();
    case FaultKind::removal: return disappear();
    case FaultKind::power_cut: return power_off();
    case FaultKind::abort_ignored: return complete(sq, command, {.result = kNotAborted});
    default: break;
  }
  fault_ = &fault;  // the data faults strike in there
  const Outcome outcome = carry_out(sq, command);
  fault_ = nullptr;
  if (outcome.completes) complete_wrongly(sq, command, outcome, fault);
}

void ControllerModel::complete_wrongly(SubmissionQueue& sq, const Command& command,
                                       const Outcome& outcome, const Fault& fault) {
  CompletionQueue& cq = cqs_[sq.cq_id];
  Command answered = command;
  const auto value = static_cast<uint16_t>(fault.value);
  switch (fault.kind) {
    case FaultKind::status_after:
      return complete(sq, command, {.status = fault.status, .result = outcome.result});
    case FaultKind::lost_completion: return;
    case FaultKind::delayed_completion:
      held_.push_back({sq.id, command, outcome, true, fault.delay_steps});
      return;
    case FaultKind::duplicate_completion:
      complete(sq, command, outcome);
      if (has_room(cq, 1)) complete(sq, command, outcome);
      return;
    case FaultKind::wrong_cid: answered.cid = value; return complete(sq, answered, outcome);
    case FaultKind::wrong_sq_id: {
      SubmissionQueue other = sq;
      other.id = value;
      return complete(other, command, outcome);
    }
    case FaultKind::garbage_sq_head: {
      SubmissionQueue other = sq;
      other.head = value;
      return complete(other, command, outcome);
    }
    case FaultKind::stale_phase: {
      const uint16_t phase = cq.phase;
      cq.phase ^= 1;
      complete(sq, command, outcome);
      cq.phase = cq.tail == 0 ? phase ^ 1 : phase;
      return;
    }
    case FaultKind::no_interrupt: {
      const bool interrupts = cq.interrupts;
      cq.interrupts = false;
      complete(sq, command, outcome);
      cq.interrupts = interrupts;
      return;
    }
    default: return complete(sq, command, outcome);
  }
}

// What has been delayed long enough completes, if its completion queue has room.
void ControllerModel::complete_held() {
  for (size_t i = 0; i < held_.size() && processing();) {
    HeldCommand& held = held_[i];
    if (held.steps_left > 1) {
      if (held.steps_left != Fault::kUntilReleased) --held.steps_left;
      ++i;
      continue;
    }
    SubmissionQueue& sq = sqs_[held.sq_id];
    if (!has_room(cqs_[sq.cq_id], 1)) {
      ++i;
      continue;
    }
    const HeldCommand due = held;
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    const Outcome outcome = due.executed ? due.outcome : carry_out(sq, due.command);
    if (outcome.completes) complete(sq, due.command, outcome);
  }
}

void ControllerModel::strike_step() {
  if (const auto fault = faults_.strike(Faults::Occasion::step_completion)) {
    const uint16_t id = fault->queue_id.value_or(0);
    if (id < sqs_.size() && sqs_[id].exists && has_room(cqs_[sqs_[id].cq_id], 1)) {
      Command nobodys;
      nobodys.cid = static_cast<uint16_t>(fault->value);
      complete(sqs_[id], nobodys, {});
    }
  }
  if (const auto fault = faults_.strike(Faults::Occasion::step_interrupt)) {
    signal(static_cast<uint16_t>(fault->value));
  }
}

bool ControllerModel::abort_held(uint16_t sq_id, uint16_t cid) {
  const auto found = std::find_if(held_.begin(), held_.end(), [&](const HeldCommand& held) {
    return held.sq_id == sq_id && held.command.cid == cid;
  });
  if (found == held_.end()) return false;
  // Completes like any other, in the next step; its effect, if it has had one, stays.
  found->executed = true;
  found->outcome = {.status = kAbortRequested};
  found->steps_left = 0;
  return true;
}

void ControllerModel::damage(Faults::Occasion occasion, uint32_t selector,
                             std::span<std::byte> data) {
  if (!faults_.any()) return;
  const auto fault = faults_.strike(occasion, {.selector = selector});
  if (!fault || fault->offset >= data.size()) return;
  const size_t bytes = std::min(fault->bytes.size(), data.size() - fault->offset);
  std::memcpy(data.data() + fault->offset, fault->bytes.data(), bytes);
}

void ControllerModel::release_held() {
  const std::lock_guard guard(lock_);
  for (HeldCommand& held : held_) held.steps_left = 0;
}

size_t ControllerModel::held_commands() const {
  const std::lock_guard guard(lock_);
  return held_.size();
}

}  // namespace basalt::nvme::model
