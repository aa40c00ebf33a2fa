// The controller's registers: where they lie in BAR 0, and what their fields mean.
//
// NVM Express base specification 2.0, §3.1.3 (controller properties); doorbells: NVMe over PCIe transport
// specification 1.0, §3.1.2. Fabrics transports read and write the same offsets with property commands.
#pragma once

#include <cstdint>

namespace basalt::nvme {

enum class Register : uint32_t {
  capabilities = 0x00,  // 64 bits
  version = 0x08,
  interrupt_mask_set = 0x0c,
  interrupt_mask_clear = 0x10,
  configuration = 0x14,
  status = 0x1c,
  subsystem_reset = 0x20,
  admin_queue_attributes = 0x24,
  admin_submission_queue = 0x28,  // 64 bits
  admin_completion_queue = 0x30,  // 64 bits
  memory_buffer_location = 0x38,
  memory_buffer_size = 0x3c,
  ready_timeouts = 0x68,
};
inline constexpr uint32_t kFirstDoorbell = 0x1000;

// CAP.
struct Capabilities {
  uint64_t value = 0;
  // Entries a queue can have, not less than 2.
  constexpr uint32_t max_queue_entries() const { return static_cast<uint32_t>(value & 0xffff) + 1; }
  constexpr bool contiguous_queues_required() const { return (value >> 16 & 1) != 0; }
  // The longest that CSTS.RDY may take to follow CC.EN, in units of 500 ms.
  constexpr uint32_t ready_timeout_halves() const { return value >> 24 & 0xff; }
  // Bytes from one doorbell to the next.
  constexpr uint32_t doorbell_stride() const { return 4u << (value >> 32 & 0xf); }
  constexpr bool subsystem_reset() const { return (value >> 36 & 1) != 0; }
  constexpr bool nvm_command_set() const { return (value >> 37 & 1) != 0; }
  constexpr bool more_command_sets() const { return (value >> 43 & 1) != 0; }
  constexpr bool admin_only() const { return (value >> 44 & 1) != 0; }
  constexpr uint64_t min_page_bytes() const { return uint64_t{4096} << (value >> 48 & 0xf); }
  constexpr uint64_t max_page_bytes() const { return uint64_t{4096} << (value >> 52 & 0xf); }
};

// CC.
inline constexpr uint32_t kEnable = 1;
inline constexpr uint32_t kCommandSetNvm = 0 << 4, kCommandSetAll = 6 << 4,
                          kCommandSetAdminOnly = 7 << 4;
inline constexpr uint32_t kShutdownMask = 3 << 14, kShutdownNormal = 1 << 14,
                          kShutdownAbrupt = 2 << 14;
constexpr uint32_t page_size_field(unsigned shift_above_4k) { return shift_above_4k << 7; }
inline constexpr uint32_t kEntrySizes = 6 << 16 | 4 << 20;  // 64-byte commands, 16-byte completions

// CSTS.
struct ControllerStatus {
  uint32_t value = 0;
  constexpr bool ready() const { return (value & 1) != 0; }
  constexpr bool fatal() const { return (value >> 1 & 1) != 0; }
  constexpr bool shutdown_complete() const { return (value >> 2 & 3) == 2; }
  constexpr bool shutting_down() const { return (value >> 2 & 3) == 1; }
  constexpr bool subsystem_reset_occurred() const { return (value >> 4 & 1) != 0; }
  constexpr bool processing_paused() const { return (value >> 5 & 1) != 0; }
  // What a function answers that is not there any more.
  constexpr bool gone() const { return value == 0xffff'ffff; }
};

// Where queue `qid`'s doorbells lie in BAR 0.
constexpr uint32_t submission_doorbell(uint32_t qid, uint32_t stride) {
  return kFirstDoorbell + 2 * qid * stride;
}
constexpr uint32_t completion_doorbell(uint32_t qid, uint32_t stride) {
  return kFirstDoorbell + (2 * qid + 1) * stride;
}

}  // namespace basalt::nvme
