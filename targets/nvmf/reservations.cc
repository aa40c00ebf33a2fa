// See reservations.h.
#include "targets/nvmf/reservations.h"

#include <algorithm>
#include <cstring>

namespace basalt::nvmf {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::IoOpcode;
using nvme::kReservationConflict;
using nvme::ReservationType;

namespace {

constexpr uint32_t kIgnoreKey = 1 << 3;     // word 10: IEKEY
constexpr uint32_t kPersistenceShift = 30;  // word 10 of Register: CPTPL
constexpr uint32_t kPersistOn = 3;          // of that: through power loss
constexpr uint32_t kExtendedData = 1;       // word 11 of Report: host ids of 128 bits

uint64_t key_at(std::span<const std::byte> data, size_t offset) {
  le64 key;
  std::memcpy(&key, data.data() + offset, sizeof key);
  return key;
}

bool is_for_all(ReservationType type) {
  return type == ReservationType::write_exclusive_all_registrants ||
         type == ReservationType::exclusive_access_all_registrants;
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

bool Reservations::is_reservation(const Command& command) noexcept {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::reservation_register:
    case IoOpcode::reservation_report:
    case IoOpcode::reservation_acquire:
    case IoOpcode::reservation_release: return true;
    default: return false;
  }
}

Reservations::Registrant* Reservations::find(const HostIdentity& host) {
  const auto found = std::find_if(registrants_.begin(), registrants_.end(),
                                  [&](const Registrant& known) { return known.host == host; });
  return found == registrants_.end() ? nullptr : &*found;
}

const Reservations::Registrant* Reservations::find(const HostIdentity& host) const {
  return const_cast<Reservations*>(this)->find(host);
}

bool Reservations::held_by_all() const { return is_for_all(type_); }

bool Reservations::holds(const HostIdentity& host) const {
  return is_held() && (held_by_all() ? find(host) != nullptr : holder_ == host);
}

void Reservations::changed() {
  if (registrants_.empty()) type_ = ReservationType::none;
  in_use_.store(!registrants_.empty(), std::memory_order_release);
}

CompletionStatus Reservations::check_slowly(const HostIdentity& host,
                                            const Command& command) const noexcept {
  const MutexLock lock(mutex_);
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

CompletionStatus Reservations::execute(const HostIdentity& host, const Command& command,
                                       std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::reservation_register: return add(host, command, data);
    case IoOpcode::reservation_acquire: return acquire(host, command, data);
    case IoOpcode::reservation_release: return release(host, command, data);
    default: return report(command, data);
  }
}

CompletionStatus Reservations::add(const HostIdentity& host, const Command& command,
                                   std::span<const std::byte> data) {
  if (data.size() < sizeof(nvme::ReservationKeys)) return nvme::kDataLengthInvalid;
  if (command.cdw10 >> kPersistenceShift == kPersistOn) return nvme::kInvalidField;
  const bool any_key = (command.cdw10 & kIgnoreKey) != 0;
  const uint64_t current = key_at(data, 0), wanted = key_at(data, 8);
  Registrant* const known = find(host);
  const auto action = static_cast<nvme::ReservationRegister>(command.cdw10 & 7);
  if (action != nvme::ReservationRegister::remove && wanted == 0) return nvme::kInvalidField;
  if (known == nullptr && registrants_.size() == kMaxRegistrants) return nvme::kCapacityExceeded;
  switch (action) {
    case nvme::ReservationRegister::add:
      if (known != nullptr && known->key != wanted) return kReservationConflict;
      if (known == nullptr) registrants_.push_back({host, wanted});
      break;
    case nvme::ReservationRegister::remove: {
      if (known == nullptr || (!any_key && known->key != current)) return kReservationConflict;
      const bool held = holds(host) && !held_by_all();
      registrants_.erase(registrants_.begin() + (known - registrants_.data()));
      if (held) type_ = ReservationType::none;
      break;
    }
    case nvme::ReservationRegister::replace:
      if (known == nullptr && any_key) {
        registrants_.push_back({host, wanted});
        break;
      }
      if (known == nullptr || (!any_key && known->key != current)) return kReservationConflict;
      known->key = wanted;
      break;
    default: return nvme::kInvalidField;
  }
  ++generation_;
  changed();
  return nvme::kGood;
}

CompletionStatus Reservations::acquire(const HostIdentity& host, const Command& command,
                                       std::span<const std::byte> data) {
  if (data.size() < sizeof(nvme::ReservationKeys)) return nvme::kDataLengthInvalid;
  const uint32_t kind = command.cdw10 >> 8 & 0xff;
  if ((command.cdw10 & kIgnoreKey) != 0 || !is_type(kind)) return nvme::kInvalidField;
  const auto type = static_cast<ReservationType>(kind);
  const Registrant* const known = find(host);
  if (known == nullptr || known->key != key_at(data, 0)) return kReservationConflict;
  switch (static_cast<nvme::ReservationAcquire>(command.cdw10 & 7)) {
    case nvme::ReservationAcquire::acquire:
      if (is_held()) return holds(host) && type == type_ ? nvme::kGood : kReservationConflict;
      type_ = type;
      holder_ = host;
      return nvme::kGood;
    case nvme::ReservationAcquire::preempt: return preempt(host, key_at(data, 8), type);
    // It would have to wait until what the others have at devices is over, on every reactor.
    default: return nvme::kInvalidField;
  }
}

CompletionStatus Reservations::preempt(const HostIdentity& host, uint64_t key,
                                       ReservationType type) {
  const auto take = [&] {
    type_ = type;
    holder_ = host;
  };
  if (held_by_all() && key == 0) {
    remove_others(host, nullptr);
    take();
  } else if (is_held() && !held_by_all() && find(holder_) != nullptr && find(holder_)->key == key) {
    remove_others(host, &key);
    take();
  } else {
    if (key == 0) return nvme::kInvalidField;
    if (remove_others(host, &key) == 0) return kReservationConflict;
  }
  ++generation_;
  changed();
  return nvme::kGood;
}

size_t Reservations::remove_others(const HostIdentity& host, const uint64_t* key) {
  const size_t before = registrants_.size();
  std::erase_if(registrants_, [&](const Registrant& known) {
    return known.host != host && (key == nullptr || known.key == *key);
  });
  return before - registrants_.size();
}

CompletionStatus Reservations::release(const HostIdentity& host, const Command& command,
                                       std::span<const std::byte> data) {
  if (data.size() < sizeof(le64)) return nvme::kDataLengthInvalid;
  if ((command.cdw10 & kIgnoreKey) != 0) return nvme::kInvalidField;
  const Registrant* const known = find(host);
  if (known == nullptr || known->key != key_at(data, 0)) return kReservationConflict;
  switch (static_cast<nvme::ReservationRelease>(command.cdw10 & 7)) {
    case nvme::ReservationRelease::release:
      if (!holds(host)) return nvme::kGood;  // as the specification has it
      if ((command.cdw10 >> 8 & 0xff) != static_cast<uint32_t>(type_)) return nvme::kInvalidField;
      type_ = ReservationType::none;
      return nvme::kGood;
    case nvme::ReservationRelease::clear:
      registrants_.clear();
      ++generation_;
      changed();
      return nvme::kGood;
    default: return nvme::kInvalidField;
  }
}

CompletionStatus Reservations::report(const Command& command, std::span<std::byte> data) const {
  if ((command.cdw11 & kExtendedData) == 0) return nvme::kHostIdInconsistent;
  if (data.size() != (uint64_t{command.cdw10} + 1) * 4) return nvme::kDataLengthInvalid;
  nvme::ReservationReportHeader header{};
  header.generation = generation_;
  header.type = static_cast<uint8_t>(type_);
  header.registered = static_cast<uint16_t>(registrants_.size());
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
