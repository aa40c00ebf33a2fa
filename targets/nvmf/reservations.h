// Reservations: which hosts may do what to a namespace they share.
//
// NVM Express base specification 2.0, §7.2-7.5 (commands), §8.19 (what they mean, and which commands conflict). A host is
// known by its identifier, over whichever controller. What is kept goes with the process: that it should survive power loss is
// refused.
//
// Threads: any. Nobody registered, which is the usual state, costs check() one load.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/sync.h"
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

class Reservations {
 public:
  // Ok: `host` may do that; or a conflict.
  nvme::CompletionStatus check(const HostIdentity& host,
                               const nvme::Command& command) const noexcept {
    if (!in_use_.load(std::memory_order_acquire)) return {};
    return check_slowly(host, command);
  }
  // Whether it is a reservation command, which execute() takes.
  static bool is_reservation(const nvme::Command& command) noexcept;
  // `data`: the command's, or for a report what is to be filled, zero before.
  nvme::CompletionStatus execute(const HostIdentity& host, const nvme::Command& command,
                                 std::span<std::byte> data);

 private:
  static constexpr size_t kMaxRegistrants = 256;
  struct Registrant {
    HostIdentity host;
    uint64_t key = 0;
  };

  nvme::CompletionStatus check_slowly(const HostIdentity& host,
                                      const nvme::Command& command) const noexcept;
  nvme::CompletionStatus add(const HostIdentity& host, const nvme::Command& command,
                             std::span<const std::byte> data);
  nvme::CompletionStatus acquire(const HostIdentity& host, const nvme::Command& command,
                                 std::span<const std::byte> data);
  nvme::CompletionStatus preempt(const HostIdentity& host, uint64_t key,
                                 nvme::ReservationType type);
  nvme::CompletionStatus release(const HostIdentity& host, const nvme::Command& command,
                                 std::span<const std::byte> data);
  nvme::CompletionStatus report(const nvme::Command& command, std::span<std::byte> data) const;
  Registrant* find(const HostIdentity& host);
  const Registrant* find(const HostIdentity& host) const;
  bool is_held() const { return type_ != nvme::ReservationType::none; }
  bool held_by_all() const;
  bool holds(const HostIdentity& host) const;
  // Unregisters all others than `host` with that key, or all others; answers how many they were.
  size_t remove_others(const HostIdentity& host, const uint64_t* key);
  void changed();

  mutable Mutex mutex_;  // protects what follows
  std::vector<Registrant> registrants_;
  nvme::ReservationType type_ = nvme::ReservationType::none;
  HostIdentity holder_;  // unless all registrants hold it
  uint32_t generation_ = 0;
  std::atomic<bool> in_use_{false};  // somebody is registered
};

}  // namespace basalt::nvmf
