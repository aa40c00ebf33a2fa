// The target seen from a connection: what hosts may ask, what they do wrong, and what each of it ends in.
#include "targets/nvmf/target.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/sync.h"
#include "nvme/commands.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/host_commands.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::tcp::PduFault;
using nvme::tcp::PduHeader;
using nvme::tcp::PduType;
using nvme::tcp::TerminationReason;

constexpr const char* kNqn = ServedTarget::kNqn;

class NvmfTargetTest : public testing::Test {
 protected:
  void serve(const std::vector<std::string>& uris = {"ram:16M"}, nvmf::TargetOptions options = {}) {
    served_ = std::make_unique<ServedTarget>(uris, 1, options, &log_);
  }
  nvme::KeptLog log_;
  std::unique_ptr<ServedTarget> served_;
};

// ---- PDUs that break the protocol: the termination the specification asks for, then the end

class NvmfBadPdu : public NvmfTargetTest {
 protected:
  // What the target says to it, as "reason@information", after which it closes.
  std::string verdict(RawHost& host) {
    const auto pdu = host.receive();
    if (!pdu) return "closed";
    EXPECT_EQ(pdu->type(), PduType::controller_termination);
    const auto termination = pdu->as<nvme::tcp::TerminationPdu>();
    EXPECT_TRUE(host.is_closed());
    return std::to_string(termination.reason) + "@" + std::to_string(termination.information);
  }
};

TEST_F(NvmfBadPdu, BeforeTheConnectionRequest) {
  serve();
  const auto say = [&](const auto& bytes) {
    RawHost host(served_->address);
    host.send(bytes);
    return verdict(host);
  };
  EXPECT_EQ(say(RawHost::capsule({}, 0)), "2@0");
  auto request = RawHost::connection_request();
  request.format_version = 1;
  EXPECT_EQ(say(request), "6@8");
  request = RawHost::connection_request();
  request.header.bytes = 127;
  EXPECT_EQ(say(request), "1@4");
  request = RawHost::connection_request();
  request.header.type = 0x0a;
  EXPECT_EQ(say(request), "1@0");
}

TEST_F(NvmfBadPdu, AfterIt) {
  serve();
  const auto say = [&](const auto& bytes) {
    RawHost host(served_->address);
    host.open();
    host.send(bytes);
    return verdict(host);
  };
  EXPECT_EQ(say(RawHost::connection_request()), "2@0");
  auto capsule = RawHost::capsule({}, 0);
  capsule.header.header_bytes = 64;
  EXPECT_EQ(say(capsule), "1@2");
  capsule = RawHost::capsule({}, 0);
  capsule.header.bytes = 72 + 9000;
  capsule.header.data_offset = 72;
  EXPECT_EQ(say(capsule), "1@4");
  nvme::tcp::DataPdu data{};
  data.header = {.type = static_cast<uint8_t>(PduType::host_data),
                 .flags = nvme::tcp::kLastData,
                 .header_bytes = 24,
                 .data_offset = 24,
                 .bytes = 24 + 512};
  data.length = 512;
  EXPECT_EQ(say(data), "1@10") << "nobody asked for that";
  EXPECT_GT(log_.count("connection ended"), 0u);
}

TEST_F(NvmfBadPdu, DataThatWasNotAskedForSo) {
  serve();
  const auto say = [&](const std::function<void(nvme::tcp::DataPdu&)>& change) {
    RawHost host(served_->address), io(served_->address);
    io.become_io(kNqn, host.become_admin(kNqn));
    io.submit(transfer(nvme::IoOpcode::write, 0, 16), {}, 8192);
    const auto asked = io.receive();
    if (!asked || asked->type() != PduType::ready_to_transfer) return std::string("not asked");
    auto data = asked->as<nvme::tcp::DataPdu>();
    EXPECT_EQ(data.length, 8192u);
    data.header = {.type = static_cast<uint8_t>(PduType::host_data),
                   .flags = nvme::tcp::kLastData,
                   .header_bytes = 24,
                   .data_offset = 24,
                   .bytes = 24 + 8192};
    change(data);
    io.send(data, std::vector<std::byte>(8192));
    return verdict(io);
  };
  EXPECT_EQ(say([](auto& data) { data.cid = 77; }), "1@8");
  EXPECT_EQ(say([](auto& data) { data.tag = 77; }), "1@10");
  EXPECT_EQ(say([](auto& data) { data.offset = 512; }), "4@0");
  EXPECT_EQ(say([](auto& data) { data.length = 512; }), "1@16");
  EXPECT_EQ(say([](auto& data) { data.header.flags = 0; }), "1@1");
  EXPECT_EQ(say([](auto& data) {
              data.header.bytes = 24 + 4096;
              data.length = 4096;
            }),
            "1@1");
  EXPECT_EQ(say([](auto& data) {
              data.header.bytes = 24 + 200'000;
              data.length = 200'000;
            }),
            "5@0");
}

