#include "blob/superblock.h"

#include "base/crc32c.h"
#include "base/planted.h"
#include "base/try.h"
#include "blob/aligned_buffer.h"
#include "blob/block_io.h"

#include <cstring>

namespace basalt::blob {
namespace {

uint32_t superblock_crc(const Superblock& superblock) {
  Superblock copy = superblock;
  copy.crc = 0;
  return crc32c(std::as_bytes(std::span(&copy, 1)));
}

bool inside(uint64_t first, uint64_t count, uint64_t limit) {
  return first <= limit && count <= limit - first;
}

bool power_of_two(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

// The checksum holds, so only a defect or malice gets caught here.
const char* geometry_problem(const Superblock& sb, uint64_t device_bytes) {
  const uint64_t blocks = sb.device_bytes / kBlockBytes;
  if (sb.device_bytes > device_bytes) return "the device is smaller than the store";
  if (sb.block_bytes != kBlockBytes) return "block size is not 4096";
  if (!power_of_two(sb.cluster_bytes) || sb.cluster_bytes < 4 * kBlockBytes ||
      sb.cluster_bytes > (uint32_t{1} << 20)) {
    return "cluster size is not a power of two from 16 KiB to 1 MiB";
  }
  if (sb.cluster_count == 0 || sb.cluster_count > sb.device_bytes / sb.cluster_bytes) {
    return "more clusters than the device holds";
  }
  if (sb.journal_blocks < 2 * kMaxRecordBytes / kBlockBytes ||
      !inside(sb.journal_first_block, sb.journal_blocks, blocks)) {
    return "the journal is outside the device or too small";
  }
  if (sb.metadata_copies != 2 || sb.metadata_run_count == 0 ||
      sb.metadata_run_count > kMaxMetadataRuns) {
    return "impossible metadata runs";
  }
  for (unsigned i = 0; i < sb.metadata_run_count; ++i) {
    const MetadataRun& run = sb.metadata_runs[i];
    if (run.page_count == 0 || !inside(run.first_block[0], run.page_count, blocks) ||
        !inside(run.first_block[1], run.page_count, blocks)) {
      return "metadata run outside the device";
    }
  }
  if (sb.checkpoint_generation > sb.generation) return "pages newer than the superblock";
  for (const PageRef& root : sb.trees) {
    if (root.page != kNoPage && root.generation > sb.checkpoint_generation) {
      return "a tree newer than its checkpoint";
    }
  }
  return nullptr;
}

// Each flip writes the slot that holds the older one, so the two generations follow each other. A
// superblock older than that lies where a write was lost: its pages and its part of the journal may have
// been used again.
void drop_stale(SuperblockPair& pair) {
  if (!pair.slots[0] || !pair.slots[1]) return;
  const unsigned newest = *pair.newest(), slot = 1 - newest;
  const uint64_t expected = pair.slots[newest]->generation - 1;
  const uint64_t found = pair.slots[slot]->generation;
  if (found == expected || planted("superblock_stale")) return;
  pair.problems[slot] =
      Status(StatusCode::corruption, "superblock " + std::to_string(slot) + " (byte " +
                                         std::to_string(kSuperblockOffset[slot]) +
                                         "): generation " + std::to_string(found) + ", expected " +
                                         std::to_string(expected) + ": an older one in its place");
  pair.slots[slot].reset();
}

}  // namespace

Result<Superblock> parse_superblock(std::span<const std::byte> bytes, unsigned slot,
                                    uint64_t device_bytes) {
  const std::string name = "superblock " + std::to_string(slot) + " (byte " +
                           std::to_string(kSuperblockOffset[slot]) + ")";
  Superblock sb;
  if (bytes.size() < sizeof sb) return error(StatusCode::corruption, name + ": short");
  std::memcpy(&sb, bytes.data(), sizeof sb);
  if (sb.magic != kSuperblockMagic && !planted("superblock_magic")) {
    return error(StatusCode::not_found, name + ": no Basalt store here (magic not found)");
  }
  if (const uint32_t crc = superblock_crc(sb); crc != sb.crc && !planted("superblock_checksum")) {
    return error(StatusCode::corruption, name + ": checksum mismatch (stored " +
                                             std::to_string(sb.crc) + ", computed " +
                                             std::to_string(crc) + ")");
  }
  if (sb.format_version != kFormatVersion && !planted("superblock_version")) {
    return error(StatusCode::unsupported, name + ": format version " +
                                              std::to_string(sb.format_version) +
                                              "; this program reads version 1");
  }
  if (sb.generation % 2 != slot && !planted("superblock_slot")) {
    return error(StatusCode::corruption, name + ": generation " + std::to_string(sb.generation) +
                                             " belongs into the other slot");
  }
  if (const char* problem = geometry_problem(sb, device_bytes)) {
    return error(StatusCode::corruption, name + ": " + problem);
  }
  return sb;
}

std::optional<unsigned> SuperblockPair::newest() const {
  if (!slots[0] && !slots[1]) return std::nullopt;
  if (!slots[0]) return 1;
  if (!slots[1]) return 0;
  return slots[0]->generation > slots[1]->generation ? 0 : 1;
}

Result<SuperblockPair> read_superblocks(Channel& channel, const DeviceInfo& info) {
  const uint64_t device_bytes = info.block_count.value * info.block_size;
  SuperblockPair pair;
  AlignedBuffer bytes(kBlockBytes);
  for (unsigned slot = 0; slot < 2; ++slot) {
    if (kSuperblockOffset[slot] + kBlockBytes > device_bytes) {
      pair.problems[slot] = Status(StatusCode::out_of_range, "superblock " + std::to_string(slot) +
                                                                 ": beyond the end of the device");
      continue;
    }
    pair.problems[slot] = read_blocks(channel, info, kSuperblockOffset[slot] / kBlockBytes,
                                      bytes.span(), "superblock " + std::to_string(slot));
    if (!pair.problems[slot].ok()) continue;
    auto parsed = parse_superblock(bytes.span(), slot, device_bytes);
    if (parsed) {
      pair.slots[slot] = *parsed;
    } else {
      pair.problems[slot] = parsed.error();
    }
  }
  if (pair.slots[0] && pair.slots[1] && pair.slots[0]->uuid != pair.slots[1]->uuid &&
      !planted("superblock_uuid")) {
    return error(StatusCode::corruption,
                 "the two superblocks belong to different stores (UUIDs differ)");
  }
  drop_stale(pair);
  return pair;
}

std::vector<FixedRegion> fixed_regions(const Superblock& superblock) {
  const uint64_t unit = superblock.cluster_bytes / kBlockBytes;
  std::vector<FixedRegion> regions;
  for (const uint64_t offset : kSuperblockOffset) {
    regions.push_back({"superblock", offset / superblock.cluster_bytes, 1});
  }
  regions.push_back(
      {"journal", superblock.journal_first_block / unit, superblock.journal_blocks / unit});
  for (unsigned i = 0; i < superblock.metadata_run_count; ++i) {
    const MetadataRun& run = superblock.metadata_runs[i];
    for (const uint64_t first_block : {run.first_block[0], run.first_block[1]}) {
      regions.push_back({"metadata region", first_block / unit, run.page_count / unit});
    }
  }
  return regions;
}

Status write_superblock(Channel& channel, const DeviceInfo& info, Superblock& superblock) {
  superblock.crc = superblock_crc(superblock);
  AlignedBuffer bytes(kBlockBytes);
  std::memcpy(bytes.data(), &superblock, sizeof superblock);
  const unsigned slot = superblock.generation % 2;
  return write_blocks(channel, info, kSuperblockOffset[slot] / kBlockBytes, bytes.span(),
                      IoFlags{.fua = !planted("superblock_not_forced")},
                      "superblock " + std::to_string(slot));
}

}  // namespace basalt::blob
