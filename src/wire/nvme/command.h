// The two entries every NVMe queue is made of: the 64-byte command and the 16-byte completion.
//
// Layouts are those of the NVM Express base specification 2.0: common command format (§3.3.3.1), SGL
// descriptors (§4.1.2), completion queue entry (§3.3.3.2). Opcodes: admin commands (§5), NVM command set
// specification 1.0 (§3). Everything is little-endian.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme {

// Admin command set.
enum class AdminOpcode : uint8_t {
  delete_submission_queue = 0x00,
  create_submission_queue = 0x01,
  get_log_page = 0x02,
  delete_completion_queue = 0x04,
  create_completion_queue = 0x05,
  identify = 0x06,
  abort = 0x08,
  set_features = 0x09,
  get_features = 0x0a,
  async_event_request = 0x0c,
  namespace_management = 0x0d,
  firmware_commit = 0x10,
  firmware_download = 0x11,
  namespace_attachment = 0x15,
  keep_alive = 0x18,
  doorbell_buffer_config = 0x7c,
  fabrics = 0x7f,
  format_nvm = 0x80,
  sanitize = 0x84,
};

// NVM command set, and the zoned command set's additions.
enum class IoOpcode : uint8_t {
  flush = 0x00,
  write = 0x01,
  read = 0x02,
  write_uncorrectable = 0x04,
  compare = 0x05,
  write_zeroes = 0x08,
  dataset_management = 0x09,
  verify = 0x0c,
  reservation_register = 0x0d,
  reservation_report = 0x0e,
  reservation_acquire = 0x11,
  reservation_release = 0x15,
  copy = 0x19,
  zone_management_send = 0x79,
  zone_management_receive = 0x7a,
  zone_append = 0x7d,
};

inline constexpr uint32_t kAllNamespaces = 0xffff'ffff;

// Command::flags: bits 1:0 fused operation, bits 7:6 how the data pointer is meant.
inline constexpr uint8_t kFusedFirst = 0x01, kFusedSecond = 0x02, kFusedMask = 0x03;
inline constexpr uint8_t kDataIsSgl = 0x40;  // metadata, if any, is one contiguous buffer

// Command word 12 of read, write, compare, write zeroes …, above the 16-bit block count minus one.
inline constexpr uint32_t kLimitedRetry = uint32_t{1} << 31;
inline constexpr uint32_t kForceUnitAccess = uint32_t{1} << 30;
inline constexpr uint32_t kDeallocate = uint32_t{1} << 25;  // write zeroes
// End-to-end protection information (NVM command set specification 1.0, §5.2), in the same word: the controller makes
// it on writes, and checks and takes it off on reads (PRACT); what of it is checked (PRCHK). Word 14: the first block's
// reference tag.
inline constexpr uint32_t kProtectionAction = uint32_t{1} << 29;
inline constexpr uint32_t kCheckGuard = uint32_t{1} << 28;
inline constexpr uint32_t kCheckApplicationTag = uint32_t{1} << 27;
inline constexpr uint32_t kCheckReferenceTag = uint32_t{1} << 26;
inline constexpr uint32_t kMaxBlocksPerCommand = 1 << 16;

// Last byte of an SGL descriptor: type in the upper four bits, subtype in the lower.
enum class SglType : uint8_t {
  data_block = 0x00,
  bit_bucket = 0x10,
  segment = 0x20,
  last_segment = 0x30,
  keyed_data_block = 0x40,
  transport_data_block = 0x5a,
  in_capsule_data_block = 0x01,  // data block whose address is an offset into the capsule
};

struct SglDescriptor {
  le64 address;
  le32 length;
  uint8_t reserved[3];
  uint8_t type;  // SglType
};
static_assert(sizeof(SglDescriptor) == 16);

// The data pointer: two PRP entries, or one SGL descriptor over the same bytes.
struct DataPointer {
  le64 prp1;
  le64 prp2;
};

struct Command {
  uint8_t opcode = 0;
  uint8_t flags = 0;
  le16 cid;
  le32 nsid;
  le32 cdw2;
  le32 cdw3;
  le64 metadata;
  DataPointer data;
  le32 cdw10;
  le32 cdw11;
  le32 cdw12;
  le32 cdw13;
  le32 cdw14;
  le32 cdw15;
};
static_assert(sizeof(Command) == 64 && std::has_unique_object_representations_v<Command>);

// Of CompletionStatus::field().
inline constexpr uint16_t kDoNotRetry = 1 << 14;

// The status field (bits 31:17 of the last word): code, type, retry delay, more, do not retry.
// Bit 16, the phase tag, is not part of it.
class CompletionStatus {
 public:
  constexpr CompletionStatus() = default;
  constexpr explicit CompletionStatus(uint16_t field) : field_(field) {}
  constexpr CompletionStatus(uint8_t type, uint8_t code)
      : field_(static_cast<uint16_t>((type & 7) << 8 | code)) {}

  constexpr bool ok() const { return (field_ & 0x7ff) == 0; }
  constexpr uint8_t code() const { return static_cast<uint8_t>(field_ & 0xff); }
  constexpr uint8_t type() const { return field_ >> 8 & 7; }
  // Which of the controller's three command retry delays to wait for; 0: none.
  constexpr unsigned retry_delay() const { return field_ >> 11 & 3; }
  constexpr bool more() const { return (field_ >> 13 & 1) != 0; }  // the error log says more
  constexpr bool do_not_retry() const { return (field_ >> 14 & 1) != 0; }
  constexpr uint16_t field() const { return field_; }
  // The same type and code, whatever is said of retrying.
  constexpr bool is(CompletionStatus other) const {
    return (field_ & 0x7ff) == (other.field_ & 0x7ff);
  }
  friend constexpr bool operator==(CompletionStatus, CompletionStatus) = default;

 private:
  uint16_t field_ = 0;  // fifteen bits
};

struct Completion {
  le32 result;  // command specific
  le32 result_high;
  le16 sq_head;
  le16 sq_id;
  le16 cid;
  le16 status_and_phase;

  CompletionStatus status() const {
    return CompletionStatus(static_cast<uint16_t>(status_and_phase >> 1));
  }
  bool phase() const { return (status_and_phase & 1) != 0; }
};
static_assert(sizeof(Completion) == 16 && std::has_unique_object_representations_v<Completion>);

}  // namespace basalt::nvme
