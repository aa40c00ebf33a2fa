// Making an empty store: lay the regions out, build the first checkpoint, write both superblocks.
#include "base/try.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

// Enough for a billion extents; opening reads a bit or two for each page of it.
constexpr uint64_t kMostMetadataBytes = uint64_t{64} << 30;

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// A region of whole clusters.
struct Region {
  uint64_t first_cluster = 0;
  uint64_t clusters = 0;
  uint64_t end() const { return first_cluster + clusters; }
};

struct Layout {
  uint64_t cluster_count = 0;
  Region superblocks[2];
  Region journal;
  Region metadata[2];  // copy 0 near the front, copy 1 at the end of the device
};

Result<Layout> plan(uint64_t device_bytes, const FormatOptions& options) {
  const uint64_t unit = options.cluster_bytes;
  if (unit < 4 * kBlockBytes || unit > (1u << 20) || (unit & (unit - 1)) != 0) {
    return error(StatusCode::invalid_argument, "cluster size " + std::to_string(unit) +
                                                   " is not a power of two from 16384 to 1048576");
  }
  if (device_bytes < kMinDeviceBytes) {
    return error(StatusCode::invalid_argument, "the device has " + std::to_string(device_bytes) +
                                                   " bytes; a store needs at least " +
                                                   std::to_string(kMinDeviceBytes));
  }
  const uint64_t smallest_journal = 2 * kMaxRecordBytes;
  const uint64_t journal_bytes =
      options.journal_bytes != 0
          ? options.journal_bytes
          : std::clamp<uint64_t>(device_bytes / 128, 1 << 20, uint64_t{64} << 20);
  const uint64_t metadata_bytes =
      options.metadata_bytes != 0
          ? options.metadata_bytes
          : std::clamp<uint64_t>(device_bytes / 64, 2 << 20, kMostMetadataBytes);
  if (journal_bytes > device_bytes || metadata_bytes > device_bytes) {
    return error(StatusCode::invalid_argument,
                 "a journal of " + std::to_string(journal_bytes) + " bytes and metadata of 2 × " +
                     std::to_string(metadata_bytes) + " do not fit a device of " +
                     std::to_string(device_bytes) + " bytes");
  }
  if (journal_bytes < smallest_journal || metadata_bytes < (1 << 20)) {
    return error(StatusCode::invalid_argument,
                 "a store needs a journal of at least " + std::to_string(smallest_journal) +
                     " bytes and metadata of at least 1048576 bytes per copy");
  }
  Layout layout;
  layout.cluster_count = device_bytes / unit;
  for (unsigned slot = 0; slot < 2; ++slot) {
    layout.superblocks[slot] = {kSuperblockOffset[slot] / unit, 1};
  }
  const uint64_t metadata_clusters = round_up(metadata_bytes, unit) / unit;
  layout.journal = {layout.superblocks[1].end(), round_up(journal_bytes, unit) / unit};
  layout.metadata[0] = {layout.journal.end(), metadata_clusters};
  if (layout.metadata[0].end() + metadata_clusters + 16 > layout.cluster_count) {
    return error(StatusCode::invalid_argument,
                 "journal and metadata regions leave no space for data on a device of " +
                     std::to_string(device_bytes) + " bytes");
  }
  layout.metadata[1] = {layout.cluster_count - metadata_clusters, metadata_clusters};
  return layout;
}

Status erase_old_superblocks(Channel& channel, const DeviceInfo& info) {
  const AlignedBuffer zeros(kBlockBytes);
  for (const uint64_t offset : kSuperblockOffset) {
    BASALT_TRY(write_blocks(channel, info, offset / kBlockBytes, zeros.span(), {}, "format"));
  }
  return flush_device(channel, "format");
}

}  // namespace

Status BlobStore::format(Context& context, Device& device, const FormatOptions& options) {
  const DeviceInfo& info = device.info();
  if (info.block_size > kBlockBytes) {
    return Status(StatusCode::unsupported, "the device's block size of " +
                                               std::to_string(info.block_size) +
                                               " B is larger than 4096 B");
  }
  if (options.label.size() >= sizeof Superblock::label) {
    return Status(
        StatusCode::invalid_argument,
        "the label has " + std::to_string(options.label.size()) + " bytes; at most 63 are kept");
  }
  const uint64_t device_bytes = info.block_count.value * info.block_size;
  BASALT_TRY_ASSIGN(const Layout layout, plan(device_bytes, options));
  BASALT_TRY_ASSIGN(auto channel, device.open_channel());
  if (!options.force) {
    BASALT_TRY_ASSIGN(const auto known, probe(*channel, info));
    if (known) {
      return Status(StatusCode::already_exists,
                    info.uri + " holds " + *known + "; use force to overwrite it");
    }
  }
  BASALT_TRY(erase_old_superblocks(*channel, info));

  const uint64_t blocks_per_cluster = options.cluster_bytes / kBlockBytes;
  Superblock sb{};
  sb.magic = kSuperblockMagic;
  sb.format_version = kFormatVersion;
  if (options.data_checksums) sb.incompatible_features = kFeatureDataChecksums;
  context.random().fill(sb.uuid);
  sb.device_bytes = device_bytes;
  sb.block_bytes = kBlockBytes;
  sb.cluster_bytes = options.cluster_bytes;
  sb.cluster_count = layout.cluster_count;
  sb.journal_first_block = layout.journal.first_cluster * blocks_per_cluster;
  sb.journal_blocks = layout.journal.clusters * blocks_per_cluster;
  sb.metadata_run_count = 1;
  sb.metadata_copies = 2;
  for (unsigned copy = 0; copy < 2; ++copy) {
    sb.metadata_runs[0].first_block[copy] =
        layout.metadata[copy].first_cluster * blocks_per_cluster;
  }
  sb.metadata_runs[0].page_count = layout.metadata[0].clusters * blocks_per_cluster;
  sb.journal_sequence = 1;
  sb.next_blob_id = kFirstBlobId;
  for (PageRef& root : sb.trees) root.page = kNoPage;
  std::memcpy(sb.label, options.label.data(), options.label.size());

  StoreOptions store_options;
  store_options.max_channels = 2;
  Impl impl(context, device, store_options, sb);
  impl.pages.map().reset(impl.pages.page_count());
  // Data clusters: everything between the fixed regions.
  uint64_t next = 0;
  for (const Region& region : {layout.superblocks[0], layout.superblocks[1], layout.journal,
                               layout.metadata[0], layout.metadata[1]}) {
    if (region.first_cluster > next) {
      BASALT_TRY(impl.state.space().give(next, region.first_cluster - next));
    }
    next = region.end();
  }
  // become_writer() writes both superblocks; the store is then closed as any other.
  BASALT_TRY(impl.become_writer(*channel, true));
  impl.superblock.open_for_writing = kNotOpen;
  BASALT_TRY(impl.flip_again(*channel));
  return impl.flip_again(*channel);
}

}  // namespace basalt::blob
