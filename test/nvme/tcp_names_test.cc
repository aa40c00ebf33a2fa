// Names and addresses a user gives: targets, hosts, NQNs.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "nvme/tcp/host_identity.h"
#include "nvme/tcp/socket.h"

namespace basalt::nvme {
namespace {

std::string parsed(std::string_view text) {
  const auto address = TcpAddress::parse(text, 4420);
  return address ? address->to_string() : address.error().to_string();
}

TEST(TcpAddress, HasAHostAndAPort) {
  EXPECT_EQ(parsed("10.0.0.1"), "10.0.0.1:4420");
  EXPECT_EQ(parsed("storage.example.org:8009"), "storage.example.org:8009");
  EXPECT_EQ(parsed("[fe80::1%eth0]:99"), "[fe80::1%eth0]:99");
  EXPECT_EQ(parsed("[::1]"), "[::1]:4420");
}

TEST(TcpAddress, SaysWhatIsWrong) {
  for (const char* text : {"", ":4420", "host:", "host:0", "host:65536", "host:1x", "fe80::1",
                           "[::1", "[::1]4420", "[]:1"}) {
    const auto address = TcpAddress::parse(text, 4420);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code(), StatusCode::invalid_argument);
    EXPECT_NE(address.error().to_string().find("expected HOST"), std::string::npos);
  }
}

TEST(HostIdentity, IsWhatTheFilesSay) {
  const std::string directory = testing::TempDir() + "basalt-host-identity";
  std::filesystem::create_directories(directory);
  std::ofstream(directory + "/hostnqn") << "nqn.2014-08.org.example:host\n";
  std::ofstream(directory + "/hostid") << "9b1c5a3e-0f5e-4c39-9d53-5a7e3b1f2c4d\n";
  const auto identity = HostIdentity::of_this_host(directory);
  ASSERT_TRUE(identity);
  EXPECT_EQ(identity->nqn, "nqn.2014-08.org.example:host");
  EXPECT_EQ(identity->id[0], 0x9b);
  EXPECT_EQ(identity->id[15], 0x4d);
  std::ofstream(directory + "/hostid") << "9b1c5a3e-0f5e\n";
  const auto wrong = HostIdentity::of_this_host(directory);
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().to_string().find("hostid"), std::string::npos);
  std::filesystem::remove_all(directory);
  const auto made_up = HostIdentity::of_this_host(directory);
  ASSERT_TRUE(made_up);
  EXPECT_TRUE(made_up->nqn.starts_with("nqn.2014-08.org.nvmexpress:uuid:"));
  EXPECT_EQ(made_up->nqn.size(), 32u + 36);
}

TEST(HostIdentity, KnowsAUuid) {
  EXPECT_TRUE(parse_uuid("9b1c5a3e0f5e4c399d535a7e3b1f2c4d"));
  EXPECT_TRUE(parse_uuid("9B1C5A3E-0F5E-4C39-9D53-5A7E3B1F2C4D"));
  for (const char* text :
       {"", "9", "9b1c5a3e-0f5e-4c39-9d53-5a7e3b1f2c4", "-", "zz",
        "9b1c5a3e-0f5e-4c39-9d53-5a7e3b1f2c4d0", "9b1c5a3e-0f5e-4c39-9d53-5a7e3b1f2c4g"}) {
    EXPECT_FALSE(parse_uuid(text)) << text;
  }
}

}  // namespace
}  // namespace basalt::nvme
