// Sealing: turns payload bytes of a log into blocks ready for the device (docs/format/log.md).
//
// Pure functions on buffers; log_file.cc decides what is sealed and when it is written.
#pragma once

#include "blobfs/log_format.h"

#include <cstddef>
#include <cstdint>
#include <span>

namespace basalt::blobfs {

struct SealOptions {
  uint64_t file_id = 0;
  uint32_t epoch = 0;
  uint64_t durable = 0;  // file length known durable now
};

// Seals one block: copies `payload` (1 … shape.payload() bytes, starting at file position `position`)
// behind the header and zeroes the rest of `block`.
void seal_block(const LogShape& shape, const SealOptions& options, uint64_t position,
                std::span<const std::byte> payload, std::span<std::byte> block);

// Seals the bytes of `pieces`, which follow each other from `position` on (a multiple of the payload
// size), into consecutive blocks of `out`. No block spans two pieces: every piece but the last holds
// whole payloads. Returns the bytes of `out` used.
size_t seal_blocks(const LogShape& shape, const SealOptions& options, uint64_t position,
                   std::span<const std::span<const std::byte>> pieces, std::span<std::byte> out);

}  // namespace basalt::blobfs
