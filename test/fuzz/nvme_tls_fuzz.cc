// Goal: whatever keys a TLS client says it has, they are read as what they are or not at all; an identity that is read is
// the one its parts make; a key's text is a key or an error that does not repeat it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "wire/nvme/auth/tls_key.h"
#include "wire/nvme/tls/offered_identities.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void take_identity(std::string_view text) {
  using namespace basalt::nvme::auth;
  const auto identity = TlsIdentity::parse(text);
  if (!identity) return require(!identity.error().message().empty());
  require(!identity->host_nqn.empty() && !identity->subsystem_nqn.empty());
  const std::string front = "NVMe" + std::to_string(static_cast<int>(identity->version)) + "R0" +
                            std::to_string(static_cast<int>(identity->hash)) + " " +
                            identity->host_nqn + " " + identity->subsystem_nqn;
  require(text.starts_with(front));
  require((text == front) == (identity->version == IdentityVersion::names));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto identities = basalt::nvme::offered_identities({data, size})) {
    size_t bytes = 2;
    for (const std::string_view identity : *identities) {
      bytes += 2 + identity.size() + 4;
      take_identity(identity);
    }
    require(bytes <= size);
  }
  take_identity(text);
  // What all messages say may be in the input too.
  static const auto nothing = basalt::nvme::auth::TlsKey::parse("");
  const auto repeats = [&](const auto& refused) {
    return refused.error().message().find(text) != std::string_view::npos;
  };
  const auto key = basalt::nvme::auth::TlsKey::parse(text);
  if (!key) require(size < 16 || repeats(nothing) || !repeats(key));
  return 0;
}
