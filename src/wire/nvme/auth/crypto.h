// The arithmetic of DH-HMAC-CHAP and of TLS keys, by OpenSSL: hashes, HMACs, key derivation, the Diffie-Hellman exchange.
//
// NVM Express base specification 2.0, §8.13.5; groups: RFC 7919. Threads: any.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::nvme::auth {

enum class Hash : uint8_t { sha256 = 1, sha384 = 2, sha512 = 3 };
enum class Group : uint8_t {
  none = 0,
  ffdhe2048 = 1,
  ffdhe3072 = 2,
  ffdhe4096 = 3,
  ffdhe6144 = 4,
  ffdhe8192 = 5
};

using Bytes = std::vector<uint8_t>;
using View = std::span<const uint8_t>;
inline View view_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// 0 for what is no Hash.
size_t hash_bytes(Hash hash);
// Of the parts one after the other.
Bytes hmac(Hash hash, View key, std::initializer_list<View> parts);
Bytes digest(Hash hash, View data);
// HKDF-Extract without salt (RFC 5869, §2.2), then HKDF-Expand-Label (RFC 8446, §7.1) of as many bytes as the hash has.
Bytes extract_and_expand(Hash hash, View key, std::string_view label, std::string_view context);
std::string base64(View data);
// In a time that does not tell where they differ.
bool equal(View a, View b);
// Errors: io_error.
Status fill_random(std::span<uint8_t> bytes);

// One side of an exchange.
class KeyExchange {
 public:
  // A new secret. Errors: invalid_argument for Group::none and what is no Group.
  static Result<KeyExchange> create(Group group);
  KeyExchange(KeyExchange&&) noexcept;
  ~KeyExchange();

  // As long as the group's prime.
  const Bytes& public_value() const { return public_value_; }
  // As long as the group's prime. corruption: a public value that no honest peer sends.
  Result<Bytes> shared_secret(View peer_public_value) const;

 private:
  struct Key;
  KeyExchange(std::unique_ptr<Key> key, Bytes public_value);
  std::unique_ptr<Key> key_;
  Bytes public_value_;
};

// ---- What both ends compute

// The challenge as it is answered: itself, or with an exchange bound to the shared secret.
Bytes augmented_challenge(Hash hash, View challenge, View shared_secret);
// Who answers whom; `key` is the answering side's, transformed (secret.h). `role`: kHostRole or kControllerRole.
inline constexpr std::string_view kHostRole = "HostHost", kControllerRole = "Controller";
Bytes response(Hash hash, View key, View augmented, uint32_t sequence, uint16_t transaction,
               std::string_view role, std::string_view own_nqn, std::string_view peer_nqn);

}  // namespace basalt::nvme::auth