TEST_F(NvmfBadPdu, MoreCommandsThanTheQueueHasEntries) {
  serve();
  RawHost host(served_->address);
  host.become_admin(kNqn);
  // Events that are waited for, and writes whose data never comes, stay.
  for (int i = 0; i < 4; ++i) host.submit(admin(nvme::AdminOpcode::async_event_request));
  RawHost io(served_->address);
  io.become_io(kNqn, 1);
  for (int i = 0; i < 33; ++i) io.submit(transfer(nvme::IoOpcode::write, 0, 16), {}, 8192);
  int asked = 0;
  for (auto pdu = io.receive(); pdu; pdu = io.receive()) {
    if (pdu->type() == PduType::controller_termination) break;
    ++asked;
  }
  EXPECT_LE(asked, 32);
  EXPECT_TRUE(io.is_closed());
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::controller), {}, 4096).status().ok());
}

TEST_F(NvmfTargetTest, AConnectionThatSaysNothingEnds) {
  serve({"ram:16M"}, {.connect_timeout = std::chrono::milliseconds(50)});
  RawHost silent(served_->address), half(served_->address);
  half.open();
  EXPECT_TRUE(silent.is_closed());
  EXPECT_TRUE(half.is_closed());
  EXPECT_TRUE(wait_until([&] { return served_->target->connection_count() == 0; }));
}

TEST_F(NvmfTargetTest, DataThatWasAskedForAndDoesNotComeEndsTheConnection) {
  serve({"ram:16M"}, {.data_timeout = std::chrono::milliseconds(50)});
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  io.submit(transfer(nvme::IoOpcode::write, 0, 16), {}, 8192);
  const auto asked = io.receive();
  ASSERT_TRUE(asked && asked->type() == PduType::ready_to_transfer);
  EXPECT_TRUE(io.is_closed());
  EXPECT_EQ(log_.count("does not send the data of 1 writes"), 1u) << log_.text();
}

// ---- Connect

TEST_F(NvmfTargetTest, RefusesConnectsThatMakeNoSense) {
  serve();
  const auto refused = [&](const std::function<void(nvme::ConnectData&)>& change,
                           uint16_t queue_id = 0, uint32_t entries = 32) {
    RawHost host(served_->address);
    host.open();
    auto data = RawHost::connect_data(kNqn, nvme::kAnyController);
    change(data);
    const RawAnswer answer = host.connect(data, queue_id, entries);
    EXPECT_FALSE(answer.status().ok());
    const nvme::ConnectFault fault{answer.completion.result};
    return nvme::describe(answer.status()) + (fault.in_data() ? " data " : " ") +
           std::to_string(fault.offset());
  };
  const auto nothing = [](nvme::ConnectData&) {};
  const std::string parameters = nvme::describe(nvme::kConnectInvalidParameters);
  EXPECT_EQ(refused([](auto& data) { data.subsystem_nqn[5] = 'x'; }), parameters + " data 256");
  EXPECT_EQ(refused([](auto& data) { data.host_nqn[0] = 'x'; }), parameters + " data 512");
  EXPECT_EQ(refused([](auto& data) { data.controller_id = 5; }), parameters + " data 16");
  EXPECT_EQ(refused([](auto& data) { data.controller_id = 5; }, 1), parameters + " data 16");
  EXPECT_EQ(refused(nothing, 0, 1), parameters + " 44");
  EXPECT_EQ(refused(nothing, 0, 1000), parameters + " 44");
  served_->expect_ok(served_->target->allow_any_host(kNqn, false));
  EXPECT_EQ(refused(nothing), nvme::describe(nvme::kConnectInvalidHost) + " 0");
  served_->expect_ok(served_->target->add_host(kNqn, "nqn.2014-08.org.example:host"));
  RawHost host(served_->address);
  host.become_admin(kNqn);
  EXPECT_EQ(log_.count("is not allowed in"), 1u);
}

