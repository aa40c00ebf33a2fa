// Commands as values: each function fills in one command's words; cid and data pointer stay the queue's.
//
// Admin commands: NVM Express base specification 2.0, §5. I/O commands: NVM command set specification 1.0, §3.
// Block counts are 1 … kMaxBlocksPerCommand, whatever the wire has.
#pragma once

#include <cstdint>

#include "wire/nvme/block_ranges.h"
#include "wire/nvme/command.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/reservations.h"
#include "wire/nvme/zoned.h"

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
// Of a namespace whose metadata is protection information of `type` 1 … 3 and nothing else: the controller makes and
// checks it, with reference tags as type 1 has them, and none of it is in the data.
inline void protect_by_controller(Command& command, uint8_t type) {
  command.cdw12 = command.cdw12 | kProtectionAction | kCheckGuard;
  if (type == 3) return;  // its reference tags are the application's
  command.cdw12 = command.cdw12 | kCheckReferenceTag;
  command.cdw14 = command.cdw10;
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
// Copies `range_count` CopyRanges, 1 … 256, which are the data, to blocks from `lba` on.
inline Command copy_command(uint32_t nsid, uint64_t lba, uint32_t range_count) {
  Command command = block_command(IoOpcode::copy, nsid, lba, 1);
  command.cdw12 = range_count - 1;
  return command;
}
// Until they are written again, the blocks cannot be read.
inline Command write_uncorrectable_command(uint32_t nsid, uint64_t lba, uint32_t block_count) {
  return block_command(IoOpcode::write_uncorrectable, nsid, lba, block_count);
}
// Compare-and-write, atomic within ACWU blocks: `compare`, then `write`, of the same blocks, submitted one right after
// the other. The write is done only if the compare succeeds.
inline void fuse(Command& compare, Command& write) {
  compare.flags |= kFusedFirst;
  write.flags |= kFusedSecond;
}
inline Command flush_command(uint32_t nsid) {
  Command command;
  command.opcode = static_cast<uint8_t>(IoOpcode::flush);
  command.nsid = nsid;
  return command;
}

// ---- Zoned namespaces (zoned namespace command set specification 1.1, §3.4); zones are named by their first block.

// Writes at the zone's write pointer; completion words 0 and 1 are the block where the data begins.
inline Command zone_append_command(uint32_t nsid, uint64_t zone, uint32_t block_count) {
  return block_command(IoOpcode::zone_append, nsid, zone, block_count);
}
// `flags`: 0 or kAllZones.
inline Command zone_action_command(uint32_t nsid, uint64_t zone, ZoneAction action,
                                   uint32_t flags = 0) {
  Command command = block_command(IoOpcode::zone_management_send, nsid, zone, 1);
  command.cdw13 = static_cast<uint32_t>(action) | flags;
  return command;
}
// A report of the zones from the one with block `lba` on; the data is `bytes` long, a multiple of four.
inline Command zone_report_command(uint32_t nsid, uint64_t lba, uint32_t bytes,
                                   uint32_t flags = kPartialReport) {
  Command command = block_command(IoOpcode::zone_management_receive, nsid, lba, bytes / 4);
  command.cdw12 = bytes / 4 - 1;
  command.cdw13 = flags;
  return command;
}

// ---- Reservations (base specification 2.0, §7.3-7.6); their data is the structs of wire/nvme/reservations.h.

inline Command reservation_command(IoOpcode opcode, uint32_t nsid, uint32_t word10) {
  Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  command.cdw10 = word10;
  return command;
}
inline Command reservation_register_command(uint32_t nsid, ReservationRegister action,
                                            bool ignore_existing_key = false) {
  return reservation_command(IoOpcode::reservation_register, nsid,
                             static_cast<uint32_t>(action) | (ignore_existing_key ? 1u << 3 : 0));
}
inline Command reservation_acquire_command(uint32_t nsid, ReservationAcquire action,
                                           ReservationType type) {
  return reservation_command(IoOpcode::reservation_acquire, nsid,
                             static_cast<uint32_t>(action) | static_cast<uint32_t>(type) << 8);
}
inline Command reservation_release_command(uint32_t nsid, ReservationRelease action,
                                           ReservationType type) {
  return reservation_command(IoOpcode::reservation_release, nsid,
                             static_cast<uint32_t>(action) | static_cast<uint32_t>(type) << 8);
}
// The first `bytes` of the report, a multiple of four, with 128-bit host ids as fabrics have them.
inline Command reservation_report_command(uint32_t nsid, uint32_t bytes) {
  Command command = reservation_command(IoOpcode::reservation_report, nsid, bytes / 4 - 1);
  command.cdw11 = 1;
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
// Of one command set: IdentifyKind::command_set_…
inline Command identify_command(IdentifyKind kind, uint32_t nsid, CommandSet command_set) {
  return admin_command(AdminOpcode::identify, nsid, static_cast<uint32_t>(kind),
                       static_cast<uint32_t>(command_set) << 24);
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
// Sanitize (§5.24): every namespace's data is gone, in the background; LogPage::sanitize_status tells how far it is.
enum class SanitizeAction : uint8_t {
  exit_failure_mode = 1,
  block_erase = 2,
  overwrite = 3,
  crypto_erase = 4
};
inline Command sanitize_command(SanitizeAction action) {
  return admin_command(AdminOpcode::sanitize, 0, static_cast<uint32_t>(action));
}
// Firmware (§5.12, §5.13): an image is downloaded in pieces, `bytes` of it from `offset` on, both multiples of four,
// and then committed to a slot.
inline Command firmware_download_command(uint32_t offset, uint32_t bytes) {
  return admin_command(AdminOpcode::firmware_download, 0, bytes / 4 - 1, offset / 4);
}
enum class FirmwareAction : uint8_t {
  store = 0,
  store_and_activate_at_reset = 1,
  activate_at_reset = 2,
  store_and_activate_now = 3
};
inline Command firmware_commit_command(unsigned slot, FirmwareAction action) {
  return admin_command(AdminOpcode::firmware_commit, 0,
                       (slot & 7) | static_cast<uint32_t>(action) << 3);
}
// Namespace management (§5.23): creation takes an IdentifyNamespace as data, and word 0 of its completion is the new
// namespace's id. Attachment (§5.22) takes a ControllerList.
inline Command create_namespace_command() {
  return admin_command(AdminOpcode::namespace_management, 0, 0);
}
inline Command delete_namespace_command(uint32_t nsid) {
  return admin_command(AdminOpcode::namespace_management, nsid, 1);
}
inline Command attach_namespace_command(uint32_t nsid, bool attach) {
  return admin_command(AdminOpcode::namespace_attachment, nsid, attach ? 0 : 1);
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
