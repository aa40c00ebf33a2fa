// The identities of the keys that a TLS client offers, before anything of the handshake has been decided.
//
// RFC 8446, §4.2.11: the extension pre_shared_key of a ClientHello. Its binders are not looked at: TLS does that.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace basalt::nvme {

// In the client's order, as they stand in `extension`; nothing if that is not well formed.
std::optional<std::vector<std::string_view>> offered_identities(std::span<const uint8_t> extension);

}  // namespace basalt::nvme