TEST_F(NvmfTargetTest, AQueueBelongsToOneHostAndOneConnection) {
  serve();
  RawHost host(served_->address), first(served_->address), again(served_->address),
      stranger(served_->address), beyond(served_->address);
  const uint16_t controller = host.become_admin(kNqn);
  first.become_io(kNqn, controller);
  again.open();
  EXPECT_FALSE(again.connect(RawHost::connect_data(kNqn, controller), 1).status().ok());
  stranger.open();
  EXPECT_FALSE(
      stranger.connect(RawHost::connect_data(kNqn, controller, "nqn.2014-08.org.example:other"), 2)
          .status()
          .ok());
  beyond.open();
  EXPECT_FALSE(beyond.connect(RawHost::connect_data(kNqn, controller), 1000).status().ok());
}

TEST_F(NvmfTargetTest, CommandsBeforeConnectAndBeforeEnablingAreOutOfSequence) {
  serve();
  RawHost host(served_->address);
  host.open();
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::controller), {}, 4096)
                  .status()
                  .is(nvme::kCommandSequenceError));
  const auto data = RawHost::connect_data(kNqn, nvme::kAnyController);
  EXPECT_TRUE(host.connect(data, 0).status().ok());
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::controller), {}, 4096)
                  .status()
                  .is(nvme::kCommandSequenceError));
  EXPECT_TRUE(host.connect(data, 0).status().is(nvme::kCommandSequenceError));
}

TEST_F(NvmfTargetTest, IoQueuesEndWithTheirAdminQueue) {
  serve();
  auto host = std::make_unique<RawHost>(served_->address);
  RawHost io(served_->address);
  io.become_io(kNqn, host->become_admin(kNqn));
  host.reset();
  EXPECT_TRUE(io.is_closed());
  EXPECT_TRUE(wait_until([&] { return served_->target->connection_count() == 0; }));
  EXPECT_TRUE(served_->target->find_subsystem(kNqn)->controllers().empty());
}

TEST_F(NvmfTargetTest, AHostThatIsSilentForTooLongEnds) {
  serve();
  RawHost host(served_->address);
  host.become_admin(kNqn, 200);
  EXPECT_TRUE(host.is_closed());
  EXPECT_EQ(log_.count("keep-alive time of 200 ms is over"), 1u);
}

TEST_F(NvmfTargetTest, TrafficKeepsAHostAlive) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn, 400));
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(io.run(transfer(nvme::IoOpcode::flush, 0, 1)).status().ok());
    sleep_for(std::chrono::milliseconds(10));
  }
}

TEST_F(NvmfTargetTest, AHostThatIsRemovedEnds) {
  serve();
  served_->expect_ok(served_->target->allow_any_host(kNqn, false));
  served_->expect_ok(served_->target->add_host(kNqn, "nqn.2014-08.org.example:host"));
  RawHost host(served_->address);
  host.become_admin(kNqn);
  served_->expect_ok(served_->target->remove_host(kNqn, "nqn.2014-08.org.example:host"));
  EXPECT_TRUE(host.is_closed());
}

// ---- Admin commands

