// See tcp_pdu.h.
#include "wire/nvme/tcp_pdu.h"

#include <cstddef>

namespace basalt::nvme::tcp {

namespace {

// What each kind of PDU a controller sends looks like.
struct Shape {
  uint8_t header_bytes;
  uint8_t flags;  // that may be set
  bool has_data;  // that may follow
};

bool shape_of(PduType type, Shape& shape) {
  switch (type) {
    case PduType::connection_response: shape = {sizeof(ConnectionResponse), 0, false}; return true;
    case PduType::controller_termination: shape = {sizeof(TerminationPdu), 0, true}; return true;
    case PduType::response: shape = {sizeof(ResponsePdu), kHeaderDigest, false}; return true;
    case PduType::controller_data:
      shape = {sizeof(DataPdu), kHeaderDigest | kDataDigest | kLastData | kSuccess, true};
      return true;
    case PduType::ready_to_transfer: shape = {sizeof(DataPdu), kHeaderDigest, false}; return true;
    default: return false;
  }
}

std::string of_pdu(const PduHeader& header, const std::string& what) {
  return std::string(pdu_name(static_cast<PduType>(header.type))) + ": " + what;
}

Status wrong(const PduHeader& header, const std::string& what) {
  return {StatusCode::corruption, of_pdu(header, what)};
}

// And a host.
bool shape_of_host(PduType type, Shape& shape) {
  switch (type) {
    case PduType::connection_request: shape = {sizeof(ConnectionRequest), 0, false}; return true;
    case PduType::host_termination: shape = {sizeof(TerminationPdu), 0, true}; return true;
    case PduType::command:
      shape = {sizeof(CommandPdu), kHeaderDigest | kDataDigest, true};
      return true;
    case PduType::host_data:
      shape = {sizeof(DataPdu), kHeaderDigest | kDataDigest | kLastData, true};
      return true;
    default: return false;
  }
}

PduFault bad_field(size_t offset, const std::string& what) {
  return {TerminationReason::invalid_header_field, static_cast<uint32_t>(offset), what};
}

// How long a PDU may be that has no data to be checked by its own limits.
std::optional<PduFault> check_length(const PduHeader& header, size_t least, size_t most) {
  if (header.bytes >= least && header.bytes <= most) return {};
  return bad_field(offsetof(PduHeader, bytes),
                   of_pdu(header, "a length of " + std::to_string(header.bytes) + " B, not " +
                                      std::to_string(least)));
}

}  // namespace

std::string_view pdu_name(PduType type) {
  switch (type) {
    case PduType::connection_request: return "connection request";
    case PduType::connection_response: return "connection response";
    case PduType::host_termination: return "host's termination";
    case PduType::controller_termination: return "controller's termination";
    case PduType::command: return "command capsule";
    case PduType::response: return "response capsule";
    case PduType::host_data: return "host's data";
    case PduType::controller_data: return "controller's data";
    case PduType::ready_to_transfer: return "ready to transfer";
  }
  return "unknown PDU";
}

std::string_view termination_reason_name(uint16_t reason) {
  switch (static_cast<TerminationReason>(reason)) {
    case TerminationReason::invalid_header_field: return "invalid field in a PDU's header";
    case TerminationReason::sequence_error: return "PDU out of sequence";
    case TerminationReason::header_digest_error: return "header digest error";
    case TerminationReason::data_out_of_range: return "data out of range";
    case TerminationReason::data_limit_exceeded: return "limit of data or of transfers exceeded";
    case TerminationReason::unsupported_parameter: return "unsupported parameter";
  }
  return "unknown reason";
}

PduLayout lay_out(size_t header_bytes, size_t data_bytes, const ConnectionTerms& terms) {
  PduLayout layout;
  layout.bytes = static_cast<uint32_t>(header_bytes + (terms.header_digest ? kDigestBytes : 0));
  if (data_bytes == 0) return layout;
  const uint32_t unit = terms.host_data_alignment;
  layout.data_offset = (layout.bytes + unit - 1) / unit * unit;
  layout.bytes = layout.data_offset +
                 static_cast<uint32_t>(data_bytes + (terms.data_digest ? kDigestBytes : 0));
  return layout;
}

Status check_header_from_controller(const PduHeader& header, const ConnectionTerms& terms) {
  Shape shape;
  if (!shape_of(static_cast<PduType>(header.type), shape)) {
    return {StatusCode::corruption,
            "a PDU of type " + std::to_string(header.type) + ", which no controller sends"};
  }
  if (header.header_bytes != shape.header_bytes) {
    return wrong(header, "a header of " + std::to_string(header.header_bytes) + " B, not " +
                             std::to_string(shape.header_bytes));
  }
  if ((header.flags & ~shape.flags) != 0) {
    return wrong(header, "reserved flags are set: " + std::to_string(header.flags));
  }
  const bool takes_digest = (shape.flags & kHeaderDigest) != 0;
  if (takes_digest && ((header.flags & kHeaderDigest) != 0) != terms.header_digest) {
    return wrong(header, terms.header_digest ? "without the header digest agreed on"
                                             : "with a header digest not agreed on");
  }
  const size_t before_data =
      header.header_bytes + (takes_digest && terms.header_digest ? kDigestBytes : 0);
  if (!shape.has_data || static_cast<PduType>(header.type) == PduType::controller_termination) {
    const size_t longest = before_data + (shape.has_data ? kMaxTerminationData : 0);
    if (header.bytes < before_data || header.bytes > longest) {
      return wrong(header, "a length of " + std::to_string(header.bytes) + " B, not " +
                               std::to_string(before_data));
    }
    return {};
  }
  if (((header.flags & kDataDigest) != 0) != terms.data_digest) {
    return wrong(header, terms.data_digest ? "without the data digest agreed on"
                                           : "with a data digest not agreed on");
  }
  if (header.data_offset < before_data) {
    return wrong(header, "its data begins at " + std::to_string(header.data_offset) +
                             ", within its header of " + std::to_string(before_data) + " B");
  }
  const size_t least = header.data_offset + (terms.data_digest ? kDigestBytes : 0) + 1;
  if (header.bytes < least) {
    return wrong(header, "a length of " + std::to_string(header.bytes) + " B has no room for data");
  }
  if ((header.flags & kSuccess) != 0 && (header.flags & kLastData) == 0) {
    return wrong(header, "it stands for the response but is not the last");
  }
  return {};
}

std::optional<PduFault> check_header_from_host(const PduHeader& header,
                                               const ConnectionTerms& terms,
                                               uint32_t capsule_data) {
  const auto type = static_cast<PduType>(header.type);
  Shape shape;
  if (!shape_of_host(type, shape)) {
    return bad_field(offsetof(PduHeader, type),
                     "a PDU of type " + std::to_string(header.type) + ", which no host sends");
  }
  if (header.header_bytes != shape.header_bytes) {
    return bad_field(offsetof(PduHeader, header_bytes),
                     of_pdu(header, "a header of " + std::to_string(header.header_bytes) +
                                        " B, not " + std::to_string(shape.header_bytes)));
  }
  const auto bad_flags = [&](const std::string& what) {
    return bad_field(offsetof(PduHeader, flags), of_pdu(header, what));
  };
  if ((header.flags & ~shape.flags) != 0) {
    return bad_flags("reserved flags are set: " + std::to_string(header.flags));
  }
  if (type == PduType::connection_request) {
    return check_length(header, sizeof(ConnectionRequest), sizeof(ConnectionRequest));
  }
  if (type == PduType::host_termination) {
    return check_length(header, sizeof(TerminationPdu),
                        sizeof(TerminationPdu) + kMaxTerminationData);
  }
  if (((header.flags & kHeaderDigest) != 0) != terms.header_digest) {
    return bad_flags(terms.header_digest ? "without the header digest agreed on"
                                         : "with a header digest not agreed on");
  }
  const size_t before_data = header.header_bytes + (terms.header_digest ? kDigestBytes : 0);
  if (type == PduType::command && header.bytes == before_data) {
    if ((header.flags & kDataDigest) != 0) return bad_flags("a data digest, but no data");
    return {};
  }
  if (((header.flags & kDataDigest) != 0) != terms.data_digest) {
    return bad_flags(terms.data_digest ? "without the data digest agreed on"
                                       : "with a data digest not agreed on");
  }
  if (header.data_offset < before_data || header.data_offset % 4 != 0) {
    return bad_field(offsetof(PduHeader, data_offset),
                     of_pdu(header, "its data begins at " + std::to_string(header.data_offset) +
                                        "; its header ends at " + std::to_string(before_data)));
  }
  const size_t around_data = header.data_offset + (terms.data_digest ? kDigestBytes : 0);
  const size_t limit = type == PduType::command ? capsule_data : terms.max_host_data;
  if (header.bytes <= around_data) return check_length(header, around_data + 1, SIZE_MAX);
  if (header.bytes - around_data <= limit) return {};
  const std::string too_much =
      of_pdu(header, std::to_string(header.bytes - around_data) + " B of data; at most " +
                         std::to_string(limit) + " were agreed on");
  if (type == PduType::command) return bad_field(offsetof(PduHeader, bytes), too_much);
  return PduFault{TerminationReason::data_limit_exceeded, 0, too_much};
}

std::optional<PduFault> check_connection_request(const ConnectionRequest& request) {
  const auto unsupported = [&](size_t offset, const std::string& what) {
    return PduFault{TerminationReason::unsupported_parameter, static_cast<uint32_t>(offset),
                    of_pdu(request.header, what)};
  };
  if (request.format_version != kFormatVersion) {
    return unsupported(offsetof(ConnectionRequest, format_version),
                       "PDU format version " + std::to_string(request.format_version) + ", not 0");
  }
  if (request.data_alignment > 31) {
    return bad_field(
        offsetof(ConnectionRequest, data_alignment),
        of_pdu(request.header,
               "data alignment " + std::to_string(request.data_alignment) + "; 31 is the most"));
  }
  if ((request.digests & ~(kUseHeaderDigest | kUseDataDigest)) != 0) {
    return bad_field(
        offsetof(ConnectionRequest, digests),
        of_pdu(request.header, "reserved bits in the digests: " + std::to_string(request.digests)));
  }
  return {};
}

Status check_connection_response(const ConnectionResponse& response,
                                 const ConnectionRequest& request) {
  if (response.format_version != kFormatVersion) {
    return {StatusCode::unsupported, "connection response: PDU format version " +
                                         std::to_string(response.format_version) + ", not 0"};
  }
  if (response.data_alignment > 31) {
    return wrong(response.header,
                 "data alignment " + std::to_string(response.data_alignment) + "; 31 is the most");
  }
  if ((response.digests & ~request.digests) != 0) {
    return wrong(response.header,
                 "it turns on digests nobody asked for: " + std::to_string(response.digests));
  }
  if (response.max_host_data < 4096 || response.max_host_data % 4 != 0) {
    return wrong(response.header, "it takes " + std::to_string(response.max_host_data) +
                                      " B of data in a PDU; 4096 is the least, in steps of 4");
  }
  return {};
}

uint32_t data_bytes(const PduHeader& header, const ConnectionTerms& terms) {
  const auto type = static_cast<PduType>(header.type);
  if (type == PduType::controller_termination || type == PduType::host_termination) {
    return header.bytes - header.header_bytes;
  }
  if (type != PduType::controller_data && type != PduType::host_data && type != PduType::command) {
    return 0;
  }
  // A capsule without data has no digest of it either.
  if (header.bytes == header.header_bytes + (terms.header_digest ? kDigestBytes : 0)) return 0;
  return static_cast<uint32_t>(header.bytes - header.data_offset -
                               (terms.data_digest ? kDigestBytes : 0));
}

}  // namespace basalt::nvme::tcp
