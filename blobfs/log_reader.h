// Validation of sealed blocks and the search for a log's end (docs/format/log.md).
//
// open_block() proves one block; LogEndSearch is fed a log's blocks in order and says where the file
// ends and whether synced bytes are missing. Pure: no I/O, so that tests feed any bytes.
#pragma once

#include "blobfs/log_format.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace basalt::blobfs {

// What the inode says about a log, against which its blocks are checked.
struct LogIdentity {
  uint64_t file_id = 0;
  uint32_t epoch = 0;
  uint64_t journaled_length = 0;
  LogShape shape;
};

struct OpenedBlock {
  std::span<const std::byte> payload;  // what counts of it
  uint64_t durable = 0;  // file length known durable when it was sealed; a lower bound
  uint32_t epoch = 0;
};

// The payload of `block` if it is a valid block of this log for `position`; nothing otherwise. A block
// of an older epoch counts only up to the journaled length.
std::optional<OpenedBlock> open_block(const LogIdentity& log, uint64_t position,
                                      std::span<const std::byte> block);

class LogEndSearch {
 public:
  explicit LogEndSearch(const LogIdentity& log);
  // The block to begin with.
  uint64_t first_block() const { return first_block_; }
  // Takes the next block in order, with the block after it (empty at the end of the space), in which
  // another version of this one may lie.
  void take(std::span<const std::byte> block, std::span<const std::byte> next);

  // Once every allocated block was taken:
  uint64_t end() const { return end_; }
  // The newest version of the last block lies in the place after its own.
  bool last_is_displaced() const { return displaced_; }
  // The last block's bytes, when it is not full or is displaced; else empty.
  const std::vector<std::byte>& last_payload() const { return last_payload_; }
  // A later valid block says that more was durable than was found, or the journaled length was not
  // reached.
  bool bytes_missing() const;
  // The file length some block or the journal proves to have been durable, and the last byte any valid
  // block beyond the end holds.
  uint64_t proven_durable() const { return proven_durable_; }
  uint64_t highest_end() const { return highest_end_; }
  uint64_t valid_blocks() const { return valid_blocks_; }

 private:
  void settle(const OpenedBlock* own, const OpenedBlock* displaced);

  LogIdentity log_;
  uint64_t first_block_ = 0;
  uint64_t block_ = 0;  // the next to take
  uint64_t end_ = 0;
  uint64_t proven_durable_ = 0;
  uint64_t highest_end_ = 0;
  uint64_t valid_blocks_ = 0;
  bool found_ = false;
  bool displaced_ = false;
  std::vector<std::byte> last_payload_;
};

}  // namespace basalt::blobfs
