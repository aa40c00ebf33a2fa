// Hosts that come through TLS: Basalt's own host against the target, and raw ones that do it wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "bdev/nvme/nvme_device.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/host_commands.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"
#include "wire/nvme/tls/offered_identities.h"

namespace basalt {
namespace {

constexpr const char* kTlsHost = "nqn.2014-08.org.example:host";
constexpr const char* kKey = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* kLongKey =
    "NVMeTLSkey-1:02:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwP/w0S89ELi3W2LxIcLXVsDn8kXZQ==:";
constexpr const char* kDhchapSecret = "DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:";

nvme::auth::TlsPsk psk_of(
    const char* key, std::string_view nqn,
    nvme::auth::IdentityVersion version = nvme::auth::IdentityVersion::names_and_digest) {
  const auto parsed = nvme::auth::TlsKey::parse(key);
  const auto psk = parsed->derive(kTlsHost, nqn, version);
  EXPECT_TRUE(psk) << psk.error().to_string();
  return *psk;
}

class NvmfTls : public testing::Test {
 protected:
  NvmfTls() : served_({"ram:16M"}, 2, {}, &log_) {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    served_.expect_ok(served_.target->allow_any_host(ServedTarget::kNqn, false));
    plain_ = served_.address;
    const auto listener =
        served_.target->add_listener(ServedTarget::kNqn, {"127.0.0.1", "0"}, nvmf::Security::tls);
    EXPECT_TRUE(listener) << listener.error().to_string();
    if (listener) served_.address = *listener;
  }
  ~NvmfTls() override { std::filesystem::remove_all(directory_); }

  void let_in(const char* key, bool authenticates = false) {
    nvmf::HostKeys keys;
    keys.tls.emplace(*nvme::auth::TlsKey::parse(key));
    if (authenticates) {
      auto secret = nvme::auth::Secret::parse(kDhchapSecret);
      keys.secrets.emplace(nvmf::HostSecrets{std::move(*secret), {}});
    }
    served_.expect_ok(served_.target->add_host(ServedTarget::kNqn, kTlsHost, keys));
  }
  std::string file(const std::string& name, const char* key) {
    std::ofstream(directory_ + "/" + name) << key << "\n";
    return directory_ + "/" + name;
  }
  // Writes and reads back, 128 KiB at a time, 32 at once; "" or why not.
  std::string use(const std::string& keys) {
    ContextOptions options;
    options.log = &log_;
    auto context = std::move(*Context::create(options));
    register_nvme_scheme(*context);
    auto device =
        open_device(*context, served_.uri(1, std::string("?hostnqn=") + kTlsHost + "&" + keys));
    if (!device) return device.error().to_string();
    auto channel = std::move(*(*device)->open_channel());
    constexpr size_t kBytes = 128 * 1024, kAtOnce = 32;
    std::vector<std::byte> written(kBytes * kAtOnce), read(kBytes * kAtOnce);
    for (size_t i = 0; i < written.size(); ++i) written[i] = static_cast<std::byte>(i * 7 / 3);
    for (const Op op : {Op::write, Op::read}) {
      std::vector<Io> ios(kAtOnce);
      std::vector<iovec> pieces(kAtOnce);
      size_t done = 0, failed = 0;
      struct Count {
        size_t &done, &failed;
      } count{done, failed};
      for (size_t i = 0; i < kAtOnce; ++i) {
        pieces[i] = {(op == Op::write ? written : read).data() + i * kBytes, kBytes};
        ios[i].op = op;
        ios[i].lba = Lba{i * kBytes / 512};
        ios[i].block_count = BlockCount{kBytes / 512};
        ios[i].data = {&pieces[i], 1};
        ios[i].user = &count;
        ios[i].done = [](Io& io) {
          auto& counted = *static_cast<Count*>(io.user);
          ++counted.done;
          if (io.status != StatusCode::ok) ++counted.failed;
        };
        channel->submit(ios[i]);
      }
      while (done < kAtOnce) channel->wait(std::chrono::seconds(30));
      if (failed > 0) return std::to_string(failed) + " failed";
    }
    return written == read ? "" : "other data came back";
  }

