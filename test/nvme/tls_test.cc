// TLS of NVMe/TCP: keys and identities against vectors of others, connections with a target that has the same key, an
// older idea of identities, another key or none, and the end of connections.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nvme/commands.h"
#include "nvme/tcp_host.h"

namespace basalt::nvme {
namespace {

using auth::IdentityVersion;
using auth::TlsKey;

// Keys and identities as libnvme's own tests have them (test/psk.c).
constexpr const char* kKey = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* kRetainedKey =
    "NVMeTLSkey-1:00:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* kLongKey =
    "NVMeTLSkey-1:02:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwP/w0S89ELi3W2LxIcLXVsDn8kXZQ==:";

std::string identity_of(const char* key, IdentityVersion version) {
  const auto psk = TlsKey::parse(key)->derive("nqn.psk-test-host", "nqn.psk-test-subsys", version);
  return psk ? psk->identity : psk.error().to_string();
}

TEST(TlsKeys, HaveTheIdentitiesOthersGiveThem) {
  EXPECT_EQ(identity_of(kKey, IdentityVersion::names_and_digest),
            "NVMe1R01 nqn.psk-test-host nqn.psk-test-subsys "
            "iSbjiStwJ/1TrTvDlt2fjFmzvsytOJelidNnA+X5lEU=");
  EXPECT_EQ(identity_of(kLongKey, IdentityVersion::names_and_digest),
            "NVMe1R02 nqn.psk-test-host nqn.psk-test-subsys "
            "QhW2+Rp6RzHlNtCslyRxMnwJ11tKKhz8JCAQpQ+XUD8f9td1VeH5h53yz2wKJG1a");
  EXPECT_EQ(identity_of(kKey, IdentityVersion::names),
            "NVMe0R01 nqn.psk-test-host nqn.psk-test-subsys");
}

// Computed with Python's hmac from the formulas of RFC 5869 and RFC 8446.
TEST(TlsKeys, BecomeTheKeysOfTls) {
  const auto key_of = [](const char* key, IdentityVersion version) {
    const auto psk =
        TlsKey::parse(key)->derive("nqn.psk-test-host", "nqn.psk-test-subsys", version);
    std::string text;
    for (const uint8_t byte : psk->key) {
      char digits[3];
      std::snprintf(digits, sizeof digits, "%02x", byte);
      text += digits;
    }
    return text;
  };
  EXPECT_EQ(key_of(kKey, IdentityVersion::names),
            "05c6503551ad136e6ee32e6eeb3f6d500b69701d84ec71e328f65c7f51566f68");
  EXPECT_EQ(key_of(kKey, IdentityVersion::names_and_digest),
            "8fc3c0badfd4c0c66fa3ca33aadd0314f85536cc9bc47338b60f3e6e563786ca");
  EXPECT_EQ(
      key_of(kLongKey, IdentityVersion::names_and_digest),
      "a2b2f943f479fc682555cec89857c80ed004ce92f32a973d5764155bb7e36b17a85368a0666d250afac9282dda"
      "2e62ca");
}

TEST(TlsKeys, ThatAreRetainedAlreadyAreTakenAsTheyAre) {
  const auto configured = TlsKey::parse(kKey)->derive("h", "s", IdentityVersion::names);
  const auto retained = TlsKey::parse(kRetainedKey)->derive("h", "s", IdentityVersion::names);
  EXPECT_EQ(configured->identity, retained->identity);
  EXPECT_NE(configured->key, retained->key);
  EXPECT_EQ(retained->key.size(), 32u);
}

TEST(TlsKeys, SayWhatIsWrongAndNotWhatTheyAre) {
  const std::string good = kKey;
  struct Wrong {
    std::string text;
    const char* said;
  };
  std::string changed = good;
  changed[20] = changed[20] == 'A' ? 'B' : 'A';
  const Wrong all[] = {
      {"", "begins with NVMeTLSkey-1:"},
      {"DHHC-1:00:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:", "begins with"},
      {good.substr(0, good.size() - 1), "ends with a colon"},
      {"NVMeTLSkey-1:03:" + good.substr(16), "00 to 02"},
      {"NVMeTLSkey-1:02:" + good.substr(16), "32 bytes with 01, 48 with 02"},
      {"NVMeTLSkey-1:01:VRLb:", "32, 48 or 64 bytes"},
      {"NVMeTLSkey-1:01:" + std::string(16, '!') + ":", "base64"},
      {changed, "check sum"},
  };
  for (const Wrong& wrong : all) {
    const auto parsed = TlsKey::parse(wrong.text);
    ASSERT_FALSE(parsed) << wrong.text;
    EXPECT_EQ(parsed.error().code(), StatusCode::invalid_argument);
    EXPECT_NE(parsed.error().to_string().find(wrong.said), std::string::npos)
        << parsed.error().to_string();
    EXPECT_EQ(parsed.error().to_string().find(good.substr(24, 16)), std::string::npos);
  }
}

TEST(TlsKeys, NamesTooLongForTheOlderIdentityAreRefused) {
  const std::string host(200, 'h'), subsystem(46, 's');
  const auto key = TlsKey::parse(kKey);
  EXPECT_TRUE(key->derive(host, subsystem.substr(1), IdentityVersion::names));
  const auto refused = key->derive(host, subsystem, IdentityVersion::names);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::unsupported);
  EXPECT_TRUE(key->derive(host, subsystem, IdentityVersion::names_and_digest));
}

class Tls : public TcpHost {
 protected:
  // A host with `key`, a target that knows it by `version`.
  void start_with(const char* key, IdentityVersion version = IdentityVersion::names_and_digest,
                  TcpTargetOptions options = {}, bool digests = false) {
    tls_key = *TlsKey::parse(key);
    options.tls = *tls_key->derive(kHostNqn, kSubsystemNqn, version);
    start(options, digests);
  }
  void write_and_read(uint32_t blocks) {
    std::vector<std::byte> data = pattern(blocks * 4096, blocks), back(data.size());
    EXPECT_EQ(run(write_command(1, 8, blocks), data), StatusCode::ok);
    EXPECT_EQ(run(read_command(1, 8, blocks), back), StatusCode::ok);
    EXPECT_TRUE(back == data);
    EXPECT_TRUE(target->read(8, blocks) == data);
  }
};

TEST_F(Tls, CarriesDataBothWays) {
  start_with(kKey);
  for (const uint32_t blocks : {1u, 2u, 16u, 32u}) write_and_read(blocks);
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok);
  EXPECT_EQ(controller->reset_count(), 0u) << log.text();
}

