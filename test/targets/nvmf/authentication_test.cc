// Hosts that have to prove who they are: Basalt's own host against the target, and a raw one that does it wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "bdev/nvme/nvme_device.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"
#include "wire/nvme/auth/messages.h"

namespace basalt {
namespace {

constexpr const char* kHost = "nqn.2014-08.org.example:host";
constexpr const char* kSecret = "DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:";
constexpr const char* kOther =
    "DHHC-1:02:MDc+RUxTWmFob3Z9hIuSmaCnrrW8w8rR2N/m7fT7AgkQFx4lLDM6QUhPVl1ka3J51wkKvA==:";

class NvmfAuthentication : public testing::Test {
 protected:
  NvmfAuthentication() : served_({"ram:4M"}, 1, {}, &log_) {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    served_.expect_ok(served_.target->allow_any_host(ServedTarget::kNqn, false));
  }
  ~NvmfAuthentication() override { std::filesystem::remove_all(directory_); }
  void let_in(bool proves_itself) {
    nvmf::HostSecrets secrets{std::move(*nvme::auth::Secret::parse(kSecret)), {}};
    if (proves_itself) secrets.controller = std::move(*nvme::auth::Secret::parse(kOther));
    served_.expect_ok(
        served_.target->add_host(ServedTarget::kNqn, kHost, {.secrets = std::move(secrets)}));
  }
  std::string file(const std::string& name, const char* secret) {
    std::ofstream(directory_ + "/" + name) << secret << "\n";
    return directory_ + "/" + name;
  }
  // Writes and reads back; "" or why not.
  std::string use(const std::string& keys) {
    ContextOptions options;
    options.log = &log_;
    auto context = std::move(*Context::create(options));
    register_nvme_scheme(*context);
    auto device =
        open_device(*context, served_.uri(1, std::string("?hostnqn=") + kHost + "&" + keys));
    if (!device) return device.error().to_string();
    auto channel = std::move(*(*device)->open_channel());
    std::vector<std::byte> bytes(4096, std::byte{7});
    iovec piece{bytes.data(), bytes.size()};
    Io io;
    io.op = Op::write;
    io.block_count = BlockCount{8};
    io.data = {&piece, 1};
    const StatusCode code = run(*channel, io);
    return code == StatusCode::ok ? "" : std::string(to_string(code));
  }

