// See authentication.h.
#include "targets/nvmf/authentication.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace basalt::nvmf {

using namespace nvme::auth;

namespace {

// What is taken of what the host offers, the best first. The larger groups cost us tenths of a second for whoever asks.
constexpr std::array kHashes = {Hash::sha512, Hash::sha384, Hash::sha256};
constexpr std::array kGroups = {Group::ffdhe2048, Group::ffdhe3072, Group::ffdhe4096, Group::none};

template <class Struct>
void append(std::vector<std::byte>& message, const Struct& part) {
  const auto bytes = std::as_bytes(std::span(&part, 1));
  message.insert(message.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& message, const Bytes& part) {
  const auto bytes = std::as_bytes(std::span(part));
  message.insert(message.end(), bytes.begin(), bytes.end());
}

// The first of `wanted` that is among those offered; nothing: none is.
template <class Kind, size_t kCount>
std::optional<Kind> choose(const std::array<Kind, kCount>& wanted,
                           std::span<const uint8_t> offered) {
  for (const Kind kind : wanted) {
    if (std::find(offered.begin(), offered.end(), static_cast<uint8_t>(kind)) != offered.end()) {
      return kind;
    }
  }
  return {};
}

}  // namespace

void Authenticator::fail(Explanation why, std::string failure) {
  stage_ = Stage::failure1;
  explanation_ = why;
  failure_ = std::move(failure);
}

MessageHeader Authenticator::header(MessageType type, MessageId id) const {
  return {.type = static_cast<uint8_t>(type),
          .id = static_cast<uint8_t>(id),
          .reserved2 = {},
          .transaction = transaction_};
}

template <class Struct>
bool Authenticator::read(std::span<const std::byte> message, Struct& value) {
  if (message.size() < sizeof value) {
    fail(Explanation::incorrect_payload, "a message of " + std::to_string(message.size()) + " B");
    return false;
  }
  std::memcpy(static_cast<void*>(&value), message.data(), sizeof value);
  return true;
}

void Authenticator::take(std::span<const std::byte> message) {
  MessageHeader head;
  if (!read(message, head)) return;
  const auto id = static_cast<MessageId>(head.id);
  const bool is_negotiate = head.type == static_cast<uint8_t>(MessageType::common) &&
                            id == MessageId::negotiate && stage_ == Stage::negotiate;
  if (is_negotiate) return take_negotiate(message);
  const bool fits =
      head.type == static_cast<uint8_t>(MessageType::dhchap) && head.transaction == transaction_;
  if (fits && id == MessageId::reply && stage_ == Stage::reply) return take_reply(message);
  if (fits && id == MessageId::success2 && stage_ == Stage::success2) {
    stage_ = Stage::done;
    return;
  }
  if (fits && id == MessageId::failure2 && stage_ == Stage::success2) {
    stage_ = Stage::failed;
    failure_ = "the host does not take the controller's proof: is it the right secret?";
    return;
  }
  fail(Explanation::incorrect_message,
       "message " + std::to_string(head.id) + " is out of its order");
}

void Authenticator::take_negotiate(std::span<const std::byte> message) {
  Negotiate offer;
  if (!read(message, offer)) return;
  transaction_ = offer.header.transaction;
  if (offer.secure_channel != 0) {
    return fail(Explanation::secure_channel_mismatch, "the host wants a key for TLS made of it");
  }
  if (offer.protocols == 0 || offer.protocol.id != kDhchap) {
    return fail(Explanation::no_protocol, "the host offers no DH-HMAC-CHAP");
  }
  const auto& protocol = offer.protocol;
  if (protocol.hash_count > sizeof protocol.hashes ||
      protocol.group_count > sizeof protocol.groups) {
    return fail(Explanation::incorrect_payload, "an offer longer than its list");
  }
  const auto hash = choose(kHashes, std::span(protocol.hashes).first(protocol.hash_count));
  if (!hash) return fail(Explanation::no_hash, "no hash in common");
  const auto group = choose(kGroups, std::span(protocol.groups).first(protocol.group_count));
  if (!group) return fail(Explanation::no_group, "no Diffie-Hellman group in common");
  hash_ = *hash;
  group_ = *group;
  challenge_.resize(hash_bytes(hash_));
  Status status = fill_random(challenge_);
  while (status.ok() && sequence_ == 0) {
    status = fill_random({reinterpret_cast<uint8_t*>(&sequence_), sizeof sequence_});
  }
  if (status.ok() && group_ != Group::none) {
    auto exchange = KeyExchange::create(group_);
    if (exchange) {
      exchange_.emplace(std::move(*exchange));
    } else {
      status = exchange.error();
    }
  }
  if (!status.ok()) return fail(Explanation::failed, status.to_string());
  stage_ = Stage::challenge;
}

void Authenticator::take_reply(std::span<const std::byte> message) {
  Reply reply;
  if (!read(message, reply)) return;
  const size_t bytes = challenge_.size();
  const size_t exchange = exchange_ ? exchange_->public_value().size() : 0;
  if (reply.hash_bytes != bytes || reply.exchange_bytes != exchange ||
      message.size() < sizeof reply + 2 * bytes + exchange) {
    return fail(Explanation::incorrect_payload,
                "a reply with a hash of " + std::to_string(reply.hash_bytes) +
                    " B and a Diffie-Hellman value of " + std::to_string(reply.exchange_bytes));
  }
  const auto* const at = reinterpret_cast<const uint8_t*>(message.data()) + sizeof reply;
  const View told(at, bytes), host_challenge(at + bytes, bytes), value(at + 2 * bytes, exchange);
  Bytes shared;
  if (exchange_) {
    auto secret = exchange_->shared_secret(value);
    if (!secret) return fail(Explanation::incorrect_payload, secret.error().to_string());
    shared = std::move(*secret);
  }
  const Bytes expected = response(hash_, secrets_.host.key_of(host_nqn_),
                                  augmented_challenge(hash_, challenge_, shared), sequence_,
                                  transaction_, kHostRole, host_nqn_, subsystem_nqn_);
  if (!equal(told, expected)) {
    return fail(Explanation::failed, "the host has not proved that it knows its secret");
  }
  if (reply.challenge_valid == 1) {
    if (!secrets_.controller) {
      return fail(Explanation::failed,
                  "the host wants a proof, and there is no controller's secret");
    }
    proof_ = response(hash_, secrets_.controller->key_of(subsystem_nqn_),
                      augmented_challenge(hash_, host_challenge, shared), reply.sequence,
                      transaction_, kControllerRole, subsystem_nqn_, host_nqn_);
  }
  stage_ = Stage::success1;
}

std::vector<std::byte> Authenticator::give() {
  std::vector<std::byte> message;
  switch (stage_) {
    case Stage::challenge: {
      Challenge challenge{};
      challenge.header = header(MessageType::dhchap, MessageId::challenge);
      challenge.hash_bytes = static_cast<uint8_t>(challenge_.size());
      challenge.hash = static_cast<uint8_t>(hash_);
      challenge.group = static_cast<uint8_t>(group_);
      const Bytes value = exchange_ ? exchange_->public_value() : Bytes();
      challenge.exchange_bytes = static_cast<uint16_t>(value.size());
      challenge.sequence = sequence_;
      append(message, challenge);
      append(message, challenge_);
      append(message, value);
      stage_ = Stage::reply;
      break;
    }
    case Stage::success1: {
      Success1 success{};
      success.header = header(MessageType::dhchap, MessageId::success1);
      success.hash_bytes = static_cast<uint8_t>(challenge_.size());
      success.response_valid = proof_.empty() ? 0 : 1;
      append(message, success);
      append(message, proof_);
      stage_ = proof_.empty() ? Stage::done : Stage::success2;
      break;
    }
    case Stage::failure1: {
      Failure failure{};
      failure.header = header(MessageType::common, MessageId::failure1);
      failure.reason = 1;
      failure.explanation = static_cast<uint8_t>(explanation_);
      append(message, failure);
      stage_ = Stage::failed;
      break;
    }
    default: break;
  }
  return message;
}

}  // namespace basalt::nvmf
