// See reservation_state.h. How it is kept is in reservation_record.cc.
#include "targets/nvmf/reservation_state.h"

#include <algorithm>
#include <cstring>

namespace basalt::nvmf {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::IoOpcode;
using nvme::kReservationConflict;
using nvme::ReservationNotification;
using nvme::ReservationPersistence;
using nvme::ReservationType;

namespace {

constexpr uint32_t kIgnoreKey = 1 << 3;  // word 10: IEKEY
constexpr uint32_t kExtendedData = 1;    // word 11 of Report: host ids of 128 bits

ReservationOutcome only(CompletionStatus status) {
  return {.status = status, .notices = {}, .aborted = {}};
}

void tell(ReservationOutcome& outcome, ReservationNotification type,
          std::vector<HostIdentity> hosts) {
  if (!hosts.empty()) outcome.notices.push_back({type, std::move(hosts)});
}

uint64_t key_at(std::span<const std::byte> data, size_t offset) {
  le64 key;
  std::memcpy(&key, data.data() + offset, sizeof key);
  return key;
}

bool is_for_all(ReservationType type) {
  return type == ReservationType::write_exclusive_all_registrants ||
         type == ReservationType::exclusive_access_all_registrants;
}

// Of one host alone: the others could do nothing with it, and are not told when it goes.
bool is_for_one(ReservationType type) {
  return type == ReservationType::write_exclusive || type == ReservationType::exclusive_access;
}

bool is_type(uint32_t value) {
  return value >= static_cast<uint32_t>(ReservationType::write_exclusive) &&
         value <= static_cast<uint32_t>(ReservationType::exclusive_access_all_registrants);
}

bool only_reads(const Command& command) {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::read:
    case IoOpcode::compare:
    case IoOpcode::verify: return true;
    default: return false;
  }
}

}  // namespace

ReservationState::Registrant* ReservationState::find(const HostIdentity& host) {
  const auto found = std::find_if(registrants_.begin(), registrants_.end(),
                                  [&](const Registrant& known) { return known.host == host; });
  return found == registrants_.end() ? nullptr : &*found;
}

const ReservationState::Registrant* ReservationState::find(const HostIdentity& host) const {
  return const_cast<ReservationState*>(this)->find(host);
}

bool ReservationState::held_by_all() const { return is_for_all(type_); }

bool ReservationState::holds(const HostIdentity& host) const {
  return is_held() && (held_by_all() ? find(host) != nullptr : holder_ == host);
}

void ReservationState::let_go() {
  type_ = ReservationType::none;
  holder_ = {};
}

std::vector<HostIdentity> ReservationState::others_than(const HostIdentity& host) const {
  std::vector<HostIdentity> others;
  for (const Registrant& known : registrants_) {
    if (known.host != host) others.push_back(known.host);
  }
  return others;
}

CompletionStatus ReservationState::check(const HostIdentity& host,
                                         const Command& command) const noexcept {
  switch (type_) {
    case ReservationType::none: return nvme::kGood;
    case ReservationType::write_exclusive:
      return holds(host) || only_reads(command) ? nvme::kGood : kReservationConflict;
    case ReservationType::exclusive_access: return holds(host) ? nvme::kGood : kReservationConflict;
    case ReservationType::write_exclusive_registrants_only:
    case ReservationType::write_exclusive_all_registrants:
      return find(host) != nullptr || only_reads(command) ? nvme::kGood : kReservationConflict;
    default: return find(host) != nullptr ? nvme::kGood : kReservationConflict;
  }
}

ReservationOutcome ReservationState::apply(const HostIdentity& host, const Command& command,
                                           std::span<const std::byte> data) {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::reservation_register: return add(host, command, data);
    case IoOpcode::reservation_acquire: return acquire(host, command, data);
    default: return release(host, command, data);
  }
}

ReservationOutcome ReservationState::add(const HostIdentity& host, const Command& command,
                                         std::span<const std::byte> data) {
  if (data.size() < sizeof(nvme::ReservationKeys)) return only(nvme::kDataLengthInvalid);
  const auto persistence =
      static_cast<ReservationPersistence>(command.cdw10 >> nvme::kChangePersistenceShift);
  if (persistence != ReservationPersistence::as_it_is &&
      persistence != ReservationPersistence::forget &&
      persistence != ReservationPersistence::persist) {
    return only(nvme::kInvalidField);
  }
  const bool any_key = (command.cdw10 & kIgnoreKey) != 0;
  const uint64_t current = key_at(data, 0), wanted = key_at(data, 8);
  Registrant* const known = find(host);
  const bool is_known = known != nullptr && (any_key || known->key == current);
  const auto action = static_cast<nvme::ReservationRegister>(command.cdw10 & 7);
  if (action != nvme::ReservationRegister::remove && wanted == 0) return only(nvme::kInvalidField);
  if (known == nullptr && registrants_.size() == kMaxRegistrants) {
    return only(nvme::kCapacityExceeded);
  }
  ReservationOutcome outcome;
  switch (action) {
    case nvme::ReservationRegister::add:
      if (known != nullptr && known->key != wanted) return only(kReservationConflict);
      if (known == nullptr) registrants_.push_back({host, wanted});
      break;
    case nvme::ReservationRegister::remove: {
      if (!is_known) return only(kReservationConflict);
      const bool held = holds(host) && !held_by_all();
      registrants_.erase(registrants_.begin() + (known - registrants_.data()));
      if (held && !is_for_one(type_)) {
        tell(outcome, ReservationNotification::reservation_released, others_than(host));
      }
      if (held || registrants_.empty()) let_go();
      break;
    }
    case nvme::ReservationRegister::replace:
      if (known == nullptr && any_key) {
        registrants_.push_back({host, wanted});
        break;
      }
      if (!is_known) return only(kReservationConflict);
      known->key = wanted;
      break;
    default: return only(nvme::kInvalidField);
  }
  if (persistence != ReservationPersistence::as_it_is) {
    persists_ = persistence == ReservationPersistence::persist;
  }
  ++generation_;
  return outcome;
}

