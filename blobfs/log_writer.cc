#include "blobfs/log_writer.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/planted.h"

#include <algorithm>
#include <cstring>

namespace basalt::blobfs {

void seal_block(const LogShape& shape, const SealOptions& options, uint64_t position,
                std::span<const std::byte> payload, std::span<std::byte> block) {
  BASALT_CHECK(!payload.empty() && payload.size() <= shape.payload(),
               "a block has 1 … payload bytes");
  BASALT_CHECK(block.size() == shape.block_bytes, "a sealed block has the file's block size");
  const uint64_t end = position + payload.size();
  const uint64_t durable = planted("log_durable_unstated") ? 0 : options.durable;
  const uint64_t lag = end - std::min(end, durable);
  SealedHeader header{};
  header.length = static_cast<uint16_t>(payload.size());
  header.version = kSealedVersion;
  header.file_id = options.file_id;
  header.position = position;
  header.epoch = options.epoch;
  header.durable_lag = static_cast<uint32_t>(std::min<uint64_t>(lag, ~uint32_t{0}));
  const auto header_bytes = std::as_bytes(std::span(&header, 1)).subspan(sizeof header.crc);
  header.crc = crc32c(payload, crc32c(header_bytes));
  std::memcpy(block.data(), &header, sizeof header);
  std::memcpy(block.data() + sizeof header, payload.data(), payload.size());
  const size_t used = sizeof header + payload.size();
  std::memset(block.data() + used, 0, block.size() - used);
}

size_t seal_blocks(const LogShape& shape, const SealOptions& options, uint64_t position,
                   std::span<const std::span<const std::byte>> pieces, std::span<std::byte> out) {
  size_t used = 0;
  for (std::span<const std::byte> piece : pieces) {
    while (!piece.empty()) {
      const auto payload = piece.first(std::min<size_t>(piece.size(), shape.payload()));
      BASALT_CHECK(used + shape.block_bytes <= out.size(), "room for every sealed block");
      seal_block(shape, options, position, payload, out.subspan(used, shape.block_bytes));
      position += payload.size();
      used += shape.block_bytes;
      piece = piece.subspan(payload.size());
    }
  }
  return used;
}

}  // namespace basalt::blobfs
