// See offered_identities.h.
#include "wire/nvme/tls/offered_identities.h"

#include <cstddef>

namespace basalt::nvme {

namespace {

constexpr size_t kAgeBytes = 4;  // obfuscated_ticket_age, of no meaning here

// A field of two bytes that says how many follow, taken off the front of `from` together with those.
std::optional<std::span<const uint8_t>> take_vector(std::span<const uint8_t>& from) {
  if (from.size() < 2) return {};
  const size_t bytes = size_t{from[0]} << 8 | from[1];
  if (bytes > from.size() - 2) return {};
  const auto taken = from.subspan(2, bytes);
  from = from.subspan(2 + bytes);
  return taken;
}

}  // namespace

std::optional<std::vector<std::string_view>> offered_identities(
    std::span<const uint8_t> extension) {
  auto list = take_vector(extension);
  if (!list) return {};
  std::vector<std::string_view> identities;
  while (!list->empty()) {
    const auto identity = take_vector(*list);
    if (!identity || identity->empty() || list->size() < kAgeBytes) return {};
    *list = list->subspan(kAgeBytes);
    identities.emplace_back(reinterpret_cast<const char*>(identity->data()), identity->size());
  }
  return identities;
}

}  // namespace basalt::nvme
