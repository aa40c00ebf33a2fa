// NVMe/TCP's protocol data units: what travels on a connection, and whether it makes sense.
//
// NVM Express TCP transport specification 1.0, §3.6 (PDUs), §3.3 (digests), §3.4.1 (connection establishment).
// A PDU is a header, the header's digest if both sides agreed, padding, data, and the data's digest. Everything is
// little-endian; digests are CRC-32C. Pure functions, no sockets: bytes from a peer are checked here.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/endian.h"
#include "wire/nvme/command.h"

namespace basalt::nvme::tcp {

enum class PduType : uint8_t {
  connection_request = 0x00,   // ICReq, host
  connection_response = 0x01,  // ICResp, controller
  host_termination = 0x02,     // H2CTermReq
  controller_termination = 0x03,
  command = 0x04,   // CapsuleCmd, host
  response = 0x05,  // CapsuleResp, controller
  host_data = 0x06,
  controller_data = 0x07,
  ready_to_transfer = 0x09,  // R2T, controller
};
std::string_view pdu_name(PduType type);

// PduHeader::flags.
inline constexpr uint8_t kHeaderDigest = 1 << 0, kDataDigest = 1 << 1, kLastData = 1 << 2,
                         kSuccess = 1 << 3;  // controller's data: it also stands for the response

// First in every PDU.
struct PduHeader {
  uint8_t type;  // PduType
  uint8_t flags;
  uint8_t header_bytes;  // without digest
  uint8_t data_offset;   // from the PDU's first byte; 0: no data
  le32 bytes;            // of the whole PDU, digests among them
};

inline constexpr uint16_t kFormatVersion = 0;
// ConnectionRequest and -Response::digests.
inline constexpr uint8_t kUseHeaderDigest = 1 << 0, kUseDataDigest = 1 << 1;

struct ConnectionRequest {
  PduHeader header;
  le16 format_version;
  uint8_t data_alignment;  // of controller data, in 4 bytes, minus one
  uint8_t digests;
  le32 max_ready_to_transfer;  // per command, minus one
  uint8_t reserved[112];
};
struct ConnectionResponse {
  PduHeader header;
  le16 format_version;
  uint8_t data_alignment;  // of host data, in 4 bytes, minus one; at most 31
  uint8_t digests;
  le32 max_host_data;  // bytes in one PduType::host_data, at least 4096
  uint8_t reserved[112];
};
static_assert(sizeof(ConnectionRequest) == 128 && sizeof(ConnectionResponse) == 128);

struct CommandPdu {
  PduHeader header;
  Command command;
};
struct ResponsePdu {
  PduHeader header;
  Completion completion;
};
// host_data, controller_data and ready_to_transfer.
struct DataPdu {
  PduHeader header;
  le16 cid;
  le16 tag;     // of the transfer, the controller's; not in controller_data
  le32 offset;  // into the command's data
  le32 length;
  uint8_t reserved[4];
};
struct TerminationPdu {
  PduHeader header;
  le16 reason;  // TerminationReason
  le32 information;
  uint8_t reserved[10];
};
static_assert(sizeof(CommandPdu) == 72 && sizeof(ResponsePdu) == 24 && sizeof(DataPdu) == 24 &&
              sizeof(TerminationPdu) == 24 && std::has_unique_object_representations_v<DataPdu>);

enum class TerminationReason : uint16_t {
  invalid_header_field = 1,
  sequence_error = 2,
  header_digest_error = 3,
  data_out_of_range = 4,
  data_limit_exceeded = 5,
  unsupported_parameter = 6,
};
std::string_view termination_reason_name(uint16_t reason);

inline constexpr size_t kDigestBytes = 4;
// A command with both digests, up to its data, at the worst alignment (72 B).
inline constexpr size_t kMaxHeaderBytes = 144;
// In a termination, of the header it complains of.
inline constexpr size_t kMaxTerminationData = 128;
// What a command on an admin queue, and a fabrics command on any, may carry in its capsule.
inline constexpr uint32_t kAdminCapsuleData = 8192;

// What both sides agreed on.
struct ConnectionTerms {
  bool header_digest = false;
  bool data_digest = false;
  uint8_t host_data_alignment = 4;  // bytes
  uint32_t max_host_data = 0;       // bytes; 0: not said yet
};

// How a PDU is laid out that carries `data_bytes`.
struct PduLayout {
  uint32_t data_offset = 0;  // 0: no data
  uint32_t bytes = 0;        // in all
};
PduLayout lay_out(size_t header_bytes, size_t data_bytes, const ConnectionTerms& terms);

// What a termination tells its receiver of a PDU that broke the protocol, and what is logged of it.
struct PduFault {
  TerminationReason reason = TerminationReason::invalid_header_field;
  uint32_t information =
      0;  // invalid_header_field, unsupported_parameter: the field's offset in the PDU
  std::string what;
};

// Of a PDU a controller received: its header is `header`, the first eight bytes. `capsule_data`: bytes a command may
// carry. Nothing: it is right.
std::optional<PduFault> check_header_from_host(const PduHeader& header,
                                               const ConnectionTerms& terms, uint32_t capsule_data);
std::optional<PduFault> check_connection_request(const ConnectionRequest& request);

// Of a PDU a host received: its header is `header`, the first eight bytes. Errors: corruption, naming the field.
Status check_header_from_controller(const PduHeader& header, const ConnectionTerms& terms);
// corruption or unsupported, naming the field.
Status check_connection_response(const ConnectionResponse& response,
                                 const ConnectionRequest& request);
// How many bytes of data a PDU with that (checked) header has.
uint32_t data_bytes(const PduHeader& header, const ConnectionTerms& terms);

}  // namespace basalt::nvme::tcp
