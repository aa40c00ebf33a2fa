// See authentication.h.
#include "nvme/tcp/authentication.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/try.h"
#include "wire/nvme/auth/messages.h"

namespace basalt::nvme {

namespace {

using auth::Bytes;
using auth::Explanation;
using auth::Group;
using auth::Hash;
using auth::MessageId;
using auth::MessageType;
using auth::View;

constexpr size_t kMessageBytes = 4096;
constexpr std::array kHashes = {Hash::sha256, Hash::sha384, Hash::sha512};
constexpr std::array kGroups = {Group::none,      Group::ffdhe2048, Group::ffdhe3072,
                                Group::ffdhe4096, Group::ffdhe6144, Group::ffdhe8192};

auth::MessageHeader header_of(MessageType type, MessageId id, uint16_t transaction) {
  return {.type = static_cast<uint8_t>(type),
          .id = static_cast<uint8_t>(id),
          .reserved2 = {},
          .transaction = transaction};
}

template <class Struct>
void append(std::vector<std::byte>& message, const Struct& part) {
  const auto bytes = std::as_bytes(std::span(&part, 1));
  message.insert(message.end(), bytes.begin(), bytes.end());
}
void append(std::vector<std::byte>& message, const Bytes& part) {
  const auto bytes = std::as_bytes(std::span(part));
  message.insert(message.end(), bytes.begin(), bytes.end());
}

const char* explanation_text(uint8_t explanation) {
  switch (static_cast<Explanation>(explanation)) {
    case Explanation::failed: return "authentication failed: is it the right secret?";
    case Explanation::no_protocol: return "no authentication protocol in common";
    case Explanation::secure_channel_mismatch: return "the target wants a secure channel (TLS)";
    case Explanation::no_hash: return "no hash in common";
    case Explanation::no_group: return "no Diffie-Hellman group in common";
    case Explanation::incorrect_payload: return "incorrect payload";
    case Explanation::incorrect_message: return "incorrect protocol message";
  }
  return "for a reason it does not give";
}

// Reads one message, and what its first struct says, if it is the one that is due.
template <class Struct>
Status receive(AuthenticationChannel& channel, std::span<std::byte> message, MessageId due,
               uint16_t transaction, Struct& first) {
  std::fill(message.begin(), message.end(), std::byte{0});
  BASALT_TRY(channel.receive(message));
  auth::Failure failure;
  std::memcpy(static_cast<void*>(&failure), message.data(), sizeof failure);
  const auth::MessageHeader& header = failure.header;
  if (header.id == static_cast<uint8_t>(MessageId::failure1)) {
    const auto why = static_cast<Explanation>(failure.explanation);
    const bool mismatch = why == Explanation::no_protocol || why == Explanation::no_hash ||
                          why == Explanation::no_group;
    return {mismatch ? StatusCode::unsupported : StatusCode::permission_denied,
            std::string("the target says: ") + explanation_text(failure.explanation)};
  }
  if (header.type != static_cast<uint8_t>(MessageType::dhchap) ||
      header.id != static_cast<uint8_t>(due) || header.transaction != transaction) {
    return {StatusCode::corruption, "message " + std::to_string(header.id) + " of transaction " +
                                        std::to_string(header.transaction) + " where " +
                                        std::to_string(static_cast<int>(due)) + " of " +
                                        std::to_string(transaction) + " is due"};
  }
  std::memcpy(static_cast<void*>(&first), message.data(), sizeof first);
  return {};
}

Status negotiate(AuthenticationChannel& channel, uint16_t transaction) {
  auth::Negotiate message{};
  message.header = header_of(MessageType::common, MessageId::negotiate, transaction);
  message.protocols = 1;
  message.protocol.id = auth::kDhchap;
  message.protocol.hash_count = kHashes.size();
  message.protocol.group_count = kGroups.size();
  for (size_t i = 0; i < kHashes.size(); ++i) {
    message.protocol.hashes[i] = static_cast<uint8_t>(kHashes[i]);
  }
  for (size_t i = 0; i < kGroups.size(); ++i) {
    message.protocol.groups[i] = static_cast<uint8_t>(kGroups[i]);
  }
  return channel.send(std::as_bytes(std::span(&message, 1)));
}

// What the controller asks, taken apart.
struct Question {
  Hash hash = Hash::sha256;
  Group group = Group::none;
  Bytes challenge;
  Bytes exchange;
  uint32_t sequence = 0;
};

Result<Question> take_challenge(AuthenticationChannel& channel, std::span<std::byte> message,
                                uint16_t transaction) {
  auth::Challenge challenge;
  BASALT_TRY(receive(channel, message, MessageId::challenge, transaction, challenge));
  Question question{.hash = static_cast<Hash>(challenge.hash),
                    .group = static_cast<Group>(challenge.group),
                    .challenge = {},
                    .exchange = {},
                    .sequence = challenge.sequence};
  const size_t bytes = auth::hash_bytes(question.hash);
  if (bytes == 0 || bytes != challenge.hash_bytes) {
    return error(StatusCode::corruption, "a challenge of " + std::to_string(challenge.hash_bytes) +
                                             " B with hash " + std::to_string(challenge.hash));
  }
  const bool exchanges = question.group != Group::none;
  if (exchanges != (challenge.exchange_bytes != 0) ||
      sizeof challenge + bytes + challenge.exchange_bytes > message.size()) {
    return error(StatusCode::corruption, "a Diffie-Hellman value of " +
                                             std::to_string(challenge.exchange_bytes) +
                                             " B with group " + std::to_string(challenge.group));
  }
  const auto* at = reinterpret_cast<const uint8_t*>(message.data()) + sizeof challenge;
  question.challenge.assign(at, at + bytes);
  question.exchange.assign(at + bytes, at + bytes + challenge.exchange_bytes);
  return question;
}

}  // namespace

Status authenticate(AuthenticationChannel& channel, const Credentials& credentials,
                    const std::string& host_nqn, const std::string& subsystem_nqn,
                    uint16_t transaction) {
  if (!credentials.host) {
    return {StatusCode::permission_denied,
            "the target requires authentication; give this host's secret"};
  }
  std::vector<std::byte> message(kMessageBytes);
  BASALT_TRY(negotiate(channel, transaction));
  BASALT_TRY_ASSIGN(const Question question, take_challenge(channel, message, transaction));

  Bytes shared, public_value;
  if (question.group != Group::none) {
    BASALT_TRY_ASSIGN(const auth::KeyExchange exchange, auth::KeyExchange::create(question.group));
    BASALT_TRY_ASSIGN(shared, exchange.shared_secret(question.exchange));
    public_value = exchange.public_value();
  }
  const bool mutual = credentials.controller.has_value();
  Bytes own_challenge(auth::hash_bytes(question.hash));
  uint32_t own_sequence = 0;
  if (mutual) {
    BASALT_TRY(auth::fill_random(own_challenge));
    while (own_sequence == 0) {
      BASALT_TRY(
          auth::fill_random({reinterpret_cast<uint8_t*>(&own_sequence), sizeof own_sequence}));
    }
  }
  auth::Reply reply{};
  reply.header = header_of(MessageType::dhchap, MessageId::reply, transaction);
  reply.hash_bytes = static_cast<uint8_t>(own_challenge.size());
  reply.challenge_valid = mutual ? 1 : 0;
  reply.exchange_bytes = static_cast<uint16_t>(public_value.size());
  reply.sequence = own_sequence;
  std::vector<std::byte> answer;
  append(answer, reply);
  append(answer,
         auth::response(question.hash, credentials.host->key_of(host_nqn),
                        auth::augmented_challenge(question.hash, question.challenge, shared),
                        question.sequence, transaction, auth::kHostRole, host_nqn, subsystem_nqn));
  append(answer, own_challenge);
  append(answer, public_value);
  BASALT_TRY(channel.send(answer));

  auth::Success1 success;
  BASALT_TRY(receive(channel, message, MessageId::success1, transaction, success));
  if (!mutual) return {};
  const Bytes expected =
      auth::response(question.hash, credentials.controller->key_of(subsystem_nqn),
                     auth::augmented_challenge(question.hash, own_challenge, shared), own_sequence,
                     transaction, auth::kControllerRole, subsystem_nqn, host_nqn);
  const View told(reinterpret_cast<const uint8_t*>(message.data()) + sizeof success,
                  expected.size());
  if (success.response_valid != 1 || success.hash_bytes != expected.size() ||
      !auth::equal(told, expected)) {
    auth::Failure failure{};
    failure.header = header_of(MessageType::dhchap, MessageId::failure2, transaction);
    failure.reason = 1;
    failure.explanation = static_cast<uint8_t>(Explanation::failed);
    [[maybe_unused]] const Status too_late = channel.send(std::as_bytes(std::span(&failure, 1)));
    return {StatusCode::permission_denied,
            "the target has not proved that it knows the controller's secret"};
  }
  auth::Success2 done{};
  done.header = header_of(MessageType::dhchap, MessageId::success2, transaction);
  return channel.send(std::as_bytes(std::span(&done, 1)));
}

}  // namespace basalt::nvme