  nvme::KeptLog log_;
  ServedTarget served_;
  std::string directory_;
};

TEST_F(NvmfAuthentication, LetsInWhoKnowsTheSecret) {
  let_in(false);
  EXPECT_EQ(use("dhchap_secret_file=" + file("host", kSecret)), "");
}

TEST_F(NvmfAuthentication, ProvesItselfToo) {
  let_in(true);
  const std::string keys =
      "dhchap_secret_file=" + file("host", kSecret) + "&dhchap_ctrl_secret_file=";
  EXPECT_EQ(use(keys + file("controller", kOther)), "");
  EXPECT_NE(use(keys + file("wrong", kSecret)).find("has not proved"), std::string::npos);
}

TEST_F(NvmfAuthentication, RefusesWithALineInTheLog) {
  let_in(false);
  EXPECT_NE(use("dhchap_secret_file=" + file("host", kOther)).find("right secret"),
            std::string::npos);
  EXPECT_EQ(log_.count("authentication failed: the host has not proved that it knows its secret"),
            1u);
  EXPECT_NE(use("keep_alive=5").find("requires authentication"), std::string::npos);
  // A proof that there is no secret for.
  EXPECT_NE(use("dhchap_secret_file=" + file("good", kSecret) +
                "&dhchap_ctrl_secret_file=" + file("controller", kOther)),
            "");
  EXPECT_EQ(log_.count("there is no controller's secret"), 1u);
}

// Goal: who calls himself by another's name and identifier, and can prove neither, keeps nobody out.
TEST_F(NvmfAuthentication, WhoHasProvedNothingKeepsNobodyOut) {
  constexpr const char* kOpen = "nqn.2014-08.org.example:open";
  let_in(false);
  served_.expect_ok(served_.target->add_host(ServedTarget::kNqn, kOpen));
  const auto come = [&](RawHost& host, const char* name) {
    host.open();
    return host.connect(RawHost::connect_data(ServedTarget::kNqn, nvme::kAnyController, name), 0)
        .status();
  };
  RawHost liar(served_.address), host(served_.address), late(served_.address);
  EXPECT_TRUE(come(liar, kHost).ok());
  EXPECT_TRUE(come(host, kOpen).ok());  // of the same identifier
  EXPECT_FALSE(come(late, kHost).ok());
  EXPECT_EQ(log_.count(std::string("its identifier is that of ") + kOpen), 1u);
}

// ---- A host that does it wrong

nvme::Command authentication(nvme::FabricsType type, size_t bytes) {
  nvme::Command command = nvme::fabrics_command(type);
  command.cdw10 = nvme::auth::kSecurityProtocol;
  command.cdw11 = static_cast<uint32_t>(bytes);
  return command;
}

class NvmfWrongAuthentication : public NvmfAuthentication {
 protected:
  NvmfWrongAuthentication() : host_(served_.address) {
    let_in(false);
    host_.open();
    const RawAnswer connected =
        host_.connect(RawHost::connect_data(ServedTarget::kNqn, nvme::kAnyController, kHost), 0);
    EXPECT_TRUE(connected.status().ok());
    EXPECT_TRUE(nvme::ConnectResult{connected.completion.result}.wants_authentication());
  }
  nvme::CompletionStatus say(std::span<const std::byte> message) {
    return host_.run(authentication(nvme::FabricsType::auth_send, message.size()), message)
        .status();
  }
  // The id of the target's message, and for a failure its explanation.
  std::string hear() {
    const RawAnswer answer =
        host_.run(authentication(nvme::FabricsType::auth_receive, 4096), {}, 4096);
    if (!answer.status().ok()) return nvme::describe(answer.status());
    nvme::auth::Failure message;
    std::memcpy(static_cast<void*>(&message), answer.data.data(), sizeof message);
    std::string text = std::to_string(message.header.id);
    if (message.header.id == 0xf1) text += " " + std::to_string(message.explanation);
    return text;
  }
  static nvme::auth::Negotiate offer() {
    nvme::auth::Negotiate offer{};
    offer.header.id = static_cast<uint8_t>(nvme::auth::MessageId::negotiate);
    offer.header.transaction = 5;
    offer.protocols = 1;
    offer.protocol.id = nvme::auth::kDhchap;
    offer.protocol.hash_count = offer.protocol.group_count = 1;
    offer.protocol.hashes[0] = 1;
    return offer;
  }
  nvme::CompletionStatus say(const nvme::auth::Negotiate& message) {
    return say(std::as_bytes(std::span(&message, 1)));
  }
  RawHost host_;
};

TEST_F(NvmfWrongAuthentication, NothingElseIsTakenBefore) {
  nvme::Command identify;
  identify.opcode = static_cast<uint8_t>(nvme::AdminOpcode::identify);
  identify.cdw10 = 1;
  EXPECT_TRUE(host_.run(identify, {}, 4096).status().is(nvme::kAuthenticationRequired));
  EXPECT_TRUE(host_.run(nvme::property_set_command(nvme::Register::configuration, nvme::kEnable))
                  .status()
                  .is(nvme::kAuthenticationRequired));
  EXPECT_EQ(hear(), nvme::describe(nvme::kCommandSequenceError)) << "it is the host's turn";
}

TEST_F(NvmfWrongAuthentication, OffersOfNothing) {
  auto message = offer();
  message.protocol.hashes[0] = 9;
  EXPECT_TRUE(say(message).ok());
  EXPECT_EQ(hear(), "241 4");
  EXPECT_EQ(hear(), nvme::describe(nvme::kCommandSequenceError));
}

TEST_F(NvmfWrongAuthentication, LongerThanItsList) {
  auto message = offer();
  message.protocol.group_count = 31;
  EXPECT_TRUE(say(message).ok());
  EXPECT_EQ(hear(), "241 6");
}

TEST_F(NvmfWrongAuthentication, OutOfOrder) {
  EXPECT_TRUE(say(offer()).ok());
  EXPECT_EQ(hear(), "1");
  EXPECT_TRUE(say(offer()).ok());
  EXPECT_EQ(hear(), "241 7");
}

TEST_F(NvmfWrongAuthentication, RepliesThatAreCutShort) {
  EXPECT_TRUE(say(offer()).ok());
  EXPECT_EQ(hear(), "1");
  nvme::auth::Reply reply{};
  reply.header.type = 1;
  reply.header.id = static_cast<uint8_t>(nvme::auth::MessageId::reply);
  reply.header.transaction = 5;
  reply.hash_bytes = 32;
  EXPECT_TRUE(say(std::as_bytes(std::span(&reply, 1))).ok());
  EXPECT_EQ(hear(), "241 6");
  const std::byte nothing[4]{};
  EXPECT_TRUE(say(nothing).ok());
  EXPECT_EQ(hear(), "241 6");
}

}  // namespace
}  // namespace basalt
