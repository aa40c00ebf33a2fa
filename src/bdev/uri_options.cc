// Sizes, and UriOptions: reading a URI's options by their owner (see uri.h).
#include <algorithm>
#include <array>
#include <charconv>

#include "bdev/uri.h"

namespace basalt {
namespace {

constexpr std::string_view kSuffixes = "KMGTPE";

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, failure] = std::from_chars(text.data(), end, number);
  const auto wrong = [&](std::string_view why) {
    return error(StatusCode::invalid_argument,
                 "\"" + std::string(text) + "\" is not a size: " + std::string(why));
  };
  if (failure == std::errc::result_out_of_range) return wrong("it is beyond 16E");
  if (failure != std::errc{}) return wrong("expected a number, as in 4096, 64K, 512M, 8G or 1T");
  if (stop == end) return number;
  const size_t suffix = kSuffixes.find(*stop);
  if (suffix == std::string_view::npos || stop + 1 != end) {
    return wrong("after the number there may be one of K, M, G, T, P, E (powers of 1024)");
  }
  const unsigned shift = 10 * (static_cast<unsigned>(suffix) + 1);
  if (number > ~uint64_t{0} >> shift) return wrong("it is beyond 16E");
  return number << shift;
}

std::string format_size(uint64_t bytes) {
  size_t suffix = 0;
  while (bytes != 0 && bytes % 1024 == 0 && suffix < kSuffixes.size()) {
    bytes /= 1024;
    ++suffix;
  }
  std::string text = std::to_string(bytes);
  if (suffix != 0) text += kSuffixes[suffix - 1];
  return text;
}

const UriOption* UriOptions::look(std::string_view key) {
  known_.emplace_back(key);
  const auto at = std::find_if(uri_.options.begin(), uri_.options.end(),
                               [&](const UriOption& option) { return option.key == key; });
  return at == uri_.options.end() ? nullptr : &*at;
}

tl::unexpected<Status> UriOptions::complain(std::string_view key, std::string_view why) const {
  const std::string* value = uri_.find(key);
  std::string text = uri_.to_string() + ": option " + std::string(key);
  for (const UriOption& option : uri_.options) {
    if (option.key != key) continue;
    text += "=" + *value + " (character " + std::to_string(option.position) + ")";
  }
  return error(StatusCode::invalid_argument, text + ": " + std::string(why));
}

Result<std::optional<uint64_t>> UriOptions::take_size(std::string_view key) {
  const UriOption* option = look(key);
  if (option == nullptr) return std::optional<uint64_t>();
  const Result<uint64_t> size = parse_size(option->value);
  if (!size) return complain(key, size.error().message());
  return std::optional<uint64_t>(*size);
}

Result<uint64_t> UriOptions::take_size(std::string_view key, uint64_t otherwise) {
  const Result<std::optional<uint64_t>> size = take_size(key);
  if (!size) return error(size.error());
  return size->value_or(otherwise);
}

Result<uint64_t> UriOptions::take_number(std::string_view key, uint64_t otherwise, uint64_t lowest,
                                         uint64_t highest) {
  const UriOption* option = look(key);
  if (option == nullptr) return otherwise;
  uint64_t number = 0;
  const char* const end = option->value.data() + option->value.size();
  const auto [stop, failure] = std::from_chars(option->value.data(), end, number);
  if (failure != std::errc{} || stop != end || number < lowest || number > highest) {
    return complain(
        key, "expected a number from " + std::to_string(lowest) + " to " + std::to_string(highest));
  }
  return number;
}

Result<bool> UriOptions::take_bool(std::string_view key, bool otherwise) {
  constexpr std::array<std::string_view, 8> kWords = {"0", "false", "no",  "off",
                                                      "1", "true",  "yes", "on"};
  const UriOption* option = look(key);
  if (option == nullptr) return otherwise;
  if (option->value.empty()) return true;  // "?flag"
  const auto at = std::find(kWords.begin(), kWords.end(), option->value);
  if (at == kWords.end()) return complain(key, "expected 1, true, yes, on, 0, false, no or off");
  return at - kWords.begin() >= 4;
}

std::string UriOptions::take_text(std::string_view key, std::string_view otherwise) {
  const UriOption* option = look(key);
  return option == nullptr ? std::string(otherwise) : option->value;
}

Result<size_t> UriOptions::take_choice(std::string_view key,
                                       std::initializer_list<std::string_view> choices,
                                       size_t otherwise) {
  const UriOption* option = look(key);
  if (option == nullptr) return otherwise;
  const auto at = std::find(choices.begin(), choices.end(), option->value);
  if (at == choices.end()) {
    return complain(
        key, "expected one of " + join(std::vector<std::string>(choices.begin(), choices.end())));
  }
  return static_cast<size_t>(at - choices.begin());
}

Status UriOptions::finish() const {
  for (const UriOption& option : uri_.options) {
    if (std::find(known_.begin(), known_.end(), option.key) != known_.end()) continue;
    const std::string right = known_.empty()
                                  ? uri_.scheme + ": takes no options"
                                  : "the options of " + uri_.scheme + ": are " + join(known_);
    return complain(option.key, "there is no such option; " + right).value();
  }
  return {};
}

}  // namespace basalt
