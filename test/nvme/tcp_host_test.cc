// The NVMe/TCP host against a target of the tests' own that misbehaves on demand: bring-up, data both ways under all
// terms a connection can have, every way to break the protocol, and what survives a lost connection.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "mem/arena.h"
#include "nvme/commands.h"
#include "nvme/tcp/discovery.h"
#include "nvme/tcp_host.h"

namespace basalt::nvme {
namespace {

// ---- What both sides may agree on

struct Terms {
  const char* name;
  TcpTargetOptions target{};
  bool digests = false;
};
std::vector<Terms> all_terms() {
  std::vector<Terms> list;
  list.push_back({.name = "plain"});
  list.push_back({.name = "digests", .digests = true});
  list.push_back({.name = "nothing_in_capsules", .target = {.capsule_data = 0}});
  list.push_back(
      {.name = "nothing_in_capsules_digests", .target = {.capsule_data = 0}, .digests = true});
  list.push_back({.name = "small_transfers",
                  .target = {.capsule_data = 0, .max_host_data = 4096, .transfer = 12288}});
  list.push_back({.name = "aligned", .target = {.data_alignment = 31}, .digests = true});
  list.push_back({.name = "aligned_transfers",
                  .target = {.capsule_data = 0, .data_alignment = 15, .transfer = 8192}});
  for (const uint8_t alignment :
       {15, 16, 17, 18, 24}) {  // the header's end and its digest's, on either side
    list.push_back({.name = alignment == 15   ? "aligned_64"
                            : alignment == 16 ? "aligned_68"
                            : alignment == 17 ? "aligned_72"
                            : alignment == 18 ? "aligned_76"
                                              : "aligned_100",
                    .target = {.data_alignment = alignment},
                    .digests = true});
  }
  list.push_back({.name = "success_flag", .target = {.success_flag = true}});
  list.push_back({.name = "success_flag_digests",
                  .target = {.data_pdu = 1000, .success_flag = true},
                  .digests = true});
  list.push_back({.name = "data_in_small_pieces", .target = {.data_pdu = 512}});
  list.push_back({.name = "data_in_one_piece", .target = {.data_pdu = 1 << 20}});
  return list;
}
class TcpTerms : public TcpHost, public testing::WithParamInterface<Terms> {};
INSTANTIATE_TEST_SUITE_P(All, TcpTerms, testing::ValuesIn(all_terms()),
                         [](const auto& terms) { return terms.param.name; });

TEST_P(TcpTerms, CarriesDataOfAnySizeInAnyPieces) {
  start(GetParam().target, GetParam().digests);
  for (const uint32_t blocks : {1u, 2u, 3u, 7u, 32u}) {
    const size_t bytes = blocks * size_t{4096};
    std::vector<std::byte> data = pattern(bytes, blocks);
    ASSERT_EQ(run(write_command(1, 100, blocks), data), StatusCode::ok);
    EXPECT_TRUE(target->read(100, blocks) == data);
    std::vector<std::byte> back(bytes);
    ASSERT_EQ(run(read_command(1, 100, blocks), back), StatusCode::ok);
    EXPECT_TRUE(back == data);

    // The same in pieces of all lengths, both ways.
    std::vector<iovec> pieces;
    size_t at = 0;
    for (size_t length = 1; at < bytes; length = length * 5 % 3001) {
      length = std::min(length, bytes - at);
      pieces.push_back({back.data() + at, length});
      at += length;
    }
    std::fill(back.begin(), back.end(), std::byte{0});
    Waited read(read_command(1, 100, blocks));
    read.request.data = pieces;
    queue->submit(read.request);
    ASSERT_TRUE(wait(read));
    EXPECT_EQ(read.request.status, StatusCode::ok);
    EXPECT_TRUE(back == data);
    std::reverse(back.begin(), back.end());
    Waited write(write_command(1, 200, blocks));
    write.request.data = pieces;
    queue->submit(write.request);
    ASSERT_TRUE(wait(write));
    EXPECT_TRUE(target->read(200, blocks) == back);
  }
  EXPECT_EQ(queue->counters().retried, 0u);
}

TEST_P(TcpTerms, KeepsManyCommandsApart) {
  start(GetParam().target, GetParam().digests);
  constexpr unsigned kCommands = 100;  // more than the queue holds
  std::vector<std::vector<std::byte>> data;
  std::vector<std::unique_ptr<Waited>> waited;
  for (unsigned i = 0; i < kCommands; ++i) {
    data.push_back(pattern((i % 4 + 1) * size_t{4096}, i));
    waited.push_back(
        std::make_unique<Waited>(write_command(1, i * uint64_t{8}, i % 4 + 1), data.back()));
    queue->submit(waited.back()->request);
  }
  for (const auto& one : waited) ASSERT_TRUE(wait(*one));
  std::vector<std::vector<std::byte>> back;
  waited.clear();
  for (unsigned i = 0; i < kCommands; ++i) {
    back.emplace_back(data[i].size());
    waited.push_back(
        std::make_unique<Waited>(read_command(1, i * uint64_t{8}, i % 4 + 1), back.back()));
    queue->submit(waited.back()->request);
  }
  for (const auto& one : waited) {
    ASSERT_TRUE(wait(*one));
    EXPECT_EQ(one->request.status, StatusCode::ok);
  }
  EXPECT_TRUE(back == data);
}

// ---- Bring-up

TEST_F(TcpHost, KnowsWhatTheControllerSays) {
  start({.block_size = 512, .block_count = 5000, .queue_pairs = 2});
  ASSERT_EQ(controller->namespaces().size(), 1u);
  EXPECT_EQ(controller->namespaces()[0].block_count, 5000u);
  EXPECT_EQ(controller->namespaces()[0].block_bytes, 512u);
  EXPECT_EQ(controller->queue_pair_limit(), 2);
  EXPECT_EQ(controller->max_transfer_bytes(), 128u * 1024);
  EXPECT_EQ(controller->name(), target->address());
  std::vector<std::byte> data(512);
  EXPECT_EQ(run(read_command(1, 5000, 1), data), StatusCode::out_of_range);
  auto second = controller->open_queue_pair();
  EXPECT_TRUE(second);
  const auto third = controller->open_queue_pair();
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code(), StatusCode::no_space);
}

TEST_F(TcpHost, SaysWhyItCannotConnect) {
  target = std::make_unique<TcpTarget>(TcpTargetOptions{.only_host = "nqn.2014-08.org.example:me"});
  TcpOptions tcp = tcp_options("nqn.2014-08.org.example:nothing");
  Status status = open(tcp);
  EXPECT_EQ(status.code(), StatusCode::not_found);
  EXPECT_NE(status.to_string().find("no subsystem \"nqn.2014-08.org.example:nothing\""),
            std::string::npos)
      << status.to_string();
  status = open(tcp_options());
  EXPECT_EQ(status.code(), StatusCode::permission_denied);
  EXPECT_NE(status.to_string().find("does not let host"), std::string::npos) << status.to_string();
  tcp = tcp_options();
  tcp.host.nqn = "nqn.2014-08.org.example:me";
  EXPECT_TRUE(open(tcp).ok());
  controller.reset();
  target->stop();
  status = open(tcp);
  EXPECT_EQ(status.code(), StatusCode::not_found);
  EXPECT_NE(status.to_string().find("no target listens there"), std::string::npos)
      << status.to_string();
  target = std::make_unique<TcpTarget>(TcpTargetOptions{.digests = false});
  tcp = tcp_options();
  tcp.data_digest = true;
  EXPECT_EQ(open(tcp).code(), StatusCode::unsupported);
}

TEST_F(TcpHost, RefusesNamesAndNumbersThatCannotBeMeant) {
  target = std::make_unique<TcpTarget>();
  TcpOptions tcp = tcp_options("disk");
  EXPECT_EQ(open(tcp).code(), StatusCode::invalid_argument);
  tcp = tcp_options("nqn." + std::string(300, 'x'));
  EXPECT_EQ(open(tcp).code(), StatusCode::invalid_argument);
  tcp = tcp_options();
  tcp.keep_alive = 10ms;
  EXPECT_EQ(open(tcp).code(), StatusCode::invalid_argument);
  tcp = tcp_options();
  tcp.addresses.clear();
  EXPECT_EQ(open(tcp).code(), StatusCode::invalid_argument);
}

// A peer that accepts and then says `words`, or nothing.
Status open_to_stranger(TcpHost&, Context& context, const std::string& words) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(listener, 1), 0);
  socklen_t bytes = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes);
  std::thread peer([&] {
    const int fd = ::accept(listener, nullptr, nullptr);
    EXPECT_EQ(::send(fd, words.data(), words.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(words.size()));
    char byte;
    while (::recv(fd, &byte, 1, 0) > 0) {
    }
    ::close(fd);
  });
  TcpOptions tcp;
  tcp.addresses = {{"127.0.0.1", std::to_string(ntohs(address.sin_port))}};
  tcp.subsystem_nqn = "nqn.2014-08.org.example:disk";
  tcp.host = *HostIdentity::of_this_host("/nonexistent");
  tcp.connect_timeout = 300ms;
  auto opened = Controller::open(host(context), std::move(*TcpTransport::create(tcp)), {});
  peer.join();
  ::close(listener);
  return opened ? Status() : opened.error();
}

