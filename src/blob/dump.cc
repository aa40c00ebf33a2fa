// dump_store: the metadata of a store as lines a person can read, one structure a line.
#include "base/try.h"
#include "blob/key_names.h"
#include "blob/store_impl.h"

#include <cstring>
#include <fmt/format.h>
#include <iterator>

namespace basalt::blob {
namespace {

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

void dump_superblock(const Superblock& sb, unsigned slot, std::string& out) {
  const auto line = [&](std::string_view text) { out.append(text).append("\n"); };
  line(fmt::format("superblock {}: generation {} uuid {} label {}", slot, uint64_t{sb.generation},
                   hex(sb.uuid), quoted({sb.label, strnlen(sb.label, sizeof sb.label)})));
  line(fmt::format("  device {} B, clusters {} of {} B, {} free, {} blobs, next blob id {}",
                   uint64_t{sb.device_bytes}, uint64_t{sb.cluster_count},
                   uint32_t{sb.cluster_bytes}, uint64_t{sb.free_clusters}, uint64_t{sb.blob_count},
                   uint64_t{sb.next_blob_id}));
  line(fmt::format("  features incompatible {:#x} read-only {:#x} compatible {:#x}",
                   uint64_t{sb.incompatible_features}, uint64_t{sb.read_only_features},
                   uint64_t{sb.compatible_features}));
  line(
      fmt::format("  journal blocks {} … {}, recovery from position {} sequence {}, transactions "
                  "covered {}",
                  uint64_t{sb.journal_first_block}, sb.journal_first_block + sb.journal_blocks,
                  uint64_t{sb.journal_position}, uint64_t{sb.journal_sequence},
                  uint64_t{sb.transaction_sequence}));
  line(fmt::format("  epoch {} open id {} boot id {} open for writing: {}", uint64_t{sb.epoch},
                   hex(sb.open_id), quoted({sb.boot_id, strnlen(sb.boot_id, sizeof sb.boot_id)}),
                   sb.open_for_writing == kNotOpen           ? "no"
                   : sb.open_for_writing == kOpenWithoutTail ? "yes, without a tail"
                                                             : "yes"));
  for (unsigned i = 0; i < sb.metadata_run_count; ++i) {
    const MetadataRun& run = sb.metadata_runs[i];
    line(fmt::format("  metadata run {}: {} pages at blocks {} and {}", i, uint64_t{run.page_count},
                     uint64_t{run.first_block[0]}, uint64_t{run.first_block[1]}));
  }
  const char* const trees[kTreeCount] = {"objects", "catalog", "space", "references"};
  for (unsigned i = 0; i < kTreeCount; ++i) {
    const PageRef& root = sb.trees[i];
    line(root.page == kNoPage
             ? fmt::format("  tree {}: empty", trees[i])
             : fmt::format("  tree {}: root page {} generation {} level {}", trees[i],
                           uint64_t{root.page}, uint64_t{root.generation}, uint32_t{root.level}));
  }
}

Status dump_blobs(State& state, std::string& out) {
  std::vector<std::pair<BlobId, BlobRecord>> blobs;
  BASALT_TRY(state.for_each_blob([&](BlobId id, const BlobRecord& record) {
    blobs.emplace_back(id, record);
    return true;
  }));
  for (const auto& [id, record] : blobs) {
    out += fmt::format("blob {}: {} B, {} blocks allocated, flags {:#x}, parent {}\n", id.value,
                       uint64_t{record.size_bytes}, uint64_t{record.allocated_blocks},
                       uint32_t{record.flags}, uint64_t{record.parent});
    BASALT_TRY_ASSIGN(const auto extents, state.extents(id, {0, uint64_t{1} << 52}));
    for (const Extent& extent : extents) {
      out +=
          fmt::format("  blocks {} … {} at {} {}\n", extent.logical, extent.end(), extent.physical,
                      extent.state == ExtentState::written ? "written" : "unwritten");
    }
    BASALT_TRY_ASSIGN(const auto groups, state.checksum_groups(id, {0, kMaxBlobBlocks}));
    for (const uint64_t group : groups) {
      BASALT_TRY_ASSIGN(const std::string stored, state.checksums(id, group));
      const uint64_t first = group * kChecksumGroupBlocks;
      out += fmt::format("  checksums of blocks {} … {}\n", first,
                         first + stored.size() / sizeof(le32));
    }
  }
  return {};
}

}  // namespace

Status dump_store(Context& context, Device& device, std::string& out) {
  {
    BASALT_TRY_ASSIGN(auto channel, device.open_channel());
    BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(*channel, device.info()));
    for (unsigned slot = 0; slot < 2; ++slot) {
      if (pair.slots[slot]) {
        dump_superblock(*pair.slots[slot], slot, out);
      } else {
        out += fmt::format("superblock {}: unusable: {}\n", slot, pair.problems[slot].message());
      }
    }
  }
  StoreOptions options;
  options.mode = OpenMode::read_only;
  BASALT_TRY_ASSIGN(const auto store, open_impl(context, device, options));
  out +=
      fmt::format("after replaying the journal: last transaction {}\n", store->last_ticket.value);
  BASALT_TRY(dump_blobs(store->state, out));
  Tree::Cursor cursor(store->state.catalog());
  BASALT_TRY(cursor.seek(""));
  while (cursor.valid()) {
    out += fmt::format("catalog {} = {}\n", quoted(cursor.key()), quoted(cursor.value()));
    BASALT_TRY(cursor.next());
  }
  Tree::Cursor space(store->state.space().tree());
  BASALT_TRY(space.seek(""));
  while (space.valid()) {
    be64 first;
    le64 count;
    if (space.key().size() == 8 && space.value().size() == 8) {
      std::memcpy(&first, space.key().data(), 8);
      std::memcpy(&count, space.value().data(), 8);
      out += fmt::format("free clusters {} … {}\n", uint64_t{first}, first + count);
    }
    BASALT_TRY(space.next());
  }
  return {};
}

}  // namespace basalt::blob
