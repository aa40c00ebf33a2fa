// NVMe/TCP's PDUs, byte by byte: how they are laid out, and which headers of a controller's are refused.
#include "wire/nvme/tcp_pdu.h"

#include <gtest/gtest.h>

namespace basalt::nvme::tcp {
namespace {

constexpr ConnectionTerms kPlain{.host_data_alignment = 4, .max_host_data = 4096};
constexpr ConnectionTerms kDigests{
    .header_digest = true, .data_digest = true, .host_data_alignment = 4, .max_host_data = 4096};

PduHeader header(PduType type, uint8_t flags, uint8_t header_bytes, uint8_t data_offset,
                 uint32_t bytes) {
  return {.type = static_cast<uint8_t>(type),
          .flags = flags,
          .header_bytes = header_bytes,
          .data_offset = data_offset,
          .bytes = bytes};
}

TEST(TcpPdu, LaysOutHeaderDigestPaddingDataDigest) {
  EXPECT_EQ(lay_out(72, 0, kPlain).bytes, 72u);
  EXPECT_EQ(lay_out(72, 0, kPlain).data_offset, 0u);
  EXPECT_EQ(lay_out(72, 100, kPlain).data_offset, 72u);
  EXPECT_EQ(lay_out(72, 100, kPlain).bytes, 172u);
  EXPECT_EQ(lay_out(72, 0, kDigests).bytes, 76u);
  EXPECT_EQ(lay_out(72, 100, kDigests).data_offset, 76u);
  EXPECT_EQ(lay_out(72, 100, kDigests).bytes, 180u);
  ConnectionTerms aligned = kDigests;
  aligned.host_data_alignment = 128;
  EXPECT_EQ(lay_out(72, 100, aligned).data_offset, 128u);
  EXPECT_EQ(lay_out(72, 100, aligned).bytes, 232u);
  EXPECT_EQ(lay_out(24, 1, aligned).data_offset, 128u);
}

TEST(TcpPdu, TakesWhatAControllerMaySend) {
  const auto ok = [](const PduHeader& h, const ConnectionTerms& terms) {
    const Status status = check_header_from_controller(h, terms);
    return status.ok() ? std::string() : status.to_string();
  };
  EXPECT_EQ(ok(header(PduType::response, 0, 24, 0, 24), kPlain), "");
  EXPECT_EQ(ok(header(PduType::response, kHeaderDigest, 24, 0, 28), kDigests), "");
  EXPECT_EQ(ok(header(PduType::controller_data, kLastData | kSuccess, 24, 24, 24 + 512), kPlain),
            "");
  EXPECT_EQ(ok(header(PduType::controller_data, kHeaderDigest | kDataDigest, 24, 28, 28 + 512 + 4),
               kDigests),
            "");
  EXPECT_EQ(ok(header(PduType::ready_to_transfer, 0, 24, 0, 24), kPlain), "");
  EXPECT_EQ(ok(header(PduType::controller_termination, 0, 24, 0, 24), kDigests), "");
  EXPECT_EQ(ok(header(PduType::controller_termination, 0, 24, 24, 24 + 72), kDigests), "");
  EXPECT_EQ(data_bytes(header(PduType::controller_data, 0, 24, 32, 32 + 512), kPlain), 512u);
  EXPECT_EQ(data_bytes(
                header(PduType::controller_data, kHeaderDigest | kDataDigest, 24, 28, 28 + 512 + 4),
                kDigests),
            512u);
}

TEST(TcpPdu, RefusesWhatNoControllerSends) {
  struct Case {
    PduHeader header;
    ConnectionTerms terms;
    const char* said;
  };
  const Case cases[] = {
      {header(PduType::command, 0, 72, 0, 72), kPlain, "type 4, which no controller sends"},
      {header(static_cast<PduType>(0xff), 0, 24, 0, 24), kPlain, "type 255"},
      {header(PduType::response, 0, 23, 0, 24), kPlain, "a header of 23 B, not 24"},
      {header(PduType::response, 0, 24, 0, 25), kPlain, "a length of 25 B, not 24"},
      {header(PduType::response, 0, 24, 0, 0), kPlain, "a length of 0 B"},
      {header(PduType::response, kLastData, 24, 0, 24), kPlain, "reserved flags"},
      {header(PduType::response, kHeaderDigest, 24, 0, 28), kPlain, "not agreed on"},
      {header(PduType::response, 0, 24, 0, 24), kDigests, "without the header digest"},
      {header(PduType::controller_data, kHeaderDigest, 24, 28, 1000), kDigests,
       "without the data digest"},
      {header(PduType::controller_data, kDataDigest, 24, 24, 1000), kPlain,
       "with a data digest not agreed on"},
      {header(PduType::controller_data, 0, 24, 23, 1000), kPlain, "begins at 23"},
      {header(PduType::controller_data, 0, 24, 24, 24), kPlain, "no room for data"},
      {header(PduType::controller_data, kHeaderDigest | kDataDigest, 24, 28, 32), kDigests,
       "no room for data"},
      {header(PduType::controller_data, kSuccess, 24, 24, 1000), kPlain, "not the last"},
      {header(PduType::ready_to_transfer, 0, 24, 0, 28), kPlain, "a length of 28 B"},
      {header(PduType::controller_termination, 0, 24, 0, 24 + 129), kPlain, "a length of 153 B"},
      {header(PduType::connection_response, 0, 128, 0, 127), kPlain, "a length of 127 B"},
  };
  for (const Case& c : cases) {
    const Status status = check_header_from_controller(c.header, c.terms);
    EXPECT_EQ(status.code(), StatusCode::corruption) << c.said;
    EXPECT_NE(status.to_string().find(c.said), std::string::npos) << status.to_string();
  }
}

TEST(TcpPdu, RefusesTermsNobodyCanKeep) {
  ConnectionRequest request{};
  request.digests = kUseDataDigest;
  ConnectionResponse response{};
  response.max_host_data = 4096;
  EXPECT_TRUE(check_connection_response(response, request).ok());
  response.format_version = 1;
  EXPECT_EQ(check_connection_response(response, request).code(), StatusCode::unsupported);
  response.format_version = 0;
  response.digests = kUseHeaderDigest;
  EXPECT_EQ(check_connection_response(response, request).code(), StatusCode::corruption);
  response.digests = kUseDataDigest;
  response.data_alignment = 32;
  EXPECT_EQ(check_connection_response(response, request).code(), StatusCode::corruption);
  response.data_alignment = 31;
  response.max_host_data = 4092;
  EXPECT_EQ(check_connection_response(response, request).code(), StatusCode::corruption);
  response.max_host_data = 4098;
  EXPECT_EQ(check_connection_response(response, request).code(), StatusCode::corruption);
}

// What a controller says of a host's header: "" when it is right, else the reason and the field's offset.
std::string verdict(const PduHeader& h, const ConnectionTerms& terms,
                    uint32_t capsule_data = 8192) {
  const auto fault = check_header_from_host(h, terms, capsule_data);
  if (!fault) return "";
  EXPECT_FALSE(fault->what.empty());
  return std::to_string(static_cast<int>(fault->reason)) + "@" + std::to_string(fault->information);
}

TEST(TcpPdu, TakesWhatAHostMaySend) {
  EXPECT_EQ(verdict(header(PduType::connection_request, 0, 128, 0, 128), kPlain), "");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 0, 72), kPlain), "");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 72, 72 + 8192), kPlain), "");
  EXPECT_EQ(verdict(header(PduType::command, kHeaderDigest, 72, 0, 76), kDigests), "");
  EXPECT_EQ(verdict(header(PduType::command, kHeaderDigest | kDataDigest, 72, 76, 76 + 512 + 4),
                    kDigests),
            "");
  EXPECT_EQ(verdict(header(PduType::host_data, kLastData, 24, 24, 24 + 4096), kPlain), "");
  EXPECT_EQ(verdict(header(PduType::host_termination, 0, 24, 0, 24 + 128), kDigests), "");
  EXPECT_EQ(data_bytes(header(PduType::command, 0, 72, 0, 72), kPlain), 0u);
  EXPECT_EQ(data_bytes(header(PduType::command, kHeaderDigest, 72, 0, 76), kDigests), 0u);
  EXPECT_EQ(data_bytes(header(PduType::command, kHeaderDigest | kDataDigest, 72, 80, 80 + 512 + 4),
                       kDigests),
            512u);
  EXPECT_EQ(data_bytes(header(PduType::host_data, 0, 24, 24, 24 + 100), kPlain), 100u);
  EXPECT_EQ(data_bytes(header(PduType::host_termination, 0, 24, 0, 24 + 72), kPlain), 72u);
}