  // The host may know that a handshake has failed before the line is written.
  bool logs(const std::string& line) {
    return wait_until([&] { return log_.count(line) > 0; });
  }

  nvme::KeptLog log_;
  ServedTarget served_;
  nvmf::ListenAddress plain_;
  std::string directory_;
};

TEST_F(NvmfTls, LetsInWhoHasTheKey) {
  let_in(kKey);
  EXPECT_EQ(use("tls_key_file=" + file("key", kKey)), "");
  EXPECT_EQ(use("header_digest=1&data_digest=1&tls_key_file=" + file("key", kKey)), "");
}

TEST_F(NvmfTls, TheCipherSuiteIsTheKeys) {
  let_in(kLongKey);
  EXPECT_EQ(use("tls_key_file=" + file("key", kLongKey)), "");
}

TEST_F(NvmfTls, AuthenticatesWithinIt) {
  let_in(kKey, true);
  const std::string key = "tls_key_file=" + file("key", kKey);
  EXPECT_NE(use(key).find("requires authentication"), std::string::npos);
  EXPECT_EQ(use(key + "&dhchap_secret_file=" + file("secret", kDhchapSecret)), "");
}

TEST_F(NvmfTls, RefusesWithALineInTheLog) {
  let_in(kKey);
  EXPECT_NE(use("tls_key_file=" + file("other", kLongKey)), "");
  EXPECT_GE(log_.count(std::string("TLS handshake: host ") + kTlsHost +
                       " has another TLS key for " + ServedTarget::kNqn),
            1u)
      << log_.text();
  EXPECT_NE(use("keep_alive=5"), "") << "in the clear";
  EXPECT_TRUE(logs("does the host do TLS on this port?")) << log_.text();
  served_.expect_ok(served_.target->remove_host(ServedTarget::kNqn, kTlsHost));
  EXPECT_NE(use("tls_key_file=" + file("key", kKey)), "");
  EXPECT_TRUE(logs(std::string("host ") + kTlsHost + " has no TLS key for"));
}

// The older kind of identity does not tell one key from another: TLS itself does.
TEST_F(NvmfTls, RefusesTheSameNameOfAnotherKey) {
  let_in(kKey);
  auto psk = psk_of(kKey, ServedTarget::kNqn, nvme::auth::IdentityVersion::names);
  RawHost good(served_.address), bad(served_.address);
  EXPECT_EQ(good.secure(psk), "");
  psk.key[0] ^= 1;
  EXPECT_NE(bad.secure(psk), "");
  EXPECT_TRUE(logs("has the host another key of the name")) << log_.text();
}

TEST_F(NvmfTls, WhoHasAKeyIsNotLetInInTheClear) {
  let_in(kKey);
  RawHost host(plain_);
  host.open();
  EXPECT_TRUE(
      host.connect(RawHost::connect_data(ServedTarget::kNqn, nvme::kAnyController, kTlsHost), 0)
          .status()
          .is(nvme::kConnectInvalidHost));
  EXPECT_EQ(log_.count("it has a TLS key for"), 1u) << log_.text();
}

TEST_F(NvmfTls, AKeyIsOfOneHostAndOneSubsystem) {
  let_in(kKey);
  served_.expect_ok(served_.target->allow_any_host(ServedTarget::kNqn, true));
  const auto psk = psk_of(kKey, ServedTarget::kNqn);
  for (const auto& [nqn, name] : {std::pair{ServedTarget::kNqn, "nqn.2014-08.org.example:another"},
                                  std::pair{nvme::kDiscoveryNqn.data(), kTlsHost}}) {
    RawHost host(served_.address);
    ASSERT_EQ(host.secure(psk), "");
    host.open();
    EXPECT_TRUE(host.connect(RawHost::connect_data(nqn, nvme::kAnyController, name), 0)
                    .status()
                    .is(nvme::kConnectInvalidHost));
  }
  EXPECT_EQ(log_.count("its TLS key is that of"), 2u) << log_.text();
  RawHost host(served_.address);
  ASSERT_EQ(host.secure(psk), "");
  host.become_admin(ServedTarget::kNqn);
}

TEST_F(NvmfTls, DiscoveryTellsOfItAndIsReachedThroughIt) {
  let_in(kKey);
  const auto psk = psk_of(kKey, nvme::kDiscoveryNqn);
  RawHost host(served_.address);
  ASSERT_EQ(host.secure(psk), "");
  host.become_admin(nvme::kDiscoveryNqn);
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(nvme::AdminOpcode::get_log_page);
  command.cdw10 = static_cast<uint32_t>(nvme::LogPage::discovery) | 2047u << 16;
  const RawAnswer page = host.run(command, {}, 8192);
  ASSERT_TRUE(page.status().ok());
  size_t through_tls = 0, in_the_clear = 0;
  for (size_t at = 1024; at < page.data.size(); at += 1024) {
    nvme::DiscoveryEntry entry;
    std::memcpy(static_cast<void*>(&entry), page.data.data() + at, sizeof entry);
    const bool is_tls = entry.service == served_.address.port;
    if (entry.service[0] == 0) break;
    EXPECT_EQ(entry.requirements & 3, is_tls ? 1 : 2);
    EXPECT_EQ(entry.specific[0], is_tls ? nvme::kTls13 : 0);
    ++(is_tls ? through_tls : in_the_clear);
  }
  EXPECT_EQ(through_tls, 2u);
  EXPECT_EQ(in_the_clear, 2u);
}

TEST_F(NvmfTls, AnAddressIsSecuredForAllOrNone) {
  served_.expect_ok(served_.target->create_subsystem({.nqn = "nqn.2014-08.org.example:second"}));
  const auto refused =
      served_.target->add_listener("nqn.2014-08.org.example:second", served_.address);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), StatusCode::invalid_argument);
  EXPECT_NE(refused.error().to_string().find("through TLS already"), std::string::npos);
}

