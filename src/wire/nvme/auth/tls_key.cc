// See tls_key.h.
#include "wire/nvme/auth/tls_key.h"

#include <array>
#include <utility>

#include "base/try.h"
#include "wire/nvme/auth/key_text.h"

namespace basalt::nvme::auth {

namespace {
constexpr size_t kMaxContextBytes = 255;  // of an HkdfLabel
constexpr size_t kMaxNameBytes = 223;     // of a qualified name
}  // namespace

Result<TlsKey> TlsKey::parse(std::string_view text) {
  constexpr KeyFormat kFormat{.prefix = "NVMeTLSkey-1:",
                              .last_transform = 2,
                              .what = "TLS key",
                              .example = "NVMeTLSkey-1:01:<base64>: (nvme gen-tls-key makes them)"};
  BASALT_TRY_ASSIGN(KeyText parsed, parse_key_text(kFormat, text));
  TlsKey key;
  key.retained_ = parsed.transform == 0;
  key.hash_ = parsed.transform == 0 ? (parsed.key.size() == 48 ? Hash::sha384 : Hash::sha256)
                                    : static_cast<Hash>(parsed.transform);
  if (parsed.key.size() != hash_bytes(key.hash_)) {
    return error(key_error(kFormat, "has 32 bytes with 01, 48 with 02, and either with 00"));
  }
  key.configured_ = std::move(parsed.key);
  return key;
}

Result<TlsIdentity> TlsIdentity::parse(std::string_view text) {
  const auto wrong = [] {
    return error(
        StatusCode::invalid_argument,
        "not an identity of NVMe/TCP's (NVMe<version>R<hash> <host> <subsystem>[ <digest>])");
  };
  std::array<std::string_view, 4> words;
  size_t count = 0;
  for (std::string_view rest = text;; ++count) {
    if (count == words.size()) return wrong();
    const size_t space = rest.find(' ');
    words[count] = rest.substr(0, space);
    if (words[count].empty() || words[count].size() > kMaxNameBytes) return wrong();
    if (space == std::string_view::npos) break;
    rest.remove_prefix(space + 1);
  }
  ++count;
  TlsIdentity identity;
  if (words[0] == "NVMe0R01" || words[0] == "NVMe1R01") {
    identity.hash = Hash::sha256;
  } else if (words[0] == "NVMe0R02" || words[0] == "NVMe1R02") {
    identity.hash = Hash::sha384;
  } else {
    return wrong();
  }
  const bool has_digest = words[0][4] == '1';
  if (count != (has_digest ? 4u : 3u)) return wrong();
  identity.version = has_digest ? IdentityVersion::names_and_digest : IdentityVersion::names;
  identity.host_nqn = words[1];
  identity.subsystem_nqn = words[2];
  return identity;
}

Result<TlsPsk> TlsKey::derive(std::string_view host_nqn, std::string_view subsystem_nqn,
                              IdentityVersion version) const {
  const Bytes retained =
      retained_ ? configured_ : extract_and_expand(hash_, configured_, "HostNQN", host_nqn);
  const std::string hash = hash_ == Hash::sha256 ? "01" : "02";
  TlsPsk psk;
  psk.hash = hash_;
  psk.identity = "NVMe" + std::to_string(static_cast<int>(version)) + "R" + hash + " " +
                 std::string(host_nqn) + " " + std::string(subsystem_nqn);
  std::string context = psk.identity;
  if (version == IdentityVersion::names_and_digest) {
    const std::string digest = base64(hmac(hash_, retained,
                                           {view_of(host_nqn), view_of(" "), view_of(subsystem_nqn),
                                            view_of(" "), view_of("NVMe-over-Fabrics")}));
    psk.identity += " " + digest;
    context = hash + " " + digest;
  }
  if (context.size() > kMaxContextBytes) {
    return error(StatusCode::unsupported,
                 "the names of host and subsystem are too long together for a TLS identity of the "
                 "older kind");
  }
  psk.key = extract_and_expand(hash_, retained, "nvme-tls-psk", context);
  return psk;
}

}  // namespace basalt::nvme::auth
