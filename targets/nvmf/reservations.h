// Reservations: which hosts may do what to a namespace they share, now, and what of it is kept.
//
// The state (reservation_state.h) that commands are checked against changes in one step. Where it is to survive power loss that
// step comes when the new state is saved, off the reactor: until then commands meet the old one, and reservation commands that
// come meanwhile wait for their turn. A state that cannot be saved does not become one: the command fails and everything
// stays. What is on the device then may be the one or the other, which a restart would show.
//
// Threads: any. Nobody registered, which is the usual state, costs check() one load.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/sync.h"
#include "targets/nvmf/reservation_saver.h"
#include "targets/nvmf/reservation_state.h"

namespace basalt::nvmf {

class Reservations : public std::enable_shared_from_this<Reservations> {
 public:
  using Later = std::function<void(ReservationOutcome)>;

  // None of it survives power loss.
  Reservations() = default;
  // Begins with `state`, and is saved by `saver`, which outlives it, under `key`. Shared.
  Reservations(ReservationSaver& saver, std::string key, ReservationState state);

  // Ok: `host` may do that; or a conflict.
  nvme::CompletionStatus check(const HostIdentity& host,
                               const nvme::Command& command) const noexcept {
    if (!in_use_.load(std::memory_order_acquire)) return {};
    const MutexLock lock(mutex_);
    return state_.check(host, command);
  }
  // Whether it is a reservation command, which execute() takes.
  static bool is_reservation(const nvme::Command& command) noexcept;
  // `data`: the command's, or for a report what is to be filled, zero before; there until the answer. Nothing: `later` is called
  // with the outcome, from the saver's thread. What the outcome says is to be told and aborted is the caller's to do.
  std::optional<ReservationOutcome> execute(const HostIdentity& host, const nvme::Command& command,
                                            std::span<std::byte> data, Later later);
  bool can_persist() const { return saver_ != nullptr; }
  bool persists() const;
  // Whether it survives power loss from now on; as execute(). Fails where it cannot.
  std::optional<ReservationOutcome> set_persists(bool persists, Later later);

 private:
  friend class ReservationSaver;
  using Change = std::function<ReservationOutcome(ReservationState&)>;
  struct Waiting {
    Change change;
    Later later;
  };

  std::optional<ReservationOutcome> change(Change change, Later later);
  // With `mutex_` held. Nothing: it is being saved.
  std::optional<ReservationOutcome> begin(Waiting& waiting);
  void commit(ReservationState state);
  // By the saver: what begin() gave it is safe, or not.
  void saved(bool safe);

  ReservationSaver* const saver_ = nullptr;
  const std::string key_;
  mutable Mutex mutex_;  // protects what follows
  ReservationState state_;
  bool saving_ = false;
  ReservationState next_;       // while it is being saved
  ReservationOutcome outcome_;  // of the command that made it
  Later later_;                 // is told
  std::deque<Waiting> waiting_;
  std::atomic<bool> in_use_{false};  // somebody is registered
};

}  // namespace basalt::nvmf