TEST_F(Tls, CarriesDigestsAndTransfersInPieces) {
  start_with(kLongKey, IdentityVersion::names_and_digest,
             {.capsule_data = 0, .max_host_data = 5000, .transfer = 12288, .data_pdu = 1000}, true);
  for (const uint32_t blocks : {1u, 3u, 32u}) write_and_read(blocks);
}

TEST_F(Tls, ManyCommandsAtOnce) {
  start_with(kKey);
  constexpr unsigned kCommands = 200, kBlocks = 16;
  std::vector<std::vector<std::byte>> data;
  std::vector<std::unique_ptr<Waited>> all;
  for (unsigned i = 0; i < kCommands; ++i) {
    data.push_back(pattern(kBlocks * 4096, i));
    all.push_back(
        std::make_unique<Waited>(write_command(1, uint64_t{i} * kBlocks, kBlocks), data[i]));
    queue->submit(all.back()->request);
  }
  for (const auto& write : all) {
    ASSERT_TRUE(wait(*write));
    EXPECT_EQ(write->request.status, StatusCode::ok);
  }
  std::vector<std::vector<std::byte>> back(kCommands, std::vector<std::byte>(kBlocks * 4096));
  std::vector<std::unique_ptr<Waited>> reads;
  for (unsigned i = 0; i < kCommands; ++i) {
    reads.push_back(
        std::make_unique<Waited>(read_command(1, uint64_t{i} * kBlocks, kBlocks), back[i]));
    queue->submit(reads.back()->request);
  }
  for (const auto& read : reads) ASSERT_TRUE(wait(*read));
  EXPECT_TRUE(back == data);
  EXPECT_EQ(controller->reset_count(), 0u) << log.text();
}