TEST_F(NvmfTargetTest, TellsTheTruthOfWhatIsBehindIt) {
  serve({"ram:16M", "ram:8M?block=4096"});
  RawHost host(served_->address);
  const uint16_t id = host.become_admin(kNqn);
  const RawAnswer answer = host.run(identify(nvme::IdentifyKind::controller), {}, 4096);
  ASSERT_TRUE(answer.status().ok());
  nvme::IdentifyController controller;
  std::memcpy(static_cast<void*>(&controller), answer.data.data(), sizeof controller);
  EXPECT_EQ(controller.controller_id, id);
  EXPECT_EQ(nvme::printable_field({controller.serial, 20}), "S1");
  EXPECT_STREQ(controller.subsystem_nqn, kNqn);
  EXPECT_EQ(controller.volatile_write_cache & 1, 0) << "RAM has none";
  EXPECT_EQ(controller.max_transfer_shift, 5);
  EXPECT_EQ(controller.io_capsule_units, (64u + 4096) / 16);
  const RawAnswer space = host.run(identify(nvme::IdentifyKind::name_space, 2), {}, 4096);
  nvme::IdentifyNamespace second;
  std::memcpy(static_cast<void*>(&second), space.data.data(), sizeof second);
  EXPECT_EQ(second.size, 2048u);
  EXPECT_EQ(second.formats[0].data_shift, 12);
  const RawAnswer list = host.run(identify(nvme::IdentifyKind::active_namespaces, 0), {}, 4096);
  std::array<le32, 3> ids;
  std::memcpy(static_cast<void*>(&ids), list.data.data(), sizeof ids);
  EXPECT_EQ(ids[0], 1u);
  EXPECT_EQ(ids[1], 2u);
  EXPECT_EQ(ids[2], 0u);
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::name_space, 999), {}, 4096)
                  .status()
                  .is(nvme::kInvalidNamespace));
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::controller), {}, 512)
                  .status()
                  .is(nvme::kDataLengthInvalid));
}

// Goal: what an admin command does not fill is zero, whatever the memory held before.
TEST_F(NvmfTargetTest, LeaksNoMemory) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  const std::vector<std::byte> secret(4096, std::byte{0x5a});
  for (int i = 0; i < 20; ++i) io.run(transfer(nvme::IoOpcode::write, 0, 8), secret);
  Command feature = admin(nvme::AdminOpcode::get_features);
  feature.cdw10 = static_cast<uint32_t>(nvme::Feature::arbitration);
  for (int i = 0; i < 20; ++i) {
    const RawAnswer answer = host.run(feature, {}, 4096);
    EXPECT_TRUE(std::all_of(answer.data.begin(), answer.data.end(),
                            [](std::byte byte) { return byte == std::byte{}; }));
  }
}

TEST_F(NvmfTargetTest, TellsOfNamespacesThatComeAndGo) {
  serve();
  RawHost host(served_->address);
  host.become_admin(kNqn);
  Command configure = admin(nvme::AdminOpcode::set_features);
  configure.cdw10 = static_cast<uint32_t>(nvme::Feature::async_event_config);
  configure.cdw11 = nvme::kReportNamespaces;
  EXPECT_TRUE(host.run(configure).status().ok());
  Command wait = admin(nvme::AdminOpcode::async_event_request);
  wait.cid = 55;
  host.submit(wait);
  const uint32_t added = served_->add("ram:4M");
  EXPECT_EQ(added, 2u);
  const RawAnswer event = host.answer();
  EXPECT_EQ(event.completion.cid, 55);
  EXPECT_EQ(event.completion.result & 0xffff, 2u | nvme::kNamespacesChanged << 8);
  // Once, until the page is read.
  host.submit(wait);
  served_->expect_ok(served_->target->remove_namespace(kNqn, 2));
  RawAnswer page = host.run(get_log(nvme::LogPage::changed_namespaces, 4096), {}, 4096);
  le32 nsid;
  std::memcpy(static_cast<void*>(&nsid), page.data.data(), sizeof nsid);
  EXPECT_EQ(nsid, 2u);
  served_->expect_ok(served_->target->remove_namespace(kNqn, 1));
  EXPECT_EQ(host.answer().completion.cid, 55);
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::namespace_descriptors, 1), {}, 4096)
                  .status()
                  .is(nvme::kInvalidNamespace));
}

TEST_F(NvmfTargetTest, AbortsWhatWaitsForAnEvent) {
  serve();
  RawHost host(served_->address);
  host.become_admin(kNqn);
  Command wait = admin(nvme::AdminOpcode::async_event_request);
  wait.cid = 55;
  host.submit(wait);
  Command abort = admin(nvme::AdminOpcode::abort);
  abort.cid = 56;
  abort.cdw10 = 55u << 16;
  host.submit(abort);
  const RawAnswer first = host.answer(), second = host.answer();
  EXPECT_EQ(first.completion.cid, 55);
  EXPECT_TRUE(first.status().is(nvme::kAbortRequested));
  EXPECT_EQ(second.completion.result, 0u);
  EXPECT_EQ(host.run(abort).completion.result, nvme::kNotAborted);
}