TEST_F(TcpHost, IsNotFooledByOtherServers) {
  const Status silent = open_to_stranger(*this, *context, "");
  EXPECT_EQ(silent.code(), StatusCode::timed_out);
  EXPECT_NE(silent.to_string().find("is that an NVMe/TCP target?"), std::string::npos)
      << silent.to_string();
  const Status ssh = open_to_stranger(*this, *context, "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
  EXPECT_EQ(ssh.code(), StatusCode::corruption);
  EXPECT_NE(ssh.to_string().find("which no controller sends"), std::string::npos)
      << ssh.to_string();
}

TEST_F(TcpHost, TheSecondAddressServesWhereTheFirstDoesNot) {
  target = std::make_unique<TcpTarget>();
  TcpTarget other;
  TcpOptions tcp = tcp_options();
  tcp.addresses.insert(tcp.addresses.begin(), *TcpAddress::parse(other.address(), 0));
  other.stop();
  ASSERT_TRUE(open(tcp).ok());
}

TEST_F(TcpHost, FindsSubsystemsByDiscovery) {
  target = std::make_unique<TcpTarget>();
  ASSERT_TRUE(open(tcp_options(std::string(kDiscoveryNqn))).ok());
  const auto found = read_discovery_log(*controller);
  ASSERT_TRUE(found) << found.error().to_string();
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[1].nqn, "nqn.2014-08.org.example:disk");
  EXPECT_EQ((*found)[1].address, "127.0.0.1");
  const auto addresses = addresses_of("nqn.2014-08.org.example:disk", *found);
  ASSERT_TRUE(addresses);
  ASSERT_EQ(addresses->size(), 1u);
  EXPECT_EQ((*addresses)[0].to_string(), target->address());
  const auto none = addresses_of("nqn.2014-08.org.example:other", *found);  // over RDMA alone
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), StatusCode::not_found);
  EXPECT_NE(none.error().to_string().find("nqn.2014-08.org.example:disk"), std::string::npos);
}

