// Copying to and from memory that is a device's blocks (ram:, mapped files).
//
// Two commands may touch the same block at once, from two threads, as on any device: what that
// leaves is for whoever submitted them. The plain copies here say so to ThreadSanitizer, by copying
// byte by byte with relaxed atomic accesses to the blocks when it watches.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bdev/io_cursor.h"

#if defined(__SANITIZE_THREAD__)
#define BASALT_WATCHED_COPIES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BASALT_WATCHED_COPIES 1
#endif
#endif

namespace basalt {

#ifdef BASALT_WATCHED_COPIES
inline void copy_from_blocks(std::byte* to, const std::byte* blocks, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) to[i] = __atomic_load_n(blocks + i, __ATOMIC_RELAXED);
}
inline void copy_to_blocks(std::byte* blocks, const std::byte* from, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) __atomic_store_n(blocks + i, from[i], __ATOMIC_RELAXED);
}
#else
inline void copy_from_blocks(std::byte* to, const std::byte* blocks, size_t bytes) {
  std::memcpy(to, blocks, bytes);
}
inline void copy_to_blocks(std::byte* blocks, const std::byte* from, size_t bytes) {
  std::memcpy(blocks, from, bytes);
}
#endif

// Fills the vectors with the blocks.
inline void read_blocks(std::span<const std::byte> blocks, std::span<const iovec> vectors) {
  const std::byte* at = blocks.data();
  IoCursor().walk(vectors, blocks.size(), [&at](std::byte* piece, size_t length) {
    copy_from_blocks(piece, at, length);
    at += length;
    return true;
  });
}

// Fills the blocks from the vectors.
inline void write_blocks(std::span<const iovec> vectors, std::span<std::byte> blocks) {
  std::byte* at = blocks.data();
  IoCursor().walk(vectors, blocks.size(), [&at](const std::byte* piece, size_t length) {
    copy_to_blocks(at, piece, length);
    at += length;
    return true;
  });
}

}  // namespace basalt
