// See crypto.h.
#include "wire/nvme/auth/crypto.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <utility>

#include "base/check.h"
#include "base/endian.h"

namespace basalt::nvme::auth {

namespace {

const EVP_MD* algorithm(Hash hash) {
  switch (hash) {
    case Hash::sha256: return EVP_sha256();
    case Hash::sha384: return EVP_sha384();
    case Hash::sha512: return EVP_sha512();
  }
  return nullptr;
}

const char* group_name(Group group) {
  switch (group) {
    case Group::none: break;
    case Group::ffdhe2048: return "ffdhe2048";
    case Group::ffdhe3072: return "ffdhe3072";
    case Group::ffdhe4096: return "ffdhe4096";
    case Group::ffdhe6144: return "ffdhe6144";
    case Group::ffdhe8192: return "ffdhe8192";
  }
  return nullptr;
}

template <class T, void (*Free)(T*)>
struct Freed {
  void operator()(T* value) const { Free(value); }
};
using KeyPointer = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using ContextPointer = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX, EVP_PKEY_CTX_free>>;
using NumberPointer = std::unique_ptr<BIGNUM, Freed<BIGNUM, BN_clear_free>>;

}  // namespace

size_t hash_bytes(Hash hash) {
  const EVP_MD* md = algorithm(hash);
  return md == nullptr ? 0 : static_cast<size_t>(EVP_MD_get_size(md));
}

Bytes hmac(Hash hash, View key, std::initializer_list<View> parts) {
  Bytes data;
  for (const View part : parts) data.insert(data.end(), part.begin(), part.end());
  Bytes out(hash_bytes(hash));
  unsigned bytes = 0;
  const bool done = HMAC(algorithm(hash), key.data(), static_cast<int>(key.size()), data.data(),
                         data.size(), out.data(), &bytes) != nullptr;
  BASALT_CHECK(done && bytes == out.size(), "HMAC of a known hash");
  return out;
}

Bytes digest(Hash hash, View data) {
  Bytes out(hash_bytes(hash));
  unsigned bytes = 0;
  const bool done =
      EVP_Digest(data.data(), data.size(), out.data(), &bytes, algorithm(hash), nullptr) == 1;
  BASALT_CHECK(done && bytes == out.size(), "digest of a known hash");
  return out;
}

Bytes extract_and_expand(Hash hash, View key, std::string_view label, std::string_view context) {
  constexpr std::string_view kProtocol = "tls13 ";
  const size_t length = hash_bytes(hash);
  BASALT_CHECK(kProtocol.size() + label.size() <= 255 && context.size() <= 255, "an HkdfLabel");
  const Bytes none(length);
  const Bytes pseudo_random_key = hmac(hash, none, {key});
  const uint8_t length_and_label[] = {static_cast<uint8_t>(length >> 8),
                                      static_cast<uint8_t>(length),
                                      static_cast<uint8_t>(kProtocol.size() + label.size())};
  const uint8_t context_bytes[] = {static_cast<uint8_t>(context.size())};
  const uint8_t first_block[] = {1};  // and the only one
  return hmac(hash, pseudo_random_key,
              {length_and_label, view_of(kProtocol), view_of(label), context_bytes,
               view_of(context), first_block});
}

std::string base64(View data) {
  std::string text((data.size() + 2) / 3 * 4 + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), data.data(),
                                     static_cast<int>(data.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

bool equal(View a, View b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

Status fill_random(std::span<uint8_t> bytes) {
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1) return {};
  return {StatusCode::io_error, "OpenSSL has no random bytes"};
}

struct KeyExchange::Key {
  KeyPointer pkey;
};

KeyExchange::KeyExchange(std::unique_ptr<Key> key, Bytes public_value)
    : key_(std::move(key)), public_value_(std::move(public_value)) {}
KeyExchange::KeyExchange(KeyExchange&&) noexcept = default;
KeyExchange::~KeyExchange() = default;

Result<KeyExchange> KeyExchange::create(Group group) {
  const char* name = group_name(group);
  if (name == nullptr) {
    return error(StatusCode::invalid_argument,
                 "no Diffie-Hellman group " + std::to_string(static_cast<int>(group)));
  }
  const ContextPointer context(EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr));
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, const_cast<char*>(name), 0),
      OSSL_PARAM_construct_end()};
  EVP_PKEY* made = nullptr;
  if (context == nullptr || EVP_PKEY_keygen_init(context.get()) != 1 ||
      EVP_PKEY_CTX_set_params(context.get(), parameters) != 1 ||
      EVP_PKEY_generate(context.get(), &made) != 1) {
    return error(StatusCode::unsupported, std::string("OpenSSL does not do ") + name);
  }
  auto key = std::make_unique<Key>(Key{KeyPointer(made)});
  BIGNUM* number = nullptr;
  Bytes value(static_cast<size_t>(EVP_PKEY_get_size(made)));
  const bool known = EVP_PKEY_get_bn_param(made, OSSL_PKEY_PARAM_PUB_KEY, &number) == 1;
  const NumberPointer owned(number);
  if (!known || BN_bn2binpad(number, value.data(), static_cast<int>(value.size())) < 0) {
    return error(StatusCode::internal, "OpenSSL does not tell a public value");
  }
  return KeyExchange(std::move(key), std::move(value));
}

Result<Bytes> KeyExchange::shared_secret(View peer_public_value) const {
  const auto refuse = [] {
    return error(StatusCode::corruption, "the peer's Diffie-Hellman value is not one of the group");
  };
  if (peer_public_value.size() != public_value_.size()) return refuse();
  const KeyPointer peer(EVP_PKEY_new());
  const ContextPointer context(EVP_PKEY_CTX_new_from_pkey(nullptr, key_->pkey.get(), nullptr));
  Bytes secret(public_value_.size());
  size_t bytes = secret.size();
  if (peer == nullptr || context == nullptr ||
      EVP_PKEY_copy_parameters(peer.get(), key_->pkey.get()) != 1 ||
      EVP_PKEY_set1_encoded_public_key(peer.get(), peer_public_value.data(),
                                       peer_public_value.size()) != 1 ||
      EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_CTX_set_dh_pad(context.get(), 1) != 1 ||
      EVP_PKEY_derive_set_peer_ex(context.get(), peer.get(), 1) != 1 ||
      EVP_PKEY_derive(context.get(), secret.data(), &bytes) != 1 || bytes != secret.size()) {
    return refuse();
  }
  return secret;
}

Bytes augmented_challenge(Hash hash, View challenge, View shared_secret) {
  if (shared_secret.empty()) return {challenge.begin(), challenge.end()};
  return hmac(hash, digest(hash, shared_secret), {challenge});
}

Bytes response(Hash hash, View key, View augmented, uint32_t sequence, uint16_t transaction,
               std::string_view role, std::string_view own_nqn, std::string_view peer_nqn) {
  const le32 sequence_bytes = sequence;
  const le16 transaction_bytes = transaction;
  const auto raw = [](const auto& value) {
    return View(reinterpret_cast<const uint8_t*>(&value), sizeof value);
  };
  const uint8_t zero = 0;  // no secure channel; and between the names
  return hmac(hash, key,
              {augmented, raw(sequence_bytes), raw(transaction_bytes), raw(zero), view_of(role),
               view_of(own_nqn), raw(zero), view_of(peer_nqn)});
}

}  // namespace basalt::nvme::auth
