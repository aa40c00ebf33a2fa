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

}  // namespace
}  // namespace basalt::nvme::tcp
