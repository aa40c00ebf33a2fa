// Device URIs: the one grammar that names devices in the tool, the plugin, RPC and C++.
//
//   uri       = scheme ":" ( children / argument ) [ "?" pair *( "&" pair ) ]
//   children  = "(" uri ")" *( "," "(" uri ")" )
//   pair      = key [ "=" value ]                             a key alone has an empty value
//   scheme    = a-z *( a-z / 0-9 / "+" / "-" / "." )          key = a-z *( a-z / 0-9 / "_" )
//   argument  = any characters but ? ( ) % and control characters; those as %XX
//   value     = any characters but & ( ) % and control characters; those as %XX
//
// Examples: file:/path?size=64G   null:1T   part:(ram:4G?block=512)?offset=1M
// mirror:(file:/a),(file:/b)
//           nvme:tcp:[::1]:4420/nqn.2014-08.org:disk/1
// Errors say what was wrong, at which character (counted from 0), and what would be right.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace basalt {

struct UriOption {
  std::string key;
  std::string value;    // decoded
  size_t position = 0;  // of the key in the text that was parsed, for messages

  bool operator==(const UriOption& other) const { return key == other.key && value == other.value; }
};

struct Uri {
  std::string scheme;
  std::string argument;  // decoded; empty when there are children
  std::vector<Uri> children;
  std::vector<UriOption> options;  // no key twice
  size_t position = 0;             // of the scheme in the text that was parsed

  // The canonical text: options sorted by key, only what must be encoded is. parse(to_string()) is
  // an equal Uri.
  std::string to_string() const;
  // The option's value, or null.
  const std::string* find(std::string_view key) const;
  // Removes the option and answers its value: for layers above that own keys of their own.
  std::optional<std::string> take(std::string_view key);
  // Adds the option, or replaces its value.
  void set(std::string_view key, std::string_view value);

  bool operator==(const Uri& other) const;
};

Result<Uri> parse_uri(std::string_view text);

// Reads "4096", "64K", "512M", "8G", "1T" (powers of 1024) as bytes.
Result<uint64_t> parse_size(std::string_view text);
// The shortest text that parse_size() reads back as the same number.
std::string format_size(uint64_t bytes);

// Hands a Uri's options to the one who opens it. Each take_…() names a key as known and answers its
// value; finish() refuses every key that was not asked for, naming those that were.
//
//   UriOptions options(uri);
//   BASALT_TRY_ASSIGN(const uint64_t block, options.take_size("block", 4096));
//   BASALT_TRY(options.finish());
class UriOptions {
 public:
  explicit UriOptions(const Uri& uri) : uri_(uri) {}

  Result<uint64_t> take_size(std::string_view key, uint64_t otherwise);
  // Nothing when the key is absent.
  Result<std::optional<uint64_t>> take_size(std::string_view key);
  Result<uint64_t> take_number(std::string_view key, uint64_t otherwise, uint64_t lowest,
                               uint64_t highest);
  // 1, true, yes, on, or the key alone / 0, false, no, off.
  Result<bool> take_bool(std::string_view key, bool otherwise);
  std::string take_text(std::string_view key, std::string_view otherwise);
  // One of `choices`; answers its index.
  Result<size_t> take_choice(std::string_view key, std::initializer_list<std::string_view> choices,
                             size_t otherwise);
  Status finish() const;

  // An error about an option, in the form all of them have:
  // "ram:4G?block=7: option block=7 (at 7): <why>".
  tl::unexpected<Status> complain(std::string_view key, std::string_view why) const;

 private:
  const UriOption* look(std::string_view key);

  const Uri& uri_;
  std::vector<std::string> known_;
};

}  // namespace basalt
