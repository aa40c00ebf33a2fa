// See reservations.h.
#include "targets/nvmf/reservations.h"

#include <utility>

namespace basalt::nvmf {

using nvme::Command;
using nvme::IoOpcode;
using nvme::ReservationPersistence;

Reservations::Reservations(ReservationSaver& saver, std::string key, ReservationState state)
    : saver_(&saver), key_(std::move(key)) {
  commit(std::move(state));
}

bool Reservations::is_reservation(const Command& command) noexcept {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::reservation_register:
    case IoOpcode::reservation_report:
    case IoOpcode::reservation_acquire:
    case IoOpcode::reservation_release: return true;
    default: return false;
  }
}

bool Reservations::persists() const {
  const MutexLock lock(mutex_);
  return state_.persists();
}

std::optional<ReservationOutcome> Reservations::execute(const HostIdentity& host,
                                                        const Command& command,
                                                        std::span<std::byte> data, Later later) {
  if (command.opcode == static_cast<uint8_t>(IoOpcode::reservation_report)) {
    const MutexLock lock(mutex_);
    return ReservationOutcome{.status = state_.report(command, data), .notices = {}, .aborted = {}};
  }
  const auto persistence =
      static_cast<ReservationPersistence>(command.cdw10 >> nvme::kChangePersistenceShift);
  if (command.opcode == static_cast<uint8_t>(IoOpcode::reservation_register) &&
      persistence == ReservationPersistence::persist && !can_persist()) {
    return ReservationOutcome{.status = nvme::kInvalidField, .notices = {}, .aborted = {}};
  }
  return change(
      [host, command, data](ReservationState& state) { return state.apply(host, command, data); },
      std::move(later));
}

std::optional<ReservationOutcome> Reservations::set_persists(bool persists, Later later) {
  if (persists && !can_persist()) {
    return ReservationOutcome{.status = nvme::kFeatureNotChangeable, .notices = {}, .aborted = {}};
  }
  return change(
      [persists](ReservationState& state) {
        state.set_persists(persists);
        return ReservationOutcome{};
      },
      std::move(later));
}

std::optional<ReservationOutcome> Reservations::change(Change change, Later later) {
  Waiting one{std::move(change), std::move(later)};
  const MutexLock lock(mutex_);
  if (!saving_) return begin(one);
  waiting_.push_back(std::move(one));  // no more of them than hosts' queues have entries
  return {};
}

std::optional<ReservationOutcome> Reservations::begin(Waiting& waiting) {
  ReservationState state = state_;
  ReservationOutcome outcome = waiting.change(state);
  if (!outcome.status.ok() || state == state_) return outcome;
  if (!state.persists() && !state_.persists()) {
    commit(std::move(state));
    return outcome;
  }
  saving_ = true;
  next_ = std::move(state);
  outcome_ = std::move(outcome);
  later_ = std::move(waiting.later);
  saver_->save(shared_from_this(), key_,
               next_.persists() ? std::optional(next_.encode()) : std::nullopt);
  return {};
}

void Reservations::commit(ReservationState state) {
  state_ = std::move(state);
  in_use_.store(state_.in_use(), std::memory_order_release);
}

void Reservations::saved(bool safe) {
  // Answers go out without the lock.
  std::deque<std::pair<Later, ReservationOutcome>> answers;
  {
    const MutexLock lock(mutex_);
    if (safe) {
      commit(std::move(next_));
    } else {
      outcome_ = {.status = nvme::kInternalError, .notices = {}, .aborted = {}};
    }
    answers.emplace_back(std::move(later_), std::move(outcome_));
    saving_ = false;
    while (!saving_ && !waiting_.empty()) {
      Waiting one = std::move(waiting_.front());
      waiting_.pop_front();
      if (auto outcome = begin(one))
        answers.emplace_back(std::move(one.later), std::move(*outcome));
    }
  }
  for (auto& [later, outcome] : answers) later(std::move(outcome));
}

}  // namespace basalt::nvmf