TEST_F(NvmfTargetTest, TellsHowItIsReached) {
  serve({});
  nvmf::Target& target = *served_->target;
  const std::string nqn = "nqn.2014-08.org.example:paths";
  served_->expect_ok(
      target.create_subsystem({.nqn = nqn, .allow_any_host = true, .reports_access = true}));
  ASSERT_TRUE(target.add_namespace(nqn, std::move(*open_device(*served_->context, "ram:1M"))));
  const auto listening = [&] {
    const auto listener = target.add_listener(nqn, {"127.0.0.1", "0"});
    EXPECT_TRUE(listener);
    return listener ? *listener : nvmf::ListenAddress();
  };
  const nvmf::ListenAddress first = listening(), second = listening();
  served_->expect_ok(target.set_access(nqn, second, nvme::AccessState::inaccessible));
  RawHost host(first), io(first), other(second), other_io(second);
  io.become_io(nqn, host.become_admin(nqn));
  other_io.become_io(nqn, other.become_admin(nqn));
  const Command read = transfer(nvme::IoOpcode::read, 0, 1);
  EXPECT_TRUE(io.run(read, {}, 512).status().ok());
  EXPECT_TRUE(other_io.run(read, {}, 512).status().is(nvme::kAccessInaccessible));
  const auto state_of = [&](RawHost& through) {
    const RawAnswer page = through.run(get_log(nvme::LogPage::asymmetric_access, 64), {}, 64);
    EXPECT_TRUE(page.status().ok());
    nvme::AccessGroup group;
    std::memcpy(static_cast<void*>(&group), page.data.data() + sizeof(nvme::AccessLogHeader),
                sizeof group);
    EXPECT_EQ(group.id, 1u);
    EXPECT_EQ(group.namespaces, 1u);
    return static_cast<nvme::AccessState>(group.state);
  };
  EXPECT_EQ(state_of(host), nvme::AccessState::optimized);
  EXPECT_EQ(state_of(other), nvme::AccessState::inaccessible);
  // Fail over: each host is told on its own path.
  for (RawHost* each : {&host, &other}) {
    Command configure = admin(nvme::AdminOpcode::set_features);
    configure.cdw10 = static_cast<uint32_t>(nvme::Feature::async_event_config);
    configure.cdw11 = nvme::kReportAsymmetricAccess;
    EXPECT_TRUE(each->run(configure).status().ok());
    each->submit(admin(nvme::AdminOpcode::async_event_request));
  }
  served_->expect_ok(target.set_access(nqn, first, nvme::AccessState::persistent_loss));
  served_->expect_ok(target.set_access(nqn, second, nvme::AccessState::non_optimized));
  for (RawHost* each : {&host, &other}) {
    EXPECT_EQ(each->answer().completion.result >> 8 & 0xff, nvme::kAsymmetricAccessChanged);
  }
  EXPECT_TRUE(io.run(read, {}, 512).status().is(nvme::kAccessPersistentLoss));
  EXPECT_TRUE(other_io.run(read, {}, 512).status().ok());
  EXPECT_EQ(target.set_access(kNqn, served_->address, nvme::AccessState::change).code(),
            StatusCode::unsupported);
}

