// See values.h.
#include "system/stress/values.h"

#include <charconv>
#include <cstdio>

#include "sim/random.h"

namespace basalt::stress {

std::string key_text(uint32_t index) {
  char text[16];
  std::snprintf(text, sizeof(text), "k%08u", index);
  return text;
}

std::optional<uint32_t> index_of(std::string_view text) {
  uint32_t index = 0;
  if (text.size() < 2) return {};
  std::from_chars(text.data() + 1, text.data() + text.size(), index);
  if (text != key_text(index)) return {};
  return index;
}

std::string name_of(Key key) {
  return "family " + std::to_string(key.family) + " key " + key_text(key.index);
}

std::string value_text(Key key, uint64_t change) {
  std::string value = std::to_string(key.family) + "/" + std::to_string(key.index) + "=" +
                      std::to_string(change) + ";";
  sim::Random random(change * 0x10001 + key.index * 7 + key.family);
  const uint64_t length =
      30 + (random.chance(5) ? random.below(4000) : random.below(random.chance(30) ? 600 : 100));
  // Half of it compresses.
  while (value.size() < length) {
    const uint64_t word = random.next();
    value.append(reinterpret_cast<const char*>(&word), sizeof(word));
    value.append(8, static_cast<char>('a' + word % 26));
  }
  return value;
}

std::optional<uint64_t> change_of(Key key, std::string_view value) {
  const size_t equals = value.substr(0, 24).find('=');
  if (equals == std::string_view::npos) return {};
  uint64_t change = 0;
  std::from_chars(value.data() + equals + 1, value.data() + value.size(), change);
  if (value != value_text(key, change)) return {};
  return change;
}

}  // namespace basalt::stress
