// Reservations: which hosts may do what to a namespace they share.
//
// NVM Express base specification 2.0: Reservation Register (§7.3), Acquire (§7.2), Release (§7.4), Report (§7.5),
// the log page of notifications (§5.16.1.24), Features 82h and 83h (§5.27.1.24, §5.27.1.25).
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

// Word 10 of Register, bits 31:30: whether registrations and reservation are to survive power loss from now on.
inline constexpr uint32_t kChangePersistenceShift = 30;
enum class ReservationPersistence : uint8_t { as_it_is = 0, forget = 2, persist = 3 };
// Word 11 of Feature::reservation_persistence.
inline constexpr uint32_t kReservationsPersist = 1;

// What a host is told of by a log page. Feature::reservation_notification_mask has a bit of that number for each.
enum class ReservationNotification : uint8_t {
  none = 0,
  registration_preempted = 1,
  reservation_released = 2,
  reservation_preempted = 3,
};
// The oldest notification that has not been read; all zero: there is none.
struct ReservationNotificationLog {
  le64 count;  // of notifications since the controller's beginning, this one included
  uint8_t type;
  uint8_t more;  // how many follow; 255: at least so many
  uint8_t reserved10[2];
  le32 nsid;
  uint8_t reserved16[48];
};
static_assert(sizeof(ReservationNotificationLog) == 64 &&
              offsetof(ReservationNotificationLog, nsid) == 12 &&
              std::has_unique_object_representations_v<ReservationNotificationLog>);

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
