// TcpHost: the fixture of tests that have an NVMe/TCP host and a TcpTarget.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "nvme/controller.h"
#include "nvme/kept_log.h"
#include "nvme/tcp/tcp_transport.h"
#include "nvme/tcp_target.h"
#include "nvme/waited.h"

namespace basalt::nvme {

using namespace std::chrono_literals;

class TcpHost : public testing::Test {
 protected:
  void SetUp() override {
    ContextOptions options;
    options.log = &log;
    context = std::move(*Context::create(options));
  }
  void TearDown() override {
    queue.reset();
    controller.reset();
  }

  TcpOptions tcp_options(const std::string& nqn = kSubsystemNqn) const {
    TcpOptions tcp;
    tcp.addresses = {*TcpAddress::parse(target->address(), kIoPort)};
    tcp.subsystem_nqn = nqn;
    tcp.host = *HostIdentity::of_this_host("/nonexistent");
    tcp.host.nqn = kHostNqn;
    tcp.tls_key = tls_key;
    tcp.keep_alive = 1s;
    tcp.connect_timeout = 2s;
    return tcp;
  }
  // Short enough for a test, long enough for a loaded machine.
  static ControllerOptions quick() {
    return {.queue_depth = 32,
            .queue_pairs = 4,
            .admin_timeout = 2s,
            .command_timeout = 1s,
            .abort_grace = 500ms,
            .reconnect_timeout = 20s};
  }
  Status open(TcpOptions tcp, const ControllerOptions& options = quick()) {
    auto transport = TcpTransport::create(std::move(tcp));
    if (!transport) return transport.error();
    auto opened = Controller::open(host(*context), std::move(*transport), options);
    if (!opened) return opened.error();
    controller = std::move(*opened);
    return {};
  }
  void start(const TcpTargetOptions& options = {}, bool digests = false,
             const ControllerOptions& controller_options = quick()) {
    target = std::make_unique<TcpTarget>(options);
    TcpOptions tcp = tcp_options();
    tcp.header_digest = tcp.data_digest = digests;
    const Status opened = open(std::move(tcp), controller_options);
    ASSERT_TRUE(opened.ok()) << opened.to_string();
    auto made = controller->open_queue_pair();
    ASSERT_TRUE(made) << made.error().to_string();
    queue = std::move(*made);
  }

  bool wait(const Waited& waited, Duration limit = 30s) const {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!waited.done && std::chrono::steady_clock::now() < end) queue->wait(20ms);
    return waited.done;
  }
  StatusCode run(const Command& command, std::span<std::byte> data = {}) const {
    Waited waited(command, data);
    queue->submit(waited.request);
    if (!wait(waited)) ADD_FAILURE() << "a command did not come back";
    return waited.request.status;
  }
  static std::vector<std::byte> pattern(size_t bytes, unsigned seed) {
    std::vector<std::byte> data(bytes);
    for (size_t i = 0; i < bytes; ++i) {
      data[i] = static_cast<std::byte>((i * 2654435761u >> 13) + seed * 31);
    }
    return data;
  }
  bool logged(const std::string& text) const { return log.text().find(text) != std::string::npos; }

  static constexpr const char* kHostNqn = "nqn.2014-08.org.example:host";
  static constexpr const char* kSubsystemNqn = "nqn.2014-08.org.example:disk";
  std::optional<auth::TlsKey> tls_key;  // of the host
  KeptLog log;
  std::unique_ptr<TcpTarget> target;
  std::unique_ptr<Context> context;
  std::unique_ptr<Controller> controller;
  std::unique_ptr<QueuePair> queue;
};

}  // namespace basalt::nvme