TEST_F(NvmfTargetTest, DiscoveryTellsWhatAHostMaySee) {
  serve();
  served_->expect_ok(served_->target->create_subsystem(
      {.nqn = "nqn.2014-08.org.example:hidden", .allow_any_host = false}));
  ASSERT_TRUE(served_->target->add_listener("nqn.2014-08.org.example:hidden", served_->address));
  RawHost host(served_->address);
  host.become_admin(nvme::kDiscoveryNqn);
  const auto entries = [&] {
    const RawAnswer page = host.run(get_log(nvme::LogPage::discovery, 4096), {}, 4096);
    EXPECT_TRUE(page.status().ok());
    nvme::DiscoveryHeader header;
    std::memcpy(static_cast<void*>(&header), page.data.data(), sizeof header);
    std::string text = std::to_string(header.count) + ":";
    for (uint64_t i = 0; i < header.count; ++i) {
      nvme::DiscoveryEntry entry;
      std::memcpy(static_cast<void*>(&entry), page.data.data() + 1024 * (i + 1), sizeof entry);
      text += std::string(" ") + entry.subsystem_nqn + "@" + entry.service;
    }
    return text;
  };
  const std::string port = "@" + served_->address.port;
  const std::string seen =
      std::string("2: ") + kNqn + port + " " + std::string(nvme::kDiscoveryNqn) + port;
  EXPECT_EQ(entries(), seen);
  served_->expect_ok(
      served_->target->add_host("nqn.2014-08.org.example:hidden", "nqn.2014-08.org.example:host"));
  EXPECT_EQ(entries().substr(0, 2), "3:");
  EXPECT_TRUE(host.run(identify(nvme::IdentifyKind::active_namespaces), {}, 4096)
                  .status()
                  .is(nvme::kInvalidField));
}

// ---- I/O

TEST_F(NvmfTargetTest, RefusesTransfersThatMakeNoSense) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  const auto status = [&](const Command& command, size_t wanted) {
    return nvme::describe(io.run(command, {}, wanted).status());
  };
  const auto read = nvme::IoOpcode::read;
  EXPECT_EQ(status(transfer(read, 0, 8), 4096), nvme::describe({}));
  EXPECT_EQ(status(transfer(read, 0, 8), 512), nvme::describe(nvme::kDataLengthInvalid));
  EXPECT_EQ(status(transfer(read, 0, 8), 8192), nvme::describe(nvme::kDataLengthInvalid));
  EXPECT_EQ(status(transfer(read, 0, 8), 0), nvme::describe(nvme::kDataLengthInvalid));
  EXPECT_EQ(status(transfer(read, 0, 512), 262'144), nvme::describe(nvme::kInvalidField));
  EXPECT_EQ(status(transfer(read, 32768, 8), 4096), nvme::describe(nvme::kLbaOutOfRange));
  EXPECT_EQ(status(transfer(read, ~uint64_t{0}, 8), 4096), nvme::describe(nvme::kLbaOutOfRange));
  EXPECT_EQ(status(transfer(read, 0, 8, 2), 4096), nvme::describe(nvme::kInvalidNamespace));
  EXPECT_EQ(status(transfer(read, 0, 8, 0), 4096), nvme::describe(nvme::kInvalidNamespace));
  EXPECT_EQ(status(transfer(static_cast<nvme::IoOpcode>(0xfe), 0, 8), 4096),
            nvme::describe(nvme::kInvalidOpcode));
  // Data in the capsule that its descriptor does not speak of, and the other way round.
  Command write = transfer(nvme::IoOpcode::write, 0, 8);
  RawHost::set_sgl(write, 4096, nvme::SglType::in_capsule_data_block);
  io.send(RawHost::capsule(write, 512), std::vector<std::byte>(512));
  EXPECT_TRUE(io.answer().status().is(nvme::kDataLengthInvalid));
  io.send(RawHost::capsule(write, 0));
  EXPECT_TRUE(io.answer().status().is(nvme::kDataLengthInvalid));
  RawHost::set_sgl(write, 4096, nvme::SglType::keyed_data_block);
  io.send(RawHost::capsule(write, 4096), std::vector<std::byte>(4096));
  EXPECT_TRUE(io.answer().status().is(nvme::kSglTypeInvalid));
  EXPECT_EQ(status(transfer(read, 0, 8), 4096), nvme::describe({}));
}

TEST_F(NvmfTargetTest, ComparesAndWritesAtOnce) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  const std::vector<std::byte> zeros(512), ones(512, std::byte{1}), twos(512, std::byte{2});
  const auto run = [&](const auto& expected, const auto& wanted) {
    Command compare = transfer(nvme::IoOpcode::compare, 7, 1),
            write = transfer(nvme::IoOpcode::write, 7, 1);
    compare.flags = nvme::kFusedFirst;
    compare.cid = 1;
    write.flags = nvme::kFusedSecond;
    write.cid = 2;
    io.submit(compare, expected);
    io.submit(write, wanted);
    const RawAnswer first = io.answer(), second = io.answer();
    EXPECT_EQ(first.completion.cid, 1);
    EXPECT_EQ(second.completion.cid, 2);
    return nvme::describe(first.status()) + ", " + nvme::describe(second.status());
  };
  const std::string good = nvme::describe({});
  EXPECT_EQ(run(zeros, ones), good + ", " + good);
  EXPECT_EQ(run(zeros, twos), nvme::describe(nvme::kCompareFailure) + ", " +
                                  nvme::describe(nvme::kFailedFusedCommand));
  EXPECT_EQ(io.run(transfer(nvme::IoOpcode::read, 7, 1), {}, 512).data, ones);
  // A half alone.
  Command compare = transfer(nvme::IoOpcode::compare, 7, 1);
  compare.flags = nvme::kFusedFirst;
  compare.cid = 3;
  io.submit(compare, ones);
  EXPECT_TRUE(
      io.run(transfer(nvme::IoOpcode::flush, 0, 1)).status().is(nvme::kMissingFusedCommand));
  EXPECT_TRUE(io.answer().status().ok());
  Command write = transfer(nvme::IoOpcode::write, 7, 1);
  write.flags = nvme::kFusedSecond;
  EXPECT_TRUE(io.run(write, ones).status().is(nvme::kMissingFusedCommand));
}

