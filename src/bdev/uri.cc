// The recursive-descent parser of the grammar in uri.h, and its inverse.
#include "bdev/uri.h"

#include <algorithm>
#include <cctype>

#include "base/try.h"

namespace basalt {
namespace {

constexpr int kMaxDepth = 16;

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_scheme_char(char c) {
  return is_lower(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
}
bool is_key_char(char c) { return is_lower(c) || is_digit(c) || c == '_'; }
// Ends an argument or a value, and so must be encoded within one.
bool ends_argument(char c) { return c == '?' || c == '(' || c == ')'; }
bool ends_value(char c) { return c == '&' || c == '(' || c == ')'; }

int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Uri> whole() {
    BASALT_TRY_ASSIGN(Uri result, uri(0));
    if (!done()) {
      return wrong("unexpected '" + std::string(1, peek()) +
                   "'; the URI should end here, or the character be written as " + encoded());
    }
    return result;
  }

 private:
  bool done() const { return at_ == text_.size(); }
  char peek() const { return done() ? '\0' : text_[at_]; }
  bool take(char c) {
    if (done() || peek() != c) return false;
    ++at_;
    return true;
  }
  std::string encoded() const {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    const auto c = static_cast<unsigned char>(peek());
    return {'%', kHex[c >> 4], kHex[c & 15]};
  }
  tl::unexpected<Status> wrong(const std::string& what) const { return wrong_at(at_, what); }
  tl::unexpected<Status> wrong_at(size_t position, const std::string& what) const {
    return error(StatusCode::invalid_argument, "URI \"" + std::string(text_) + "\", character " +
                                                   std::to_string(position) + ": " + what);
  }

  Result<Uri> uri(int depth) {
    if (depth > kMaxDepth) {
      return wrong("nested deeper than " + std::to_string(kMaxDepth) + " devices");
    }
    Uri result;
    result.position = at_;
    BASALT_TRY_ASSIGN(result.scheme, scheme());
    if (peek() == '(') {
      BASALT_TRY_ASSIGN(result.children, children(depth));
    } else {
      BASALT_TRY_ASSIGN(result.argument, text_until(ends_argument));
    }
    if (take('?')) BASALT_TRY(options(result.options));
    return result;
  }

  Result<std::string> scheme() {
    const size_t begin = at_;
    while (!done() && is_scheme_char(peek())) ++at_;
    if (at_ == begin || !is_lower(text_[begin])) {
      at_ = begin;
      return wrong(
          "a URI begins with its scheme, in lower case, and a colon, as in \"file:/path\"");
    }
    std::string name(text_.substr(begin, at_ - begin));
    if (!take(':')) return wrong("expected ':' after the scheme \"" + name + "\"");
    return name;
  }

  Result<std::vector<Uri>> children(int depth) {
    std::vector<Uri> result;
    do {
      if (!take('(')) return wrong("expected '(' and another device's URI after the comma");
      BASALT_TRY_ASSIGN(Uri child, uri(depth + 1));
      if (!take(')')) {
        return wrong("expected ')' to close the device that begins at character " +
                     std::to_string(child.position));
      }
      result.push_back(std::move(child));
    } while (take(','));
    return result;
  }

  // Decoded text up to a character that `ends` it, or the end.
  Result<std::string> text_until(bool (*ends)(char)) {
    std::string result;
    while (!done() && !ends(peek())) {
      const char c = peek();
      if (is_control(c)) return wrong("a control character must be written as " + encoded());
      if (c != '%') {
        result += c;
        ++at_;
        continue;
      }
      const int high = at_ + 1 < text_.size() ? hex_digit(text_[at_ + 1]) : -1;
      const int low = at_ + 2 < text_.size() ? hex_digit(text_[at_ + 2]) : -1;
      if (high < 0 || low < 0) {
        return wrong(
            "'%' must be followed by two hexadecimal digits; a percent sign itself is %25");
      }
      result += static_cast<char>(high << 4 | low);
      at_ += 3;
    }
    return result;
  }

  Status options(std::vector<UriOption>& out) {
    do {
      UriOption option;
      option.position = at_;
      while (!done() && is_key_char(peek())) ++at_;
      option.key = text_.substr(option.position, at_ - option.position);
      if (option.key.empty() || !is_lower(option.key.front())) {
        at_ = option.position;
        return wrong("expected key=value, the key in lower case").value();
      }
      if (take('=')) {
        BASALT_TRY_ASSIGN(option.value, text_until(ends_value));
      } else if (!done() && peek() != '&' && peek() != ')') {
        return wrong("expected '=' or the end of the key \"" + option.key + "\"").value();
      }
      for (const UriOption& other : out) {
        if (other.key != option.key) continue;
        return wrong_at(option.position, "the key \"" + option.key +
                                             "\" is given twice, first at character " +
                                             std::to_string(other.position))
            .value();
      }
      out.push_back(std::move(option));
    } while (take('&'));
    return {};
  }

  const std::string_view text_;
  size_t at_ = 0;
};

void append_encoded(std::string& out, std::string_view text, bool (*ends)(char)) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : text) {
    if (c != '%' && !is_control(c) && !ends(c)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
}

}  // namespace

Result<Uri> parse_uri(std::string_view text) { return Parser(text).whole(); }

std::string Uri::to_string() const {
  std::string out = scheme + ":";
  for (size_t i = 0; i < children.size(); ++i) {
    out += (i == 0 ? "(" : ",(") + children[i].to_string() + ")";
  }
  append_encoded(out, argument, ends_argument);
  std::vector<const UriOption*> sorted;
  for (const UriOption& option : options) sorted.push_back(&option);
  std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->key < b->key; });
  char separator = '?';
  for (const UriOption* option : sorted) {
    out += separator + option->key + "=";
    append_encoded(out, option->value, ends_value);
    separator = '&';
  }
  return out;
}

const std::string* Uri::find(std::string_view key) const {
  const auto at = std::find_if(options.begin(), options.end(),
                               [&](const UriOption& option) { return option.key == key; });
  return at == options.end() ? nullptr : &at->value;
}

std::optional<std::string> Uri::take(std::string_view key) {
  const auto at = std::find_if(options.begin(), options.end(),
                               [&](const UriOption& option) { return option.key == key; });
  if (at == options.end()) return std::nullopt;
  std::string value = std::move(at->value);
  options.erase(at);
  return value;
}

void Uri::set(std::string_view key, std::string_view value) {
  for (UriOption& option : options) {
    if (option.key == key) {
      option.value = value;
      return;
    }
  }
  options.push_back({std::string(key), std::string(value), 0});
}

bool Uri::operator==(const Uri& other) const {
  // Options have no order.
  return scheme == other.scheme && argument == other.argument && children == other.children &&
         options.size() == other.options.size() &&
         std::all_of(options.begin(), options.end(), [&](const UriOption& option) {
           const std::string* value = other.find(option.key);
           return value != nullptr && *value == option.value;
         });
}

}  // namespace basalt
