// Admin commands' own fields: queue creation, features, asynchronous events, namespace descriptors.
//
// NVM Express base specification 2.0: Asynchronous Event Request (§5.2), Create I/O queues (§5.4,
// §5.5), Get and Set Features (§5.15, §5.27), Namespace Identification Descriptor (§5.17.2.3).
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

// Create I/O queue, command word 11. The upper half is the interrupt vector (completion queues) or the
// completion queue (submission queues); word 10 is the id with, above it, the entry count minus one.
inline constexpr uint32_t kQueueContiguous = 1 << 0;
inline constexpr uint32_t kQueueInterrupts = 1 << 1;  // completion queues
constexpr uint32_t queue_word10(uint16_t id, uint32_t entries) { return (entries - 1) << 16 | id; }

// Get Features, command word 10, bits 10:8.
enum class FeatureSelect : uint8_t { current = 0, defaults = 1, saved = 2, capabilities = 3 };
// Set Features, command word 10.
inline constexpr uint32_t kSaveFeature = uint32_t{1} << 31;
// What FeatureSelect::capabilities answers.
inline constexpr uint32_t kFeatureSaveable = 1 << 0, kFeaturePerNamespace = 1 << 1,
                          kFeatureChangeable = 1 << 2;

// Feature::async_event_config: which events are to be reported.
inline constexpr uint32_t kReportHealth = 0xff, kReportNamespaces = 1 << 8,
                          kReportFirmware = 1 << 9, kReportAsymmetricAccess = 1 << 11,
                          kReportDiscovery = uint32_t{1} << 31;

enum class AsyncEventType : uint8_t {
  error = 0,
  health = 1,
  notice = 2,
  immediate = 3,
  command_set = 6,
  vendor = 7
};
// AsyncEventType::error.
inline constexpr uint8_t kInvalidDoorbellRegister = 0, kInvalidDoorbellValue = 1,
                         kPersistentInternalError = 3;
// AsyncEventType::health.
inline constexpr uint8_t kReliabilityEvent = 0, kTemperatureEvent = 1, kSpareEvent = 2;
// AsyncEventType::notice.
inline constexpr uint8_t kNamespacesChanged = 0, kFirmwareStarting = 1,
                         kAsymmetricAccessChanged = 3, kDiscoveryChanged = 0xf0;
// AsyncEventType::command_set.
inline constexpr uint8_t kReservationLogAvailable = 0;

// Word 0 of an asynchronous event request's completion.
struct AsyncEvent {
  AsyncEventType type = AsyncEventType::error;
  uint8_t information = 0;
  uint8_t log_page =
      0;  // LogPage to be read, which also lets events of this type be reported again
  constexpr uint32_t word() const {
    return static_cast<uint32_t>(type) | uint32_t{information} << 8 | uint32_t{log_page} << 16;
  }
  static constexpr AsyncEvent from_word(uint32_t word) {
    return {static_cast<AsyncEventType>(word & 7), static_cast<uint8_t>(word >> 8 & 0xff),
            static_cast<uint8_t>(word >> 16 & 0xff)};
  }
  friend constexpr bool operator==(const AsyncEvent&, const AsyncEvent&) = default;
};

// IdentifyKind::namespace_descriptors: this, then `bytes` of identifier, again and again; type 0 ends.
enum class NamespaceIdType : uint8_t { eui64 = 1, nguid = 2, uuid = 3, command_set = 4 };
struct NamespaceDescriptor {
  uint8_t type;
  uint8_t bytes;
  uint8_t reserved[2];
};
static_assert(sizeof(NamespaceDescriptor) == 4 &&
              std::has_unique_object_representations_v<NamespaceDescriptor>);

// Format NVM (§5.14), command word 10: bits 3:0 index of the format. Get Log Page (§5.16), command word
// 10: bits 7:0 LogPage, 31:16 dwords minus one (upper half in word 11); words 12 and 13 are the offset
// in bytes.
inline constexpr uint32_t kRetainAsyncEvent = 1 << 15;

// Doorbell Buffer Config (§5.8): the shadow of a doorbell lies where the doorbell lies from
// kFirstDoorbell on. Abort (§5.1), word 0 of the completion.
inline constexpr uint32_t kNotAborted = 1;

}  // namespace basalt::nvme
