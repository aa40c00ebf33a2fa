// The key space and its values: a key belongs to a family and has an index; a value tells its key and
// the change that wrote it, and fills up with bytes that depend on both, so that a value found
// anywhere says where it comes from, and a damaged or misplaced one is told at once.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace basalt::stress {

struct Key {
  uint32_t family = 0;
  uint32_t index = 0;
  auto operator<=>(const Key&) const = default;
};

// Ordered as the indices are.
std::string key_text(uint32_t index);
// Nothing if it is no key_text().
std::optional<uint32_t> index_of(std::string_view text);
// For messages.
std::string name_of(Key key);

// 30 bytes to 4 KiB, mostly small.
std::string value_text(Key key, uint64_t change);
// The change that wrote this value to this key; nothing if no change did.
std::optional<uint64_t> change_of(Key key, std::string_view value);

}  // namespace basalt::stress