// Goal: fused commands follow each other as they were sent, not as their data comes; others may pass meanwhile.
TEST_F(NvmfTargetTest, PairsFusedCommandsAsTheyWereSent) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  const std::vector<std::byte> zeros(512), ones(512, std::byte{1});
  Command compare = transfer(nvme::IoOpcode::compare, 7, 1),
          write = transfer(nvme::IoOpcode::write, 7, 1);
  compare.flags = nvme::kFusedFirst;
  compare.cid = 1;
  write.flags = nvme::kFusedSecond;
  write.cid = 2;
  io.submit(compare, {}, 512);  // its data is asked for
  io.submit(write, ones);
  Command read = transfer(nvme::IoOpcode::read, 7, 1);
  read.cid = 3;
  io.submit(read, {}, 512);
  const auto asked = io.receive();
  ASSERT_TRUE(asked && asked->type() == PduType::ready_to_transfer);
  const RawAnswer before = io.answer();
  EXPECT_EQ(before.completion.cid, 3);
  EXPECT_EQ(before.data, zeros);
  auto data = asked->as<nvme::tcp::DataPdu>();
  data.header = {.type = static_cast<uint8_t>(PduType::host_data),
                 .flags = nvme::tcp::kLastData,
                 .header_bytes = 24,
                 .data_offset = 24,
                 .bytes = 24 + 512};
  io.send(data, zeros);
  EXPECT_TRUE(io.answer().status().ok());
  EXPECT_TRUE(io.answer().status().ok());
  EXPECT_EQ(io.run(read, {}, 512).data, ones);
  // The second is refused as it comes: the first is told.
  io.submit(compare, ones);
  RawHost::set_sgl(write, 4096, nvme::SglType::keyed_data_block);
  io.send(RawHost::capsule(write, 512), ones);
  const RawAnswer first = io.answer(), second = io.answer();
  EXPECT_TRUE(first.status().is(nvme::kFailedFusedCommand));
  EXPECT_TRUE(second.status().is(nvme::kSglTypeInvalid));
}