TEST(TcpPdu, RefusesWhatNoHostSends) {
  EXPECT_EQ(verdict(header(PduType::response, 0, 24, 0, 24), kPlain), "1@0");
  EXPECT_EQ(verdict(header(static_cast<PduType>(0xff), 0, 24, 0, 24), kPlain), "1@0");
  EXPECT_EQ(verdict(header(PduType::command, 0, 71, 0, 72), kPlain), "1@2");
  EXPECT_EQ(verdict(header(PduType::command, kSuccess, 72, 0, 72), kPlain), "1@1");
  EXPECT_EQ(verdict(header(PduType::command, kLastData, 72, 0, 72), kPlain), "1@1");
  EXPECT_EQ(verdict(header(PduType::command, kHeaderDigest, 72, 0, 76), kPlain), "1@1");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 0, 72), kDigests), "1@1");
  EXPECT_EQ(verdict(header(PduType::command, kHeaderDigest | kDataDigest, 72, 0, 76), kDigests),
            "1@1");
  EXPECT_EQ(verdict(header(PduType::command, kHeaderDigest, 72, 76, 76 + 512 + 4), kDigests),
            "1@1");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 71, 72 + 512), kPlain), "1@3");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 74, 74 + 512), kPlain), "1@3");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 72, 71), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 76, 76), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 72, 72 + 8193), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::command, 0, 72, 72, 0xffff'ffff), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::host_data, 0, 24, 24, 24), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::host_data, 0, 24, 24, 24 + 4097), kPlain), "5@0");
  EXPECT_EQ(verdict(header(PduType::connection_request, 0, 128, 0, 129), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::host_termination, 0, 24, 0, 24 + 129), kPlain), "1@4");
  EXPECT_EQ(verdict(header(PduType::host_termination, 0, 24, 0, 23), kPlain), "1@4");
}

TEST(TcpPdu, ChecksWhatAHostAsksFor) {
  ConnectionRequest request{};
  request.header = header(PduType::connection_request, 0, 128, 0, 128);
  request.digests = kUseHeaderDigest | kUseDataDigest;
  request.data_alignment = 31;
  EXPECT_FALSE(check_connection_request(request));
  request.data_alignment = 32;
  EXPECT_EQ(check_connection_request(request)->information, 10u);
  request.data_alignment = 0;
  request.digests = 4;
  EXPECT_EQ(check_connection_request(request)->information, 11u);
  request.digests = 0;
  request.format_version = 1;
  EXPECT_EQ(check_connection_request(request)->reason, TerminationReason::unsupported_parameter);
  EXPECT_EQ(check_connection_request(request)->information, 8u);
}

}  // namespace
}  // namespace basalt::nvme::tcp
