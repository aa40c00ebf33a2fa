// IoCursor: a position in an Io's vectors, and copying and comparing from there.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

namespace basalt {

struct IoCursor {
  size_t index = 0;   // of the vector
  size_t offset = 0;  // in it

  // Calls piece(std::byte*, size_t) for each stretch of the next `bytes` bytes, until one answers
  // false, and moves past them. The vectors must hold that much.
  template <typename Piece>
  bool walk(std::span<const iovec> vectors, size_t bytes, Piece piece) {
    while (bytes != 0) {
      const iovec& vector = vectors[index];
      const size_t length = std::min(vector.iov_len - offset, bytes);
      if (length != 0 && !piece(static_cast<std::byte*>(vector.iov_base) + offset, length)) {
        return false;
      }
      skip_in(vector, length);
      bytes -= length;
    }
    return true;
  }

  void skip(std::span<const iovec> vectors, size_t bytes) {
    walk(vectors, bytes, [](std::byte*, size_t) { return true; });
  }
  // `vector` is the one at the cursor.
  void skip_in(const iovec& vector, size_t length) {
    offset += length;
    if (offset < vector.iov_len) return;
    ++index;
    offset = 0;
  }
};

// From the vectors, starting at the cursor, into `to`.
inline void gather(std::span<const iovec> vectors, IoCursor from, std::span<std::byte> to) {
  std::byte* at = to.data();
  from.walk(vectors, to.size(), [&at](const std::byte* piece, size_t length) {
    std::memcpy(at, piece, length);
    at += length;
    return true;
  });
}

// From `from` into the vectors, starting at the cursor.
inline void scatter(std::span<const std::byte> from, std::span<const iovec> vectors, IoCursor to) {
  const std::byte* at = from.data();
  to.walk(vectors, from.size(), [&at](std::byte* piece, size_t length) {
    std::memcpy(piece, at, length);
    at += length;
    return true;
  });
}

// Whether the vectors, starting at the cursor, hold the same bytes as `with`.
inline bool same(std::span<const iovec> vectors, IoCursor from, std::span<const std::byte> with) {
  const std::byte* at = with.data();
  return from.walk(vectors, with.size(), [&at](const std::byte* piece, size_t length) {
    at += length;
    return std::memcmp(at - length, piece, length) == 0;
  });
}

}  // namespace basalt
