// RawHost: one connection to a target, byte by byte, for tests of what hosts do wrong. Blocking; one thread.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "targets/nvmf/tcp/listener.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/status.h"
#include "wire/nvme/tcp_pdu.h"
#include "wire/nvme/tls/tls_stream.h"

namespace basalt {

struct RawPdu {
  nvme::tcp::PduHeader header{};
  std::vector<std::byte> bytes;  // all of it
  template <class Struct>
  Struct as() const {
    Struct value;
    EXPECT_GE(bytes.size(), sizeof value);
    std::memcpy(static_cast<void*>(&value), bytes.data(), std::min(bytes.size(), sizeof value));
    return value;
  }
  nvme::tcp::PduType type() const { return static_cast<nvme::tcp::PduType>(header.type); }
};

// A command's answer: its completion and what data came.
struct RawAnswer {
  nvme::Completion completion{};
  std::vector<std::byte> data;
  nvme::CompletionStatus status() const { return completion.status(); }
};

class RawHost {
 public:
  explicit RawHost(const nvmf::ListenAddress& address)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.port)));
    ::inet_pton(AF_INET, address.host.c_str(), &to.sin_addr);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    const timeval patience{20, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }

  // From here on through TLS. What went wrong; "": nothing.
  std::string secure(const nvme::auth::TlsPsk& psk) {
    auto tls = nvme::TlsStream::connect(fd_.get(), psk, std::chrono::seconds(20));
    if (!tls) return tls.error().to_string();
    tls_ = std::move(*tls);
    return "";
  }
  void send(std::span<const std::byte> bytes) {
    if (tls_ == nullptr) {
      ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      return;
    }
    const iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    EXPECT_EQ(tls_->send({&piece, 1}), static_cast<ssize_t>(bytes.size()));
  }
  template <class Struct>
  void send(const Struct& value, std::span<const std::byte> data = {}) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    std::vector<std::byte> all(raw.begin(), raw.end());
    all.insert(all.end(), data.begin(), data.end());
    send(std::span<const std::byte>(all));
  }
  // Nothing: the target has closed the connection.
  std::optional<RawPdu> receive() {
    RawPdu pdu;
    if (!read(std::as_writable_bytes(std::span(&pdu.header, 1)))) return {};
    pdu.bytes.resize(std::max<size_t>(pdu.header.bytes, sizeof pdu.header));
    std::memcpy(pdu.bytes.data(), &pdu.header, sizeof pdu.header);
    if (!read(std::span(pdu.bytes).subspan(sizeof pdu.header))) return {};
    return pdu;
  }
  bool is_closed() { return !receive(); }
  // Nothing comes for so long.
  bool is_silent_for(int milliseconds) {
    pollfd ready{fd_.get(), POLLIN, 0};
    return ::poll(&ready, 1, milliseconds) == 0;
  }

  static nvme::tcp::ConnectionRequest connection_request() {
    nvme::tcp::ConnectionRequest request{};
    request.header = {.type = 0, .flags = 0, .header_bytes = 128, .data_offset = 0, .bytes = 128};
    return request;
  }
  void open() {
    send(connection_request());
    const auto response = receive();
    ASSERT_TRUE(response && response->type() == nvme::tcp::PduType::connection_response);
  }
  static nvme::tcp::CommandPdu capsule(const nvme::Command& command, size_t data_bytes) {
    nvme::tcp::CommandPdu pdu{};
    pdu.header = {.type = static_cast<uint8_t>(nvme::tcp::PduType::command),
                  .flags = 0,
                  .header_bytes = 72,
                  .data_offset = static_cast<uint8_t>(data_bytes > 0 ? 72 : 0),
                  .bytes = static_cast<uint32_t>(72 + data_bytes)};
    pdu.command = command;
    return pdu;
  }
  static void set_sgl(nvme::Command& command, size_t bytes, nvme::SglType type) {
    nvme::SglDescriptor sgl{};
    sgl.length = static_cast<uint32_t>(bytes);
    sgl.type = static_cast<uint8_t>(type);
    std::memcpy(static_cast<void*>(&command.data), &sgl, sizeof sgl);
    command.flags = static_cast<uint8_t>(command.flags | nvme::kDataIsSgl);
  }
  // Sends the command, with data in its capsule or with room for `wanted` bytes, and does not wait.
  void submit(nvme::Command command, std::span<const std::byte> data = {}, size_t wanted = 0) {
    if (!data.empty()) set_sgl(command, data.size(), nvme::SglType::in_capsule_data_block);
    if (wanted > 0) set_sgl(command, wanted, nvme::SglType::transport_data_block);
    command.flags = static_cast<uint8_t>(command.flags | nvme::kDataIsSgl);
    send(capsule(command, data.size()), data);
  }
  // What comes up to the next completion.
  RawAnswer answer() {
    RawAnswer result;
    while (const auto pdu = receive()) {
      if (pdu->type() == nvme::tcp::PduType::controller_data) {
        const auto data = pdu->as<nvme::tcp::DataPdu>();
        result.data.assign(pdu->bytes.begin() + pdu->header.data_offset, pdu->bytes.end());
        EXPECT_EQ(result.data.size(), data.length);
        continue;
      }
      EXPECT_EQ(pdu->type(), nvme::tcp::PduType::response);
      result.completion = pdu->as<nvme::tcp::ResponsePdu>().completion;
      return result;
    }
    ADD_FAILURE() << "the connection ended before the answer";
    return result;
  }
  RawAnswer run(const nvme::Command& command, std::span<const std::byte> data = {},
                size_t wanted = 0) {
    submit(command, data, wanted);
    return answer();
  }

  static nvme::ConnectData connect_data(std::string_view nqn, uint16_t controller_id,
                                        std::string_view host = "nqn.2014-08.org.example:host") {
    nvme::ConnectData data{};
    data.host_id[0] = 1;
    data.controller_id = controller_id;
    std::copy(nqn.begin(), nqn.end(), data.subsystem_nqn);
    std::copy(host.begin(), host.end(), data.host_nqn);
    return data;
  }
  RawAnswer connect(const nvme::ConnectData& data, uint16_t queue_id, uint32_t entries = 32,
                    uint32_t keep_alive_ms = 0) {
    return run(nvme::connect_command(queue_id, entries, keep_alive_ms),
               std::as_bytes(std::span(&data, 1)));
  }
  // An admin queue, its controller enabled.
  uint16_t become_admin(std::string_view nqn, uint32_t keep_alive_ms = 0) {
    open();
    const RawAnswer connected =
        connect(connect_data(nqn, nvme::kAnyController), 0, 32, keep_alive_ms);
    EXPECT_TRUE(connected.status().ok()) << nvme::describe(connected.status());
    EXPECT_TRUE(run(nvme::property_set_command(nvme::Register::configuration,
                                               nvme::kEnable | nvme::kEntrySizes))
                    .status()
                    .ok());
    return nvme::ConnectResult{connected.completion.result}.controller_id();
  }
  void become_io(std::string_view nqn, uint16_t controller_id, uint16_t queue_id = 1) {
    open();
    const RawAnswer connected = connect(connect_data(nqn, controller_id), queue_id);
    EXPECT_TRUE(connected.status().ok()) << nvme::describe(connected.status());
  }

 private:
  bool read(std::span<std::byte> into) {
    while (!into.empty()) {
      const iovec piece{into.data(), into.size()};
      const ssize_t got = tls_ != nullptr ? tls_->receive({&piece, 1})
                                          : ::recv(fd_.get(), into.data(), into.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      pollfd ready{fd_.get(), POLLIN, 0};
      if (got < 0 && tls_ != nullptr && errno == EAGAIN && ::poll(&ready, 1, 20'000) == 1) continue;
      if (got <= 0) return false;
      into = into.subspan(static_cast<size_t>(got));
    }
    return true;
  }
  UniqueFd fd_;
  std::unique_ptr<nvme::TlsStream> tls_;
};

}  // namespace basalt
