// DH-HMAC-CHAP: secrets and responses against vectors computed with Python's hmac and hashlib, and whole
// conversations with a controller of the test's own, right and wrong.
#include "nvme/tcp/authentication.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "wire/nvme/auth/messages.h"

namespace basalt::nvme {
namespace {

using namespace auth;

const std::string kHostNqn = "nqn.2014-08.org.example:host";
const std::string kSubsystemNqn = "nqn.2014-08.org.example:disk";

std::string hex_of(View bytes) {
  std::string text;
  for (const uint8_t byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

struct Vector {
  const char* secret;
  const char* key;
};
constexpr Vector kSecrets[] = {
    {"DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:",
     "20272e353c434a51585f666d747b828990979ea5acb3bac1c8cfd6dde4ebf2f9"},
    {"DHHC-1:01:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:",
     "9e7b61033b82c4307fbdab6d9c0d3181f881516429c95c75d71b5ff74c893457"},
    {"DHHC-1:02:MDc+RUxTWmFob3Z9hIuSmaCnrrW8w8rR2N/m7fT7AgkQFx4lLDM6QUhPVl1ka3J51wkKvA==:",
     "8178c63a0201001e9b34a8f40e8f7f8592a84c4e71a3009335b1d818ee7a55a840c881a9d9efd38f82bdccce6cd4c"
     "ec7"},
    {"DHHC-1:03:QEdOVVxjanF4f4aNlJuiqbC3vsXM09rh6O/2/"
     "QQLEhkgJy41PENKUVhfZm10e4KJkJeepayzusHIz9bd5Ovy+eQYloY=:",
     "24eef26a7f2f201fcc79217b26e4e24c55e7ff07ad7033e95e211ec66361e50b536c36d5863f268679065680d2f7a"
     "71b05242004bd5427af66120f79a04601b2"},
};

TEST(DhchapSecret, IsTransformedByItsHash) {
  for (const Vector& vector : kSecrets) {
    const auto secret = Secret::parse(vector.secret);
    ASSERT_TRUE(secret) << secret.error().to_string();
    EXPECT_EQ(hex_of(secret->key_of(kHostNqn)), vector.key);
  }
}

TEST(DhchapSecret, SaysWhatIsWrongAndNotWhatItIs) {
  const std::string good = kSecrets[0].secret;
  std::vector<std::string> wrong = {"",
                                    "DHHC-1:",
                                    "DHHC-1:00:",
                                    "DHHC-1:00::",
                                    "DHHC-1:04:" + good.substr(10),
                                    good.substr(0, good.size() - 1),
                                    "DHHC-1:00:AAAA:",
                                    good.substr(0, 12) + "*" + good.substr(13)};
  std::string flipped = good;
  flipped[20] = flipped[20] == 'A' ? 'B' : 'A';
  wrong.push_back(flipped);
  for (const std::string& text : wrong) {
    const auto secret = Secret::parse(text);
    ASSERT_FALSE(secret) << text;
    EXPECT_EQ(secret.error().code(), StatusCode::invalid_argument);
    if (text.size() > 30) {
      EXPECT_EQ(secret.error().to_string().find(text.substr(11, 10)), std::string::npos);
    }
  }
}

TEST(Dhchap, ComputesWhatTheSpecificationSays) {
  Bytes challenge(32), shared(256);
  for (size_t i = 0; i < challenge.size(); ++i) challenge[i] = static_cast<uint8_t>(i);
  for (size_t i = 0; i < shared.size(); ++i) shared[i] = static_cast<uint8_t>(255 - i);
  const Bytes key = Secret::parse(kSecrets[0].secret)->key_of(kHostNqn);
  const Bytes augmented = augmented_challenge(Hash::sha256, challenge, shared);
  EXPECT_EQ(hex_of(augmented), "10402d095b87654717e4ce11eeacdbd745da1125ca85cbb0e3501092b9ea3333");
  EXPECT_EQ(hex_of(response(Hash::sha256, key, augmented, 0x01020304, 7, kHostRole, kHostNqn,
                            kSubsystemNqn)),
            "5d440e669039634960e7183df6d25ae04e2a26857c5b50d9c324f3bb531e4f47");
  EXPECT_EQ(hex_of(response(Hash::sha256, key, augmented_challenge(Hash::sha256, challenge, {}),
                            0x01020304, 7, kControllerRole, kSubsystemNqn, kHostNqn)),
            "001f6c29413e30a85cf65fb1745d63b6cea8d82b7fe4f7d6a3e46b78d2a93aed");
}

TEST(Dhchap, BothSidesOfAnExchangeShareASecret) {
  for (const Group group : {Group::ffdhe2048, Group::ffdhe3072}) {
    const auto one = KeyExchange::create(group), other = KeyExchange::create(group);
    ASSERT_TRUE(one && other);
    const auto a = one->shared_secret(other->public_value());
    const auto b = other->shared_secret(one->public_value());
    ASSERT_TRUE(a && b);
    EXPECT_EQ(*a, *b);
    EXPECT_EQ(a->size(), one->public_value().size());
    // Values that would give the secret away.
    Bytes value(one->public_value().size());
    EXPECT_FALSE(one->shared_secret(value));
    value.back() = 1;
    EXPECT_FALSE(one->shared_secret(value));
    value.assign(value.size(), 0xff);
    EXPECT_FALSE(one->shared_secret(value));
    EXPECT_FALSE(one->shared_secret({}));
  }
  EXPECT_FALSE(KeyExchange::create(Group::none));
  EXPECT_FALSE(KeyExchange::create(static_cast<Group>(9)));
}

// The controller's side.
class TestController final : public AuthenticationChannel {
 public:
  Hash hash = Hash::sha256;
  Group group = Group::none;
  Secret host_secret = *Secret::parse(kSecrets[0].secret);
  Secret own_secret = *Secret::parse(kSecrets[2].secret);
  void (*spoil)(std::vector<std::byte>& message) = nullptr;  // of each message sent
  bool accepted = false, proven = false, refused_by_host = false;

  Status send(std::span<const std::byte> message) override {
    MessageHeader header;
    std::memcpy(static_cast<void*>(&header), message.data(), sizeof header);
    transaction_ = header.transaction;
    switch (static_cast<MessageId>(header.id)) {
      case MessageId::negotiate:
        EXPECT_EQ(message.size(), sizeof(Negotiate));
        ask();
        break;
      case MessageId::reply: judge(message); break;
      case MessageId::success2: proven = true; break;
      case MessageId::failure2: refused_by_host = true; break;
      default: ADD_FAILURE() << "message " << int{header.id};
    }
    return {};
  }
  Status receive(std::span<std::byte> message) override {
    if (spoil != nullptr) spoil(next_);
    std::memcpy(message.data(), next_.data(), std::min(message.size(), next_.size()));
    return {};
  }

 private:
  template <class Struct>
  void put(const Struct& first, std::initializer_list<Bytes> rest) {
    const auto bytes = std::as_bytes(std::span(&first, 1));
    next_.assign(bytes.begin(), bytes.end());
    for (const Bytes& part : rest) {
      const auto more = std::as_bytes(std::span(part));
      next_.insert(next_.end(), more.begin(), more.end());
    }
  }
  MessageHeader header(MessageId id) const {
    return {
        .type = 1, .id = static_cast<uint8_t>(id), .reserved2 = {}, .transaction = transaction_};
  }
  void ask() {
    challenge_.resize(hash_bytes(hash));
    EXPECT_TRUE(fill_random(challenge_).ok());
    Bytes value;
    if (group != Group::none) {
      exchange_ = std::make_unique<KeyExchange>(std::move(*KeyExchange::create(group)));
      value = exchange_->public_value();
    }
    Challenge message{};
    message.header = header(MessageId::challenge);
    message.hash_bytes = static_cast<uint8_t>(challenge_.size());
    message.hash = static_cast<uint8_t>(hash);
    message.group = static_cast<uint8_t>(group);
    message.exchange_bytes = static_cast<uint16_t>(value.size());
    message.sequence = 77;
    put(message, {challenge_, value});
  }
  void judge(std::span<const std::byte> message) {
    Reply reply;
    ASSERT_GE(message.size(), sizeof reply);
    std::memcpy(static_cast<void*>(&reply), message.data(), sizeof reply);
    const size_t bytes = hash_bytes(hash);
    ASSERT_EQ(reply.hash_bytes, bytes);
    ASSERT_EQ(message.size(), sizeof reply + 2 * bytes + reply.exchange_bytes);
    const auto* at = reinterpret_cast<const uint8_t*>(message.data()) + sizeof reply;
    const View told(at, bytes), its_challenge(at + bytes, bytes),
        value(at + 2 * bytes, reply.exchange_bytes);
    Bytes shared;
    if (exchange_ != nullptr) shared = exchange_->shared_secret(value).value();
    accepted = equal(told, response(hash, host_secret.key_of(kHostNqn),
                                    augmented_challenge(hash, challenge_, shared), 77, transaction_,
                                    kHostRole, kHostNqn, kSubsystemNqn));
    if (!accepted) {
      Failure failure{};
      failure.header = header(MessageId::failure1);
      failure.reason = failure.explanation = 1;
      put(failure, {});
      return;
    }
    Success1 success{};
    success.header = header(MessageId::success1);
    success.hash_bytes = static_cast<uint8_t>(bytes);
    success.response_valid = reply.challenge_valid;
    Bytes own;
    if (reply.challenge_valid != 0) {
      EXPECT_NE(reply.sequence, 0u);
      own = response(hash, own_secret.key_of(kSubsystemNqn),
                     augmented_challenge(hash, its_challenge, shared), reply.sequence, transaction_,
                     kControllerRole, kSubsystemNqn, kHostNqn);
    }
    put(success, {own});
  }

  uint16_t transaction_ = 0;
  Bytes challenge_;
  std::unique_ptr<KeyExchange> exchange_;
  std::vector<std::byte> next_;
};

Credentials credentials(int host, int controller = -1) {
  Credentials given;
  given.host = *Secret::parse(kSecrets[host].secret);
  if (controller >= 0) given.controller = *Secret::parse(kSecrets[controller].secret);
  return given;
}

TEST(Dhchap, ProvesEitherSideWithEveryHashAndGroup) {
  for (const Hash hash : {Hash::sha256, Hash::sha384, Hash::sha512}) {
    for (const Group group : {Group::none, Group::ffdhe2048}) {
      TestController one_way, mutual;
      one_way.hash = mutual.hash = hash;
      one_way.group = mutual.group = group;
      EXPECT_TRUE(authenticate(one_way, credentials(0), kHostNqn, kSubsystemNqn, 5).ok());
      EXPECT_TRUE(one_way.accepted);
      const Status status = authenticate(mutual, credentials(0, 2), kHostNqn, kSubsystemNqn, 6);
      EXPECT_TRUE(status.ok()) << status.to_string();
      EXPECT_TRUE(mutual.accepted && mutual.proven);
    }
  }
}

TEST(Dhchap, WrongSecretsAreRefusedByWhoeverFindsThem) {
  TestController controller;
  Status status = authenticate(controller, credentials(1), kHostNqn, kSubsystemNqn, 5);
  EXPECT_EQ(status.code(), StatusCode::permission_denied);
  EXPECT_NE(status.to_string().find("is it the right secret?"), std::string::npos);
  TestController impostor;
  status = authenticate(impostor, credentials(0, 3), kHostNqn, kSubsystemNqn, 5);
  EXPECT_EQ(status.code(), StatusCode::permission_denied);
  EXPECT_TRUE(impostor.refused_by_host);
  EXPECT_FALSE(impostor.proven);
  TestController any;
  status = authenticate(any, {}, kHostNqn, kSubsystemNqn, 5);
  EXPECT_EQ(status.code(), StatusCode::permission_denied);
}

TEST(Dhchap, MalformedMessagesAreRefused) {
  using Message = std::vector<std::byte>;
  void (*const spoils[])(Message&) = {
      [](Message& m) { m[0] = std::byte{9}; },              // type
      [](Message& m) { m[1] = std::byte{4}; },              // id
      [](Message& m) { m[4] ^= std::byte{1}; },             // transaction
      [](Message& m) { m[6] = std::byte{200}; },            // hash_bytes
      [](Message& m) { m[8] = std::byte{0}; },              // hash
      [](Message& m) { m[9] = std::byte{1}; },              // group, without a value
      [](Message& m) { m[10] = m[11] = std::byte{0xff}; },  // a value, without a group
      [](Message& m) {
        m[9] = std::byte{1};
        m[10] = m[11] = std::byte{0xff};
      },
      [](Message& m) {
        m[9] = std::byte{1};
        m[11] = std::byte{1};
      },  // a value of zeroes
      [](Message& m) {
        m[9] = std::byte{66};
        m[11] = std::byte{1};
      },  // no such group
  };
  for (const auto spoil : spoils) {
    TestController controller;
    controller.spoil = spoil;
    const Status status = authenticate(controller, credentials(0), kHostNqn, kSubsystemNqn, 5);
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(controller.accepted);
  }
}

}  // namespace
}  // namespace basalt::nvme