TEST_F(TcpHost, AQueueIsOpenedAgainWhileTheTargetStillHasTheLastOne) {
  start();
  target->faults.slow_teardown = 200ms;
  for (int i = 0; i < 3; ++i) {
    queue.reset();
    auto made = controller->open_queue_pair();
    ASSERT_TRUE(made) << made.error().to_string();
    queue = std::move(*made);
    std::vector<std::byte> data(4096);
    EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok);
  }
}

// ---- A target that breaks the protocol

// What is sent again and succeeds: the outcome of every fault that a new connection mends.
struct Fault {
  const char* name;
  std::atomic<int> TcpTargetFaults::*which;
  bool write;
  const char* said;
};
class TcpFault : public TcpHost, public testing::WithParamInterface<Fault> {};
INSTANTIATE_TEST_SUITE_P(
    All, TcpFault,
    testing::Values(
        Fault{"HeaderDigest", &TcpTargetFaults::wrong_header_digest, false, "digest is wrong"},
        Fault{"EarlyResponse", &TcpTargetFaults::early_response, true, ""},
        Fault{"WildRequest", &TcpTargetFaults::wild_request, true, "asks for data"},
        Fault{"WildData", &TcpTargetFaults::wild_data, false, "for a command with"},
        Fault{"UnknownCommand", &TcpTargetFaults::unknown_command, false, "which wants none"},
        Fault{"AnswerTwice", &TcpTargetFaults::answer_twice, true, "which nobody sent"},
        Fault{"DataTwice", &TcpTargetFaults::data_twice, false, "for a command with"},
        Fault{"BadHeader", &TcpTargetFaults::bad_header, false, "which no controller sends"},
        Fault{"Termination", &TcpTargetFaults::terminate, true, "PDU out of sequence"},
        Fault{"HalfAResponse", &TcpTargetFaults::close_in_response, true, "closed the connection"}),
    [](const auto& terms) { return terms.param.name; });

