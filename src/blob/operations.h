// OperationReader: takes a transaction's encoded operations apart, field by field.
//
// The bytes may come from a device or from shared memory: any overrun leaves the reader failed and
// answering zeros, so a caller reads all fields of an operation and then asks failed() once.
// Format: docs/format/journal.md, "Operations". A reader is used by one thread.
#pragma once

#include "base/endian.h"
#include "blob/format.h"
#include "blob/node.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace basalt::blob {

class OperationReader {
 public:
  explicit OperationReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool done() const { return bytes_.empty() || failed_; }
  bool failed() const { return failed_; }

  OpCode op() {
    const uint8_t code = take(1) ? std::to_integer<uint8_t>(last_[0]) : 0;
    return static_cast<OpCode>(code);
  }
  uint64_t number() {
    le64 value;
    if (!take(sizeof value)) return 0;
    std::memcpy(&value, last_.data(), sizeof value);
    return value;
  }
  std::string_view text(size_t limit) {
    le16 length;
    if (!take(sizeof length)) return {};
    std::memcpy(&length, last_.data(), sizeof length);
    if (length > limit || !take(length)) {
      failed_ = true;
      return {};
    }
    return as_text(last_);
  }

 private:
  bool take(size_t bytes) {
    if (failed_ || bytes > bytes_.size()) {
      failed_ = true;
      return false;
    }
    last_ = bytes_.first(bytes);
    bytes_ = bytes_.subspan(bytes);
    return true;
  }
  std::span<const std::byte> bytes_, last_;
  bool failed_ = false;
};

}  // namespace basalt::blob
