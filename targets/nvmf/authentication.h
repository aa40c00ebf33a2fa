// The controller's side of DH-HMAC-CHAP on one queue, between its Connect and everything else.
//
// NVM Express base specification 2.0, §8.13.5. The host proves that it knows its secret; a host that asks for it is given
// the controller's proof. Messages come by Authentication Send and go by Authentication Receive; what is wrong with one is
// told by the next.
//
// Threads: one at a time. take() computes for milliseconds: not on a reactor.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "wire/nvme/auth/messages.h"
#include "wire/nvme/auth/secret.h"

namespace basalt::nvmf {

// What is known of a host. The controller's secret: for hosts that want a proof too; without it they are refused.
struct HostSecrets {
  nvme::auth::Secret host;
  std::optional<nvme::auth::Secret> controller;
};

class Authenticator {
 public:
  Authenticator(HostSecrets secrets, std::string host_nqn, std::string subsystem_nqn)
      : secrets_(std::move(secrets)),
        host_nqn_(std::move(host_nqn)),
        subsystem_nqn_(std::move(subsystem_nqn)) {}

  // A message of the host's.
  void take(std::span<const std::byte> message);
  // What is to be told next; empty: nothing, which is an error of the host's.
  std::vector<std::byte> give();

  bool done() const { return stage_ == Stage::done; }
  // It has, for good; and was told, if it is to be.
  bool failed() const { return stage_ == Stage::failed; }
  // Why, for the log.
  const std::string& failure() const { return failure_; }

 private:
  enum class Stage : uint8_t {
    negotiate,  // the host's message that is due, or ours
    challenge,
    reply,
    success1,
    success2,
    failure1,
    done,
    failed,
  };
  void fail(nvme::auth::Explanation why, std::string failure);
  void take_negotiate(std::span<const std::byte> message);
  void take_reply(std::span<const std::byte> message);
  template <class Struct>
  bool read(std::span<const std::byte> message, Struct& value);
  nvme::auth::MessageHeader header(nvme::auth::MessageType type, nvme::auth::MessageId id) const;

  const HostSecrets secrets_;
  const std::string host_nqn_, subsystem_nqn_;
  Stage stage_ = Stage::negotiate;
  uint16_t transaction_ = 0;
  nvme::auth::Hash hash_ = nvme::auth::Hash::sha256;
  nvme::auth::Group group_ = nvme::auth::Group::none;
  nvme::auth::Bytes challenge_;
  uint32_t sequence_ = 0;
  std::optional<nvme::auth::KeyExchange> exchange_;
  nvme::auth::Bytes proof_;  // ours, if the host wants one
  nvme::auth::Explanation explanation_{};
  std::string failure_;
};

}  // namespace basalt::nvmf