TEST_P(TcpFault, IsMendedByANewConnection) {
  start({.capsule_data = 0, .data_pdu = 8192}, true);
  std::vector<std::byte> data = pattern(16384, 1);
  ASSERT_EQ(run(write_command(1, 8, 4), data), StatusCode::ok);
  (target->faults.*GetParam().which) = 1;
  if (GetParam().write) {
    std::reverse(data.begin(), data.end());
    EXPECT_EQ(run(write_command(1, 8, 4), data), StatusCode::ok);
  }
  std::vector<std::byte> back(data.size());
  EXPECT_EQ(run(read_command(1, 8, 4), back), StatusCode::ok);
  EXPECT_TRUE(back == data);
  EXPECT_EQ(target->faults.*GetParam().which, 0);
  // The fault was noticed; by AnswerTwice perhaps before there was anything to send again.
  EXPECT_GE(controller->reset_count() + queue->counters().retried, 1u);
  EXPECT_TRUE(logged(GetParam().said)) << log.text();
}

TEST_F(TcpHost, DataWithAWrongDigestIsReadAgain) {
  start({}, true);
  std::vector<std::byte> data = pattern(8192, 3), back(8192);
  ASSERT_EQ(run(write_command(1, 0, 2), data), StatusCode::ok);
  target->faults.wrong_data_digest = 2;
  EXPECT_EQ(run(read_command(1, 0, 2), back), StatusCode::ok);
  EXPECT_TRUE(back == data);
  EXPECT_EQ(queue->counters().retried, 2u);
  EXPECT_EQ(controller->reset_count(), 0u) << "the connection is as good as before";
  target->faults.wrong_data_digest = 1000;
  EXPECT_EQ(run(read_command(1, 0, 2), back), StatusCode::io_error);
  target->faults.wrong_data_digest = 0;
}

TEST_F(TcpHost, HalfOfTheDataIsNotTakenForAllOfIt) {
  start();
  std::vector<std::byte> back(8192);
  target->faults.short_data = 1000;
  EXPECT_EQ(run(read_command(1, 0, 2), back), StatusCode::io_error);
}

TEST_F(TcpHost, SilenceEndsInANewConnection) {
  start();
  std::vector<std::byte> data = pattern(4096, 4), back(4096);
  ASSERT_EQ(run(write_command(1, 5, 1), data), StatusCode::ok);
  const uint64_t before = target->connections();
  target->faults.silent = true;
  Waited read(read_command(1, 5, 1), back);
  queue->submit(read.request);
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (controller->reset_count() == 0 && std::chrono::steady_clock::now() < end) {
    queue->wait(20ms);
  }
  target->faults.silent = false;
  ASSERT_TRUE(wait(read));
  EXPECT_GT(target->connections(), before);
  EXPECT_EQ(run(read_command(1, 5, 1), back), StatusCode::ok);
  EXPECT_TRUE(back == data);
}

// ---- Connections that are lost

TEST_F(TcpHost, KeepsTheConnectionAlive) {
  start();
  const auto end = std::chrono::steady_clock::now() + 20s;
  while (target->keep_alives() < 3 && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(20ms);
  }
  EXPECT_GE(target->keep_alives(), 3u);
  EXPECT_EQ(controller->reset_count(), 0u);
}

