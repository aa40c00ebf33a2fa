// Goal: whatever a host says to authenticate itself, the target refuses it in words, or it knew the secret.
// Method: the input cut into messages by the length before each; the target's answers are taken and thrown away.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "targets/nvmf/authentication.h"

namespace {

using namespace basalt;

nvmf::HostSecrets secrets() {
  constexpr const char* kSecret = "DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:";
  return {std::move(*nvme::auth::Secret::parse(kSecret)),
          std::move(*nvme::auth::Secret::parse(kSecret))};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nvmf::Authenticator authenticator(secrets(), "nqn.2014-08.org.example:host",
                                    "nqn.2014-08.org.example:disk");
  std::span<const uint8_t> left(data, size);
  while (left.size() >= 2) {
    const size_t bytes = std::min<size_t>(left[0] | left[1] << 8, left.size() - 2);
    authenticator.take(std::as_bytes(left.subspan(2, bytes)));
    left = left.subspan(2 + bytes);
    authenticator.give();
    if (authenticator.done()) std::abort();  // nobody guesses it
    if (authenticator.failed()) {
      if (authenticator.failure().empty()) std::abort();
      return 0;
    }
  }
  return 0;
}