ReservationOutcome ReservationState::acquire(const HostIdentity& host, const Command& command,
                                             std::span<const std::byte> data) {
  if (data.size() < sizeof(nvme::ReservationKeys)) return only(nvme::kDataLengthInvalid);
  const uint32_t kind = command.cdw10 >> 8 & 0xff;
  if ((command.cdw10 & kIgnoreKey) != 0 || !is_type(kind)) return only(nvme::kInvalidField);
  const auto type = static_cast<ReservationType>(kind);
  const Registrant* const known = find(host);
  if (known == nullptr || known->key != key_at(data, 0)) return only(kReservationConflict);
  const auto action = static_cast<nvme::ReservationAcquire>(command.cdw10 & 7);
  switch (action) {
    case nvme::ReservationAcquire::acquire:
      if (is_held()) {
        return only(holds(host) && type == type_ ? nvme::kGood : kReservationConflict);
      }
      take(host, type);
      return {};
    case nvme::ReservationAcquire::preempt:
    case nvme::ReservationAcquire::preempt_and_abort:
      return preempt(host, key_at(data, 8), type,
                     action == nvme::ReservationAcquire::preempt_and_abort);
    default: return only(nvme::kInvalidField);
  }
}

void ReservationState::take(const HostIdentity& host, ReservationType type) {
  type_ = type;
  holder_ = is_for_all(type) ? HostIdentity{} : host;
}

ReservationOutcome ReservationState::preempt(const HostIdentity& host, uint64_t key,
                                             ReservationType type, bool aborts) {
  const ReservationType before = type_;
  std::vector<HostIdentity> preempted;
  if (held_by_all() && key == 0) {
    preempted = remove_others(host, nullptr);
    take(host, type);
  } else if (is_held() && !held_by_all() && find(holder_) != nullptr && find(holder_)->key == key) {
    preempted = remove_others(host, &key);
    take(host, type);
  } else {
    if (key == 0) return only(nvme::kInvalidField);
    preempted = remove_others(host, &key);
    if (preempted.empty()) return only(kReservationConflict);
  }
  ++generation_;
  ReservationOutcome outcome;
  if (aborts) outcome.aborted = preempted;
  tell(outcome, ReservationNotification::registration_preempted, std::move(preempted));
  if (before != type_) {
    tell(outcome, ReservationNotification::reservation_released, others_than(host));
  }
  return outcome;
}

std::vector<HostIdentity> ReservationState::remove_others(const HostIdentity& host,
                                                          const uint64_t* key) {
  std::vector<HostIdentity> removed;
  std::erase_if(registrants_, [&](const Registrant& known) {
    const bool goes = known.host != host && (key == nullptr || known.key == *key);
    if (goes) removed.push_back(known.host);
    return goes;
  });
  return removed;
}

ReservationOutcome ReservationState::release(const HostIdentity& host, const Command& command,
                                             std::span<const std::byte> data) {
  if (data.size() < sizeof(le64)) return only(nvme::kDataLengthInvalid);
  if ((command.cdw10 & kIgnoreKey) != 0) return only(nvme::kInvalidField);
  const Registrant* const known = find(host);
  if (known == nullptr || known->key != key_at(data, 0)) return only(kReservationConflict);
  ReservationOutcome outcome;
  switch (static_cast<nvme::ReservationRelease>(command.cdw10 & 7)) {
    case nvme::ReservationRelease::release:
      if (!holds(host)) return {};  // as the specification has it
      if ((command.cdw10 >> 8 & 0xff) != static_cast<uint32_t>(type_)) {
        return only(nvme::kInvalidField);
      }
      if (!is_for_one(type_)) {
        tell(outcome, ReservationNotification::reservation_released, others_than(host));
      }
      let_go();
      return outcome;
    case nvme::ReservationRelease::clear:
      tell(outcome, ReservationNotification::reservation_preempted, others_than(host));
      registrants_.clear();
      let_go();
      ++generation_;
      return outcome;
    default: return only(nvme::kInvalidField);
  }
}

CompletionStatus ReservationState::report(const Command& command, std::span<std::byte> data) const {
  if ((command.cdw11 & kExtendedData) == 0) return nvme::kHostIdInconsistent;
  if (data.size() != (uint64_t{command.cdw10} + 1) * 4) return nvme::kDataLengthInvalid;
  nvme::ReservationReportHeader header{};
  header.generation = generation_;
  header.type = static_cast<uint8_t>(type_);
  header.registered = static_cast<uint16_t>(registrants_.size());
  header.persist_through_power_loss = persists_ ? 1 : 0;
  size_t at = 0;
  const auto add_bytes = [&](const void* bytes, size_t size) {
    std::memcpy(data.data() + at, bytes, std::min(size, data.size() - at));
    at += std::min(size, data.size() - at);
  };
  add_bytes(&header, sizeof header);
  for (const Registrant& known : registrants_) {
    nvme::RegisteredHost one{};
    one.controller_id = 0xffff;  // a host may have several, or none now
    one.holder = holds(known.host) ? 1 : 0;
    one.key = known.key;
    std::copy(known.host.id.begin(), known.host.id.end(), std::begin(one.host_id));
    add_bytes(&one, sizeof one);
  }
  return nvme::kGood;
}

}  // namespace basalt::nvmf
