// Goal: parse_uri() and parse_size() answer any text with a value or an error, and what they accept
// has one canonical form that they read back as the same value.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "bdev/uri.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto uri = basalt::parse_uri(text)) {
    const auto again = basalt::parse_uri(uri->to_string());
    if (!again || !(*again == *uri) || again->to_string() != uri->to_string()) std::abort();
  } else if (uri.error().message().empty()) {
    std::abort();
  }
  if (const auto bytes = basalt::parse_size(text)) {
    const auto again = basalt::parse_size(basalt::format_size(*bytes));
    if (!again || *again != *bytes) std::abort();
  }
  return 0;
}
