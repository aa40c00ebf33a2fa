// Commands as values: each function fills in one command's words; cid and data pointer stay the queue's.
//
// Admin commands: NVM Express base specification 2.0, §5. I/O commands: NVM command set specification 1.0, §3.
// Block counts are 1 … kMaxBlocksPerCommand, whatever the wire has.
#pragma once

#include <cstdint>

#include "wire/nvme/block_ranges.h"
#include "wire/nvme/command.h"
#include "wire/nvme/identify.h"

namespace basalt::nvme {

// ---- I/O

inline Command block_command(IoOpcode opcode, uint32_t nsid, uint64_t lba, uint32_t block_count,
                             uint32_t flags = 0) {
  Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  command.cdw10 = static_cast<uint32_t>(lba);
  command.cdw11 = static_cast<uint32_t>(lba >> 32);
  command.cdw12 = (block_count - 1) | flags;
  return command;
}
inline Command read_command(uint32_t nsid, uint64_t lba, uint32_t block_count) {
  return block_command(IoOpcode::read, nsid, lba, block_count);
}
// `flags`: 0 or kForceUnitAccess.
inline Command write_command(uint32_t nsid, uint64_t lba, uint32_t block_count,
                             uint32_t flags = 0) {
  return block_command(IoOpcode::write, nsid, lba, block_count, flags);
}
// `flags`: kDeallocate if the blocks need not stay allocated.
inline Command write_zeroes_command(uint32_t nsid, uint64_t lba, uint32_t block_count,
                                    uint32_t flags = 0) {
  return block_command(IoOpcode::write_zeroes, nsid, lba, block_count, flags);
}
inline Command compare_command(uint32_t nsid, uint64_t lba, uint32_t block_count) {
  return block_command(IoOpcode::compare, nsid, lba, block_count);
}
inline Command verify_command(uint32_t nsid, uint64_t lba, uint32_t block_count) {
  return block_command(IoOpcode::verify, nsid, lba, block_count);
}
// Dataset management, deallocate; the data is `range_count` DatasetRanges, 1 … 256.
inline Command deallocate_command(uint32_t nsid, uint32_t range_count = 1) {
  Command command;
  command.opcode = static_cast<uint8_t>(IoOpcode::dataset_management);
  command.nsid = nsid;
  command.cdw10 = range_count - 1;
  command.cdw11 = kDatasetDeallocate;
  return command;
}
inline Command flush_command(uint32_t nsid) {
  Command command;
  command.opcode = static_cast<uint8_t>(IoOpcode::flush);
  command.nsid = nsid;
  return command;
}

// ---- Admin

inline Command admin_command(AdminOpcode opcode, uint32_t nsid = 0, uint32_t cdw10 = 0,
                             uint32_t cdw11 = 0) {
  Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  command.cdw10 = cdw10;
  command.cdw11 = cdw11;
  return command;
}
inline Command identify_command(IdentifyKind kind, uint32_t nsid = 0) {
  return admin_command(AdminOpcode::identify, nsid, static_cast<uint32_t>(kind));
}
inline Command get_feature_command(Feature feature, uint32_t nsid = 0) {
  return admin_command(AdminOpcode::get_features, nsid, static_cast<uint32_t>(feature));
}
inline Command set_feature_command(Feature feature, uint32_t value, uint32_t nsid = 0) {
  return admin_command(AdminOpcode::set_features, nsid, static_cast<uint32_t>(feature), value);
}
// The first `bytes` of a log page; a multiple of four.
inline Command log_page_command(LogPage page, uint32_t bytes, uint32_t nsid = kAllNamespaces) {
  const uint32_t words = bytes / 4 - 1;
  return admin_command(AdminOpcode::get_log_page, nsid,
                       static_cast<uint32_t>(page) | (words & 0xffff) << 16, words >> 16);
}
// Format NVM (§5.14): the namespace's data is gone. `format`: index in its identify data, 0 … 63.
enum class SecureErase : uint8_t { none = 0, user_data = 1, cryptographic = 2 };
inline Command format_command(uint32_t nsid, unsigned format,
                              SecureErase erase = SecureErase::none) {
  return admin_command(
      AdminOpcode::format_nvm, nsid,
      (format & 0xf) | static_cast<uint32_t>(erase) << 9 | (format >> 4 & 3) << 12);
}
inline Command abort_command(uint16_t queue_id, uint16_t cid) {
  return admin_command(AdminOpcode::abort, 0, queue_id | uint32_t{cid} << 16);
}
// Rings are contiguous; the completion queue raises `vector` unless it is polled (vector < 0).
inline Command create_completion_queue_command(uint16_t id, uint32_t entries, int vector) {
  const uint32_t interrupt = vector < 0 ? 0 : static_cast<uint32_t>(vector) << 16 | 2u;
  return admin_command(AdminOpcode::create_completion_queue, 0, id | (entries - 1) << 16,
                       interrupt | 1u);
}
inline Command create_submission_queue_command(uint16_t id, uint32_t entries,
                                               uint16_t completion_id) {
  return admin_command(AdminOpcode::create_submission_queue, 0, id | (entries - 1) << 16,
                       uint32_t{completion_id} << 16 | 1u);
}
inline Command delete_queue_command(AdminOpcode opcode, uint16_t id) {
  return admin_command(opcode, 0, id);
}

}  // namespace basalt::nvme
