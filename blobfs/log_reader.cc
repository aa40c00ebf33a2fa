#include "blobfs/log_reader.h"

#include "base/crc32c.h"
#include "base/planted.h"

#include <algorithm>
#include <cstring>

namespace basalt::blobfs {

std::optional<OpenedBlock> open_block(const LogIdentity& log, uint64_t position,
                                      std::span<const std::byte> block) {
  if (block.size() != log.shape.block_bytes) return {};
  SealedHeader header;
  std::memcpy(&header, block.data(), sizeof header);
  const uint32_t length = header.length;
  if ((header.version != kSealedVersion && !planted("log_version")) ||
      (header.file_id != log.file_id && !planted("log_file_id")) ||
      (header.position != position && !planted("log_position")) ||
      (length == 0 && !planted("log_length")) || length > log.shape.payload()) {
    return {};
  }
  const bool below_journaled = position < log.journaled_length;
  const bool other_epoch = header.epoch != log.epoch && !planted("log_epoch");
  const bool later_epoch = header.epoch > log.epoch && !planted("log_later_epoch");
  if (below_journaled ? later_epoch : other_epoch) return {};
  const auto covered = block.subspan(sizeof header.crc, sizeof header - sizeof header.crc + length);
  if (crc32c(covered) != header.crc && !planted("log_checksum")) return {};

  OpenedBlock opened;
  opened.epoch = header.epoch;
  opened.payload = block.subspan(sizeof header, length);
  if (header.epoch != log.epoch && !planted("log_old_epoch_whole")) {
    const uint64_t counts = std::min<uint64_t>(length, log.journaled_length - position);
    opened.payload = opened.payload.first(counts);
  }
  const uint64_t end = position + length;
  opened.durable = end - std::min<uint64_t>(end, header.durable_lag);
  return opened;
}

LogEndSearch::LogEndSearch(const LogIdentity& log)
    : log_(log),
      first_block_(log.shape.block_of(log.journaled_length)),
      block_(first_block_),
      end_(log.shape.position_of(first_block_)),
      proven_durable_(log.journaled_length) {}

void LogEndSearch::take(std::span<const std::byte> block, std::span<const std::byte> next) {
  const uint64_t position = log_.shape.position_of(block_++);
  const std::optional<OpenedBlock> own = open_block(log_, position, block);
  if (own) {
    ++valid_blocks_;
    highest_end_ = std::max(highest_end_, position + own->payload.size());
    // Of an older epoch, what counted as durable then may have been truncated since.
    if (own->epoch == log_.epoch || planted("log_stale_proof"))
      proven_durable_ = std::max(proven_durable_, own->durable);
  }
  if (found_) return;
  // A full block in its own place is never rewritten, so no other version can matter.
  if (own && own->payload.size() == log_.shape.payload()) {
    end_ = position + own->payload.size();
    return;
  }
  const std::optional<OpenedBlock> displaced = open_block(log_, position, next);
  if (displaced && displaced->epoch == log_.epoch) {
    proven_durable_ = std::max(proven_durable_, displaced->durable);
  }
  settle(own ? &*own : nullptr, displaced ? &*displaced : nullptr);
}

void LogEndSearch::settle(const OpenedBlock* own, const OpenedBlock* displaced) {
  found_ = true;
  displaced_ = displaced != nullptr &&
               (own == nullptr || displaced->payload.size() > own->payload.size()) &&
               !planted("log_displaced_ignored");
  const OpenedBlock* last = displaced_ ? displaced : own;
  if (last == nullptr) return;  // ends with the block before
  last_payload_.assign(last->payload.begin(), last->payload.end());
  end_ += last->payload.size();
  highest_end_ = std::max(highest_end_, end_);
}

bool LogEndSearch::bytes_missing() const {
  if (planted("log_hole_is_end")) return false;
  return end_ < log_.journaled_length || proven_durable_ > end_;
}

}  // namespace basalt::blobfs