TEST_F(NvmfTls, EndsWhatIsNoHandshake) {
  let_in(kKey);
  for (const std::string& rubbish :
       {std::string("GET / HTTP/1.0\r\n\r\n"), std::string(4096, '\x16'),
        std::string("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", 10)}) {
    RawHost host(served_.address);
    host.send(std::as_bytes(std::span(rubbish)));
    while (!host.is_closed()) {
    }
  }
  EXPECT_TRUE(wait_until([&] { return log_.count("TLS handshake: ") == 3; })) << log_.text();
}

// RFC 8446, §4.2.11.
TEST(OfferedIdentities, AreReadOrRefused) {
  using Bytes = std::vector<uint8_t>;
  const auto identities = [](const Bytes& extension) {
    std::string all;
    const auto found = nvme::offered_identities(extension);
    if (!found) return std::string("malformed");
    for (const std::string_view one : *found) all += std::string(one) + ";";
    return all;
  };
  const Bytes two{0, 15, 0, 1, 'a', 0, 0, 0, 0, 0, 2, 'b', 'c', 0, 0, 0, 0, 0, 33};
  EXPECT_EQ(identities(two), "a;bc;");
  for (size_t bytes = 0; bytes < 17; ++bytes) {
    EXPECT_EQ(identities({two.begin(), two.begin() + static_cast<ptrdiff_t>(bytes)}), "malformed");
  }
  EXPECT_EQ(identities({0, 0}), "");
  EXPECT_EQ(identities({0, 6, 0, 0, 0, 0, 0, 0}), "malformed") << "an identity of no bytes";
  EXPECT_EQ(identities({0, 7, 0, 9, 'a', 0, 0, 0, 0}), "malformed");
}

}  // namespace
}  // namespace basalt