TEST_F(NvmfTargetTest, CopiesAndVerifiesAndDeallocates) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  const std::vector<std::byte> ones(512, std::byte{1}), twos(512, std::byte{2});
  io.run(transfer(nvme::IoOpcode::write, 3, 1), ones);
  io.run(transfer(nvme::IoOpcode::write, 9, 1), twos);
  std::array<std::byte, 64> ranges{};
  ranges[8] = std::byte{9};
  ranges[40] = std::byte{3};
  Command copy = transfer(nvme::IoOpcode::copy, 100, 2);
  EXPECT_TRUE(io.run(copy, ranges).status().ok());
  std::vector<std::byte> expected = twos;
  expected.insert(expected.end(), ones.begin(), ones.end());
  EXPECT_EQ(io.run(transfer(nvme::IoOpcode::read, 100, 2), {}, 1024).data, expected);
  ranges[9] = std::byte{0xff};
  EXPECT_TRUE(io.run(copy, ranges).status().is(nvme::kLbaOutOfRange));
  EXPECT_TRUE(io.run(transfer(nvme::IoOpcode::verify, 0, 32768)).status().ok());
  EXPECT_TRUE(io.run(transfer(nvme::IoOpcode::verify, 1, 32768)).status().is(nvme::kLbaOutOfRange));
  EXPECT_TRUE(io.run(transfer(nvme::IoOpcode::write_zeroes, 100, 2)).status().ok());
  EXPECT_EQ(io.run(transfer(nvme::IoOpcode::read, 100, 2), {}, 1024).data,
            std::vector<std::byte>(1024));
  std::array<std::byte, 32> discards{};
  discards[4] = std::byte{8};
  Command deallocate;
  deallocate.opcode = static_cast<uint8_t>(nvme::IoOpcode::dataset_management);
  deallocate.nsid = 1;
  deallocate.cdw10 = 1;
  deallocate.cdw11 = 4;
  EXPECT_TRUE(io.run(deallocate, discards).status().ok());
  discards[15] = std::byte{1};
  EXPECT_TRUE(io.run(deallocate, discards).status().is(nvme::kLbaOutOfRange));
}

TEST_F(NvmfTargetTest, HoldsManyConnectionsAndLetsGoOfThem) {
  serve();
  std::vector<std::unique_ptr<RawHost>> hosts;
  for (int i = 0; i < 200; ++i) {
    hosts.push_back(std::make_unique<RawHost>(served_->address));
    hosts.back()->become_admin(kNqn);
  }
  EXPECT_EQ(served_->target->connection_count(), 200u);
  EXPECT_EQ(served_->target->find_subsystem(kNqn)->controllers().size(), 200u);
  hosts.clear();
  EXPECT_TRUE(wait_until([&] { return served_->target->connection_count() == 0; }));
  EXPECT_TRUE(served_->target->find_subsystem(kNqn)->controllers().empty());
}

TEST_F(NvmfTargetTest, DeletesWhatHostsAreIn) {
  serve();
  RawHost host(served_->address), io(served_->address);
  io.become_io(kNqn, host.become_admin(kNqn));
  served_->expect_ok(served_->target->delete_subsystem(kNqn));
  EXPECT_TRUE(host.is_closed());
  EXPECT_TRUE(io.is_closed());
  EXPECT_EQ(served_->target->delete_subsystem(kNqn).code(), StatusCode::not_found);
}

TEST_F(NvmfTargetTest, RefusesConfigurationsThatMakeNoSense) {
  serve();
  nvmf::Target& target = *served_->target;
  EXPECT_EQ(target.create_subsystem({.nqn = "disk"}).code(), StatusCode::invalid_argument);
  EXPECT_EQ(target.create_subsystem({.nqn = kNqn}).code(), StatusCode::already_exists);
  EXPECT_EQ(
      target.create_subsystem({.nqn = "nqn.2014-08.org.example:b", .serial = std::string(21, '1')})
          .code(),
      StatusCode::invalid_argument);
  EXPECT_EQ(target.add_namespace(kNqn, served_->devices[0], {.nsid = 1}).error().code(),
            StatusCode::already_exists);
  EXPECT_EQ(target.add_namespace(kNqn, served_->devices[0], {.nsid = 33}).error().code(),
            StatusCode::too_large);
  EXPECT_EQ(target.remove_namespace(kNqn, 7).code(), StatusCode::not_found);
  EXPECT_EQ(target.add_listener(kNqn, served_->address).error().code(), StatusCode::already_exists);
  EXPECT_EQ(target.add_listener(kNqn, {"192.0.2.1", "0"}).error().code(),
            StatusCode::invalid_argument);
  EXPECT_EQ(target.add_listener(kNqn, {"localhost", "0"}).error().code(),
            StatusCode::invalid_argument);
  EXPECT_EQ(target.remove_listener(kNqn, {"127.0.0.1", "1"}).code(), StatusCode::not_found);
  EXPECT_EQ(target.add_host(kNqn, "me").code(), StatusCode::invalid_argument);
  EXPECT_EQ(target.remove_host(kNqn, "nqn.2014-08.org.example:x").code(), StatusCode::not_found);
}

}  // namespace
}  // namespace basalt