TEST_F(Tls, KeysAreReplacedOnTheWay) {
  start_with(kKey);
  write_and_read(4);
  target->faults.update_keys = 3;
  for (int i = 0; i < 4; ++i) write_and_read(8);
  EXPECT_EQ(target->faults.update_keys, 0);
  EXPECT_EQ(controller->reset_count(), 0u) << log.text();
}

TEST_F(Tls, TheOlderIdentityIsTriedWhereTheNewerIsNotKnown) {
  start_with(kKey, IdentityVersion::names);
  write_and_read(2);
  const uint64_t before = target->connections();
  ASSERT_TRUE(controller->open_queue_pair());
  EXPECT_EQ(target->connections(), before + 1) << "it is known by now";
}

TEST_F(Tls, AnotherKeyIsRefused) {
  TcpTargetOptions options;
  options.tls = *TlsKey::parse(kKey)->derive(kHostNqn, kSubsystemNqn, IdentityVersion::names);
  options.tls->key[0] ^= 1;
  target = std::make_unique<TcpTarget>(options);
  tls_key = *TlsKey::parse(kKey);
  const Status refused = open(tcp_options());
  EXPECT_EQ(refused.code(), StatusCode::permission_denied) << refused.to_string();
  EXPECT_NE(refused.to_string().find("TLS handshake"), std::string::npos) << refused.to_string();
  EXPECT_EQ(target->commands(), 0u);
}

TEST_F(Tls, ATargetWithoutItIsRefused) {
  target = std::make_unique<TcpTarget>();
  tls_key = *TlsKey::parse(kKey);
  const Status refused = open(tcp_options());
  EXPECT_EQ(refused.code(), StatusCode::io_error) << refused.to_string();
  EXPECT_NE(refused.to_string().find("does the target do TLS on this port"), std::string::npos)
      << refused.to_string();
}

TEST_F(Tls, AHostWithoutItIsToldWhatMayBeMissing) {
  TcpTargetOptions options;
  options.tls = *TlsKey::parse(kKey)->derive(kHostNqn, kSubsystemNqn, IdentityVersion::names);
  target = std::make_unique<TcpTarget>(options);
  const Status refused = open(tcp_options());
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.to_string().find("it may want TLS"), std::string::npos) << refused.to_string();
}

TEST_F(Tls, LostConnectionsAreMendedAndNothingIsLost) {
  start_with(kKey);
  std::atomic<bool> over{false};
  std::thread trouble([&] {
    while (!over) {
      std::this_thread::sleep_for(700ms);
      target->drop_connections();
    }
  });
  const auto end = std::chrono::steady_clock::now() + 6s;
  unsigned rounds = 0;
  for (; std::chrono::steady_clock::now() < end; ++rounds) write_and_read(1 + rounds % 32);
  over = true;
  trouble.join();
  write_and_read(32);
  EXPECT_GE(controller->reset_count(), 1u);
  EXPECT_GT(rounds, 2u);
}

// It is coming up, or going down: nothing that lasts.
TEST_F(Tls, AHandshakeThatIsCutOffIsTriedAgain) {
  start_with(kKey);
  write_and_read(2);
  target->faults.close_in_handshake = 3;
  target->drop_connections();
  write_and_read(4);
  EXPECT_EQ(target->faults.close_in_handshake, 0);
  EXPECT_TRUE(logged("the controller has closed the connection")) << log.text();
}

TEST_F(Tls, WhatBreaksTheProtocolEndsTheConnectionHereToo) {
  start_with(kKey, IdentityVersion::names_and_digest, {}, true);
  write_and_read(2);
  target->faults.wrong_header_digest = 1;
  write_and_read(2);
  EXPECT_GE(controller->reset_count(), 1u);
  EXPECT_TRUE(logged("digest is wrong")) << log.text();
  EXPECT_GE(target->terminations(), 1u) << "told why";
}

}  // namespace
}  // namespace basalt::nvme
