// Blocking transfers in store blocks, for control paths: open, recovery, checkpoints, page faults.
//
// Thin over a leased channel: translates store blocks (4096 B) to device blocks and status codes to
// sentences. The batches keep up to 32 transfers in flight.
#pragma once

#include <basalt/device.h>
#include <basalt/status.h>

#include "blob/channel_pool.h"
#include "blob/extent_map.h"

#include <span>
#include <vector>

namespace basalt::blob {

struct BlockWrite {
  uint64_t block = 0;                // store block
  std::span<const std::byte> bytes;  // whole store blocks
};

struct BlockRead {
  uint64_t block = 0;          // store block
  std::span<std::byte> bytes;  // whole store blocks
};

// `what` names the object in the message: "journal record 12: read block 77 (4096 B): I/O error".
Status read_blocks(Channel& channel, const DeviceInfo& info, uint64_t block,
                   std::span<std::byte> bytes, std::string_view what);
Status write_blocks(Channel& channel, const DeviceInfo& info, uint64_t block,
                    std::span<const std::byte> bytes, IoFlags flags, std::string_view what);
Status write_batch(Channel& channel, const DeviceInfo& info, std::span<const BlockWrite> writes,
                   std::string_view what);
// The first failure, in order; the other reads are done all the same, as far as those in flight with it.
Status read_batch(Channel& channel, const DeviceInfo& info, std::span<const BlockRead> reads,
                  std::string_view what);
Status flush_device(Channel& channel, std::string_view what);

// Submits every Io of `ios` and waits for all; the first failure in order, or ok.
StatusCode run_all(Channel& channel, std::span<Io> ios);

}  // namespace basalt::blob
