// JsonStream: cuts a stream of bytes into the JSON values that follow each other in it, as JSON-RPC over a stream has them:
// without lengths, and with or without white space between them.
//
// It finds where a value ends and leaves to the parser whether it is one. Pure: no I/O. Threads: one at a time.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace basalt::rpc {

class JsonStream {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 20;  // of one value
  static constexpr unsigned kMaxDepth = 64;             // what looks at it calls itself for each

  void add(std::string_view bytes) { text_.append(bytes); }
  // The next whole value; nothing: more is to come. What is not an object or array ends with its line.
  std::optional<std::string> take();
  // A value has become too long, or is nested too deep: nothing sensible follows. What is too deep is never given out.
  bool is_too_long() const { return text_.size() > kMaxBytes; }
  bool is_too_deep() const { return depth_ > kMaxDepth; }

 private:
  std::string text_;
  size_t looked_at_ = 0;  // bytes of it
  unsigned depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

}  // namespace basalt::rpc
