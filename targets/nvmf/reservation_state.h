// ReservationState: who is registered with a namespace and who holds it, at one moment; and what each command makes of it.
//
// NVM Express base specification 2.0, §7.2-7.5 (commands), §8.19 (what they mean, which commands conflict, who is told). A host
// is known by its identifier and name, over whichever controller. A value: pure, no I/O.
//
// Threads: one at a time.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "wire/nvme/command.h"
#include "wire/nvme/reservations.h"
#include "wire/nvme/status.h"

namespace basalt::nvmf {

// A host, by both what it calls itself and its identifier: that of another host is of no use without its name.
struct HostIdentity {
  std::string nqn;
  std::array<uint8_t, 16> id{};
  friend bool operator==(const HostIdentity&, const HostIdentity&) = default;
};

// What a command came to.
struct ReservationOutcome {
  nvme::CompletionStatus status;
  struct Notice {
    nvme::ReservationNotification type;
    std::vector<HostIdentity> hosts;  // whose controllers are told
  };
  std::vector<Notice> notices;
  // Whose commands that are under way are to be aborted, and over, before the command is answered.
  std::vector<HostIdentity> aborted;
};

class ReservationState {
 public:
  static constexpr size_t kMaxRegistrants = 256;

  // Ok: `host` may do that; or a conflict.
  nvme::CompletionStatus check(const HostIdentity& host,
                               const nvme::Command& command) const noexcept;
  // Register, Acquire or Release, with its data. What fails changes nothing.
  ReservationOutcome apply(const HostIdentity& host, const nvme::Command& command,
                           std::span<const std::byte> data);
  // Fills `data`, zero before.
  nvme::CompletionStatus report(const nvme::Command& command, std::span<std::byte> data) const;
  // Somebody is registered.
  bool in_use() const { return !registrants_.empty(); }
  // It is to survive power loss.
  bool persists() const { return persists_; }
  void set_persists(bool persists) { persists_ = persists; }

  // As it is kept: docs/format/reservations.md.
  std::string encode() const;
  // Errors: corruption; unsupported (of a later version).
  static Result<ReservationState> decode(std::string_view bytes);
  friend bool operator==(const ReservationState&, const ReservationState&) = default;

 private:
  struct Registrant {
    HostIdentity host;
    uint64_t key = 0;
    friend bool operator==(const Registrant&, const Registrant&) = default;
  };

  ReservationOutcome add(const HostIdentity& host, const nvme::Command& command,
                         std::span<const std::byte> data);
  ReservationOutcome acquire(const HostIdentity& host, const nvme::Command& command,
                             std::span<const std::byte> data);
  ReservationOutcome preempt(const HostIdentity& host, uint64_t key, nvme::ReservationType type,
                             bool aborts);
  ReservationOutcome release(const HostIdentity& host, const nvme::Command& command,
                             std::span<const std::byte> data);
  Registrant* find(const HostIdentity& host);
  const Registrant* find(const HostIdentity& host) const;
  bool is_held() const { return type_ != nvme::ReservationType::none; }
  bool held_by_all() const;
  bool holds(const HostIdentity& host) const;
  void take(const HostIdentity& host, nvme::ReservationType type);
  void let_go();
  // Unregisters all others than `host` with that key, or all others; answers who they were.
  std::vector<HostIdentity> remove_others(const HostIdentity& host, const uint64_t* key);
  std::vector<HostIdentity> others_than(const HostIdentity& host) const;

  std::vector<Registrant> registrants_;
  nvme::ReservationType type_ = nvme::ReservationType::none;
  HostIdentity holder_;  // one of them; empty: all registrants hold it, or nobody
  uint32_t generation_ = 0;
  bool persists_ = false;
};

}  // namespace basalt::nvmf