TEST_F(TcpHost, ALongAdminCommandDoesNotKeepKeepAlivesBack) {
  start();
  const uint64_t before = target->keep_alives();
  const Status status = controller->run_admin(format_command(1, 0), {}, {}, 60s);
  EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_GE(target->keep_alives(), before + 3);
  EXPECT_EQ(controller->reset_count(), 0u);
}

TEST_F(TcpHost, ATargetThatRestartsUnderLoadLosesNothing) {
  start();
  constexpr unsigned kWriters = 16;
  struct Writer {
    std::unique_ptr<Waited> waited;
    std::vector<std::byte> data;
    unsigned written = 0;
  };
  std::vector<Writer> writers(kWriters);
  const auto submit = [&](unsigned i) {
    Writer& writer = writers[i];
    writer.data = pattern(4096, i * 1000 + writer.written + 1);
    writer.waited = std::make_unique<Waited>(write_command(1, i, 1), writer.data);
    queue->submit(writer.waited->request);
  };
  for (unsigned i = 0; i < kWriters; ++i) submit(i);
  for (int restart = 0; restart < 2; ++restart) {
    for (int round = 0; round < 50; ++round) {
      queue->wait(20ms);
      for (unsigned i = 0; i < kWriters; ++i) {
        if (!writers[i].waited->done) continue;
        ASSERT_EQ(writers[i].waited->request.status, StatusCode::ok) << log.text();
        ++writers[i].written;
        submit(i);
      }
    }
    target->stop();
    for (int i = 0; i < 10; ++i) queue->wait(20ms);
    target->start();
    const uint64_t completed = queue->counters().completed;
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (queue->counters().completed == completed && std::chrono::steady_clock::now() < end) {
      queue->wait(20ms);
    }
  }
  for (Writer& writer : writers) {
    ASSERT_TRUE(wait(*writer.waited)) << log.text();
    EXPECT_EQ(writer.waited->request.status, StatusCode::ok);
  }
  for (unsigned i = 0; i < kWriters; ++i) EXPECT_TRUE(target->read(i, 1) == writers[i].data) << i;
  EXPECT_EQ(controller->reset_count(), 2u);
}

// The write is with the target when the connection ends, and is carried out only after the host could have sent it,
// and another, over a new one.
TEST_F(TcpHost, ALateWriteDoesNotUndoANewerOne) {
  target = std::make_unique<TcpTarget>();
  target->faults.late_by = 700ms;  // less than keep_alive
  start({}, false);
  target->faults.late_by = 700ms;
  target->faults.late_writes = 1;
  std::vector<std::byte> old_data = pattern(4096, 1), new_data = pattern(4096, 2);
  Waited first(write_command(1, 3, 1), old_data);
  queue->submit(first.request);
  for (int i = 0; i < 10 && target->faults.late_writes > 0; ++i) queue->wait(20ms);
  target->drop_connections();
  ASSERT_TRUE(wait(first));
  EXPECT_EQ(first.request.status, StatusCode::ok);
  EXPECT_EQ(run(write_command(1, 3, 1), new_data), StatusCode::ok);
  std::this_thread::sleep_for(1s);
  EXPECT_TRUE(target->read(3, 1) == new_data);
}

TEST_F(TcpHost, WritesThatAWriteCacheMayHaveLostAreNotCalledSafe) {
  start({.volatile_cache = true});
  std::vector<std::byte> data = pattern(4096, 1);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  target->stop();
  target->lose_cache();
  target->start();
  EXPECT_EQ(run(flush_command(1)), StatusCode::io_error);
  EXPECT_EQ(run(read_command(1, 3, 1), data), StatusCode::io_error)
      << "nothing works until it is opened again";
  EXPECT_TRUE(logged("writes that were not flushed are gone")) << log.text();
}

// It was there when it was taken down; what comes up at the second attempt may have lost its power meanwhile.
TEST_F(TcpHost, AControllerThatDoesNotComeBackAtOnceMayHaveLostItsCache) {
  start({.volatile_cache = true});
  std::vector<std::byte> data = pattern(4096, 1);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  target->faults.refuse_identify = 1;
  EXPECT_FALSE(controller->reset("the test wants it").ok());
  EXPECT_EQ(run(flush_command(1)), StatusCode::io_error);
  EXPECT_TRUE(logged("writes that were not flushed are gone")) << log.text();
}

