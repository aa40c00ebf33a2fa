// Keys of NVMe/TCP's TLS, as people keep them ("NVMeTLSkey-1:01:<base64>:"), and what both ends derive from them.
//
// NVM Express TCP transport specification 1.0 and 1.1, §3.6.1.3 (PSK and PSK identity) and §3.6.1.4 (derivation): the
// configured PSK becomes, for a host, the retained PSK, and that, for a host and a subsystem, the PSK of TLS 1.3.
#pragma once

#include <basalt/status.h>

#include <string>
#include <string_view>

#include "wire/nvme/auth/crypto.h"

namespace basalt::nvme::auth {

// How an identity is made. Since specification 1.1 it has a digest, which tells one key from another; targets of the
// time before know only the older kind.
enum class IdentityVersion : uint8_t { names = 0, names_and_digest = 1 };

// What an identity says of its key. The digest is not looked at: who has the key makes the same identity.
struct TlsIdentity {
  IdentityVersion version = IdentityVersion::names;
  Hash hash = Hash::sha256;
  std::string host_nqn, subsystem_nqn;

  // Errors: invalid_argument.
  static Result<TlsIdentity> parse(std::string_view text);
};

// What TLS is given.
struct TlsPsk {
  std::string identity;  // told in the clear
  Bytes key;
  Hash hash =
      Hash::sha256;  // of the cipher suite: TLS_AES_128_GCM_SHA256 or TLS_AES_256_GCM_SHA384
};

class TlsKey {
 public:
  // Errors: invalid_argument, which does not repeat the text.
  static Result<TlsKey> parse(std::string_view text);

  // Errors: unsupported (names too long for that version: the older has room for 245 bytes of both).
  Result<TlsPsk> derive(std::string_view host_nqn, std::string_view subsystem_nqn,
                        IdentityVersion version) const;

 private:
  Bytes configured_;       // 32 or 48
  bool retained_ = false;  // it is the retained PSK already
  Hash hash_ = Hash::sha256;
};

}  // namespace basalt::nvme::auth
