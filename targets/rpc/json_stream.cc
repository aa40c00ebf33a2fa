// See json_stream.h.
#include "targets/rpc/json_stream.h"

#include <utility>

namespace basalt::rpc {

std::optional<std::string> JsonStream::take() {
  if (looked_at_ == 0) {
    const size_t begin = text_.find_first_not_of(" \t\r\n");
    text_.erase(0, begin);  // all of it, if there is nothing else
  }
  for (; looked_at_ < text_.size() && !is_too_deep(); ++looked_at_) {
    const char c = text_[looked_at_];
    bool ends = false;
    if (in_string_) {
      if (!std::exchange(escaped_, false)) {
        escaped_ = c == '\\';
        in_string_ = c != '"';
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      ends = depth_ <= 1;
      if (depth_ > 0) --depth_;
    } else {
      ends = depth_ == 0 && c == '\n';
    }
    if (!ends) continue;
    std::string value = text_.substr(0, looked_at_ + 1);
    text_.erase(0, looked_at_ + 1);
    looked_at_ = 0;
    depth_ = 0;
    return value;
  }
  return {};
}

}  // namespace basalt::rpc
