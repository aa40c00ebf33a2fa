#include "blob/rebuild.h"

#include "base/try.h"
#include "blob/block_io.h"
#include "blob/range_set.h"

#include <algorithm>

namespace basalt::blob {
namespace {

constexpr unsigned kRebuildable = part_of(TreeId::space) | kPageMapPart;

// Every cluster that the fixed regions and the blobs use.
Result<RangeSet> used_clusters(BlobStore::Impl& store) {
  RangeSet used;
  const auto mark = [&](uint64_t first, uint64_t count, const std::string& owner) -> Status {
    if (used.end_of_range_at(first) != 0 || used.next_range_after(first) < first + count ||
        first > store.state.cluster_count || count > store.state.cluster_count - first) {
      return Status(StatusCode::corruption, owner + ": clusters " + std::to_string(first) + " + " +
                                                std::to_string(count) +
                                                " are used twice or beyond the last");
    }
    used.add(first, count);
    return {};
  };
  for (const FixedRegion& region : fixed_regions(store.superblock)) {
    BASALT_TRY(mark(region.first_cluster, region.count, region.name));
  }
  std::vector<BlobId> ids;
  BASALT_TRY(store.state.for_each_blob([&](BlobId id, const BlobRecord&) {
    ids.push_back(id);
    return true;
  }));
  const uint64_t unit = store.state.cluster_blocks;
  for (const BlobId id : ids) {
    BASALT_TRY_ASSIGN(const auto extents, store.state.extents(id, {0, kMaxBlobBlocks}));
    ExtentMap clusters;  // by whole clusters, whatever the states inside
    for (Extent extent : extents) {
      extent.state = ExtentState::written;
      clusters.set(extent);
    }
    for (const Extent& extent : clusters.all()) {
      BASALT_TRY(mark(extent.physical / unit, (extent.count + unit - 1) / unit,
                      "blob " + std::to_string(id.value)));
    }
    store.pages.trim();
  }
  return used;
}

Status rebuild_free_space(BlobStore::Impl& store, std::vector<std::string>& done) {
  BASALT_TRY_ASSIGN(const RangeSet used, used_clusters(store));
  SpaceMap& space = store.state.space();
  space.tree().root = PageRef{};
  space.tree().root.page = kNoPage;
  space.set_free_clusters(0);
  for (uint64_t at = 0; at < store.state.cluster_count;) {
    if (const uint64_t end = used.end_of_range_at(at)) {
      at = end;
      continue;
    }
    const uint64_t end = std::min(store.state.cluster_count, used.next_range_after(at));
    BASALT_TRY(space.give(at, end - at));
    at = end;
  }
  done.push_back("made the tree of free space anew from the extents: " +
                 std::to_string(space.free_clusters()) + " clusters are free");
  return {};
}

// Pages first, then each slot; the one that names what this is made from comes last.
Status write_checkpoint(BlobStore::Impl& store, const SuperblockPair& pair, unsigned slot,
                        Channel& channel, std::vector<std::string>& done) {
  std::vector<FrozenPage> frozen;
  BASALT_TRY_ASSIGN(Superblock next, store.seal_state(frozen));
  BASALT_TRY(write_pages(store.pages, store.pool, frozen));
  BASALT_TRY(flush_device(channel, "rebuild"));
  uint64_t newest = 0;
  for (const auto& superblock : pair.slots) {
    if (superblock) newest = std::max<uint64_t>(newest, superblock->generation);
  }
  next.generation = newest + 1;
  if (next.generation % 2 == slot) next.generation = newest + 2;
  BASALT_TRY(write_superblock(channel, store.device.info(), next));
  next.generation = next.generation + 1;
  BASALT_TRY(write_superblock(channel, store.device.info(), next));
  done.push_back("wrote a checkpoint that both superblocks name, as generations " +
                 std::to_string(next.generation - 1) + " and " + std::to_string(next.generation));
  return {};
}

}  // namespace

bool can_rebuild(const PageFindings& found) {
  return found.lost != 0 && (found.lost & ~kRebuildable) == 0;
}

Status rebuild(Context& context, Device& device, const SuperblockPair& pair, unsigned slot,
               const PageFindings& found, std::vector<std::string>& done) {
  const StatusCode other = pair.problems[1 - slot].code();
  if (!pair.slots[1 - slot] && other != StatusCode::corruption && other != StatusCode::not_found &&
      other != StatusCode::io_error) {
    return Status(other, "the other superblock must not be overwritten: " +
                             std::string(pair.problems[1 - slot].message()));
  }
  BlobStore::Impl store(context, device, StoreOptions{}, *pair.slots[slot]);
  uint64_t generation = 0;
  for (const auto& superblock : pair.slots) {
    if (superblock) generation = std::max<uint64_t>(generation, superblock->checkpoint_generation);
  }
  store.pages.set_building(generation + 1);
  PageMap& map = store.pages.map();
  map.reset(store.pages.page_count());
  const bool space_is_lost = (found.lost & part_of(TreeId::space)) != 0;
  for (uint64_t page = 0; page < found.pages.size(); ++page) {
    if (found.pages[page] || (found.space_pages[page] && !space_is_lost)) map.mark_used(page);
  }
  const uint64_t pages_in_use = map.page_count() - map.free_count();
  if (space_is_lost) BASALT_TRY(rebuild_free_space(store, done));
  BASALT_TRY_ASSIGN(auto channel, device.open_channel());
  BASALT_TRY(store.replay(*channel));
  done.push_back("made the page map anew from the trees: " + std::to_string(pages_in_use) +
                 " pages are in use");
  return write_checkpoint(store, pair, slot, *channel, done);
}

}  // namespace basalt::blob
