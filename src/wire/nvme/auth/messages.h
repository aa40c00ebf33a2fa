// DH-HMAC-CHAP's messages, which travel as data of fabrics authentication commands.
//
// NVM Express base specification 2.0, §8.13.5; little-endian. What follows a struct in its message is said with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/endian.h"

namespace basalt::nvme::auth {

// Words 10 and 11 of Authentication Send and Receive: security protocol E9h, and the data's length in word 11.
inline constexpr uint32_t kSecurityProtocol = 0xe9'01'01'00;

enum class MessageType : uint8_t { common = 0x00, dhchap = 0x01 };
enum class MessageId : uint8_t {
  negotiate = 0x00,
  challenge = 0x01,
  reply = 0x02,
  success1 = 0x03,
  success2 = 0x04,
  failure2 = 0xf0,  // the host's
  failure1 = 0xf1,  // the controller's
};

struct MessageHeader {
  uint8_t type;  // MessageType
  uint8_t id;    // MessageId
  uint8_t reserved2[2];
  le16 transaction;
};

inline constexpr uint8_t kDhchap = 1;
struct Negotiate {
  MessageHeader header;
  uint8_t secure_channel;  // 0: no TLS key is to come of it
  uint8_t protocols;       // descriptors that follow: 1 here
  struct Protocol {
    uint8_t id;  // kDhchap
    uint8_t reserved1;
    uint8_t hash_count;
    uint8_t group_count;
    uint8_t hashes[30];  // Hash
    uint8_t groups[30];  // Group
  } protocol;
};

// `hash_bytes` of challenge follow, then `exchange_bytes` of the controller's exponential.
struct Challenge {
  MessageHeader header;
  uint8_t hash_bytes;
  uint8_t reserved7;
  uint8_t hash;   // Hash
  uint8_t group;  // Group
  le16 exchange_bytes;
  le32 sequence;
};

// `hash_bytes` of response follow, as many of the host's challenge, and `exchange_bytes` of its exponential.
struct Reply {
  MessageHeader header;
  uint8_t hash_bytes;
  uint8_t reserved7;
  uint8_t challenge_valid;  // 1: the controller is to prove itself too
  uint8_t reserved9;
  le16 exchange_bytes;
  le32 sequence;
};

// `hash_bytes` of response follow, if it is valid.
struct Success1 {
  MessageHeader header;
  uint8_t hash_bytes;
  uint8_t reserved7;
  uint8_t response_valid;
  uint8_t reserved9[7];
};
struct Success2 {
  MessageHeader header;
  uint8_t reserved6[10];
};

struct Failure {
  MessageHeader header;
  uint8_t reason;  // 1
  uint8_t explanation;
};
enum class Explanation : uint8_t {
  failed = 1,
  no_protocol = 2,
  secure_channel_mismatch = 3,
  no_hash = 4,
  no_group = 5,
  incorrect_payload = 6,
  incorrect_message = 7,
};

static_assert(sizeof(Negotiate) == 72 && sizeof(Challenge) == 16 && sizeof(Reply) == 16 &&
              sizeof(Success1) == 16 && sizeof(Success2) == 16 && sizeof(Failure) == 8 &&
              std::has_unique_object_representations_v<Challenge>);

}  // namespace basalt::nvme::auth
