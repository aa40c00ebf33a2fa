// Copying to and from memory that is a device's blocks (ram:, mapped files).
//
// Two commands may touch the same block at once, from two threads, as on any device: what that
// leaves is for whoever submitted them.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "base/racing_copy.h"
#include "bdev/io_cursor.h"

namespace basalt {

// Fills the vectors with the blocks.
inline void read_blocks(std::span<const std::byte> blocks, std::span<const iovec> vectors) {
  const std::byte* at = blocks.data();
  IoCursor().walk(vectors, blocks.size(), [&at](std::byte* piece, size_t length) {
    copy_from_shared<std::memory_order_relaxed>(piece, at, length);
    at += length;
    return true;
  });
}

// Fills the blocks from the vectors.
inline void write_blocks(std::span<const iovec> vectors, std::span<std::byte> blocks) {
  std::byte* at = blocks.data();
  IoCursor().walk(vectors, blocks.size(), [&at](const std::byte* piece, size_t length) {
    copy_to_shared<std::memory_order_relaxed>(at, piece, length);
    at += length;
    return true;
  });
}

}  // namespace basalt