TEST_F(TcpHost, AQueueThatCannotBeOpenedLeavesTheOthersAlone) {
  start({.volatile_cache = true});
  std::vector<std::byte> data = pattern(4096, 1);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  target->faults.close_in_connect = 1;
  const auto refused = controller->open_queue_pair();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().to_string().find("closed the connection"), std::string::npos)
      << refused.error().to_string();
  std::this_thread::sleep_for(1500ms);  // looks of the watch
  EXPECT_EQ(controller->reset_count(), 0u) << log.text();
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok);
  EXPECT_TRUE(controller->open_queue_pair());
}

TEST_F(TcpHost, FlushedWritesSurviveALostConnection) {
  start({.volatile_cache = true});
  std::vector<std::byte> data = pattern(4096, 1), back(4096);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  ASSERT_EQ(run(flush_command(1)), StatusCode::ok);
  ASSERT_EQ(run(write_command(1, 4, 1, kForceUnitAccess), data), StatusCode::ok);
  target->stop();
  target->lose_cache();
  target->start();
  EXPECT_EQ(run(read_command(1, 3, 1), back), StatusCode::ok) << log.text();
  EXPECT_TRUE(back == data);
  EXPECT_EQ(run(flush_command(1)), StatusCode::ok);
}

TEST_F(TcpHost, AnotherNamespaceUnderTheSameNumberIsNotWrittenTo) {
  start();
  std::vector<std::byte> data = pattern(4096, 1);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  target->stop();
  target->namespace_id = 7;
  target->start();
  std::vector<std::byte> other = pattern(4096, 2);
  EXPECT_EQ(run(write_command(1, 3, 1), other), StatusCode::io_error);
  EXPECT_TRUE(target->read(3, 1) == data);
  EXPECT_TRUE(logged("is not the one it was")) << log.text();
}

TEST_F(TcpHost, ATargetThatStaysAwayIsGivenUp) {
  ControllerOptions options = quick();
  options.reconnect_timeout = 1s;
  start({}, false, options);
  target->stop();
  std::vector<std::byte> data(4096);
  EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::io_error);
  EXPECT_TRUE(logged("given up")) << log.text();
  const auto another = controller->open_queue_pair();
  ASSERT_FALSE(another);
  EXPECT_EQ(another.error().code(), StatusCode::io_error);
}

TEST_F(TcpHost, ATargetThatNobodyWaitsForIsGivenUpWhileItIsSought) {
  ControllerOptions options = quick();
  options.reconnect_timeout = 24h;
  start({}, false, options);
  target->stop();
  std::vector<std::byte> data(4096);
  Waited waited(read_command(1, 0, 1), data);
  queue->submit(waited.request);
  EXPECT_FALSE(wait(waited, 3s)) << "it is sought";
  controller->set_reconnecting(false);
  ASSERT_TRUE(wait(waited));
  EXPECT_EQ(waited.request.status, StatusCode::io_error);
  EXPECT_TRUE(logged("given up")) << log.text();
}

TEST_F(TcpHost, ATargetThatNobodyWaitsForGetsOneAttempt) {
  ControllerOptions options = quick();
  options.reconnect_timeout = 24h;
  start({}, false, options);
  controller->set_reconnecting(false);
  std::vector<std::byte> data(4096);
  target->drop_connections();
  EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::ok) << log.text();
  target->stop();
  EXPECT_EQ(run(read_command(1, 0, 1), data), StatusCode::io_error);
}

TEST_F(TcpHost, AResetOnDemandNeedsNoWaiting) {
  start();
  std::vector<std::byte> data = pattern(4096, 1), back(4096);
  ASSERT_EQ(run(write_command(1, 3, 1), data), StatusCode::ok);
  const Status status = controller->reset("the test wants it");
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(run(read_command(1, 3, 1), back), StatusCode::ok);
  EXPECT_TRUE(back == data);
}

}  // namespace
}  // namespace basalt::nvme
