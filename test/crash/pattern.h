// Self-describing file content: every 16-byte cell names the file it belongs to, the write that put it
// there and its offset, so that a stale or misplaced byte says where it comes from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace basalt::crash {

// The bytes that write number `write` to file number `file` puts at [offset, offset + length).
std::string pattern(uint64_t file, uint64_t write, uint64_t offset, size_t length);

// Bytes for a message: printable ones as they are, runs of zeros counted, the rest in hexadecimal.
std::string printable(std::string_view bytes);

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::span<std::byte> as_writable_bytes(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

}  // namespace basalt::crash
