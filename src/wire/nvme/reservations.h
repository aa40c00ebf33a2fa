// Reservations: which hosts may do what to a namespace they share.
//
// NVM Express base specification 2.0: Reservation Register (§7.3), Acquire (§7.2), Release (§7.4), Report (§7.5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

enum class ReservationType : uint8_t {
  none = 0,
  write_exclusive = 1,
  exclusive_access = 2,
  write_exclusive_registrants_only = 3,
  exclusive_access_registrants_only = 4,
  write_exclusive_all_registrants = 5,
  exclusive_access_all_registrants = 6,
};
enum class ReservationRegister : uint8_t { add = 0, remove = 1, replace = 2 };
enum class ReservationAcquire : uint8_t { acquire = 0, preempt = 1, preempt_and_abort = 2 };
enum class ReservationRelease : uint8_t { release = 0, clear = 1 };

// Data of Register (the new key second) and of Acquire (the preempted host's key second).
struct ReservationKeys {
  le64 current;
  le64 other;
};
// Data of Release: the first eight bytes alone.

// What Report answers with 128-bit host ids: this, then a RegisteredHost for each.
struct ReservationReportHeader {
  le32 generation;
  uint8_t type;  // ReservationType
  le16 registered;
  uint8_t reserved7[2];
  uint8_t persist_through_power_loss;
  uint8_t reserved10[54];
};
struct RegisteredHost {
  le16 controller_id;  // 0xffff: not attached now
  uint8_t holder;      // bit 0: holds the reservation
  uint8_t reserved3[5];
  le64 key;
  uint8_t host_id[16];
  uint8_t reserved32[32];
};
static_assert(sizeof(ReservationKeys) == 16 && sizeof(ReservationReportHeader) == 64 &&
              sizeof(RegisteredHost) == 64 && offsetof(ReservationReportHeader, registered) == 5 &&
              std::has_unique_object_representations_v<RegisteredHost>);

}  // namespace basalt::nvme
