// Verifying the metadata of an open store, piece by piece: both copies of what the trees consist of, then of the
// page map, then both superblocks. A damaged page that has a good twin is rewritten where the store may write.
#include "base/try.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <array>

namespace basalt::blob {

namespace {

// What is wrong with a slot, as seen by the owner whose last flip made `newest`: that one is in the slot of its
// generation, the one before in the other.
Status compare(const SuperblockPair& pair, unsigned slot, uint64_t newest) {
  if (!pair.slots[slot]) return pair.problems[slot];
  const uint64_t found = pair.slots[slot]->generation;
  const uint64_t expected = newest % 2 == slot ? newest : newest - 1;
  if (found == expected) return {};
  return {StatusCode::corruption, "superblock " + std::to_string(slot) + " (byte " +
                                      std::to_string(kSuperblockOffset[slot]) + "): generation " +
                                      std::to_string(found) + ", expected " +
                                      std::to_string(expected)};
}

}  // namespace

Result<bool> BlobStore::verify_metadata(MetadataPosition& position, uint64_t& bytes) {
  Impl& s = *impl_;
  switch (position.part) {
    case MetadataPosition::Part::trees: break;
    case MetadataPosition::Part::page_map:
      position.part = MetadataPosition::Part::superblocks;
      BASALT_TRY(s.verify_page_map(bytes));
      return true;
    case MetadataPosition::Part::superblocks:
      position.part = MetadataPosition::Part::end;
      BASALT_TRY(s.verify_superblocks(bytes));
      return true;
    case MetadataPosition::Part::end: return false;
  }
  const MutexLock lock(s.meta);
  const std::array<Tree*, kTreeCount> trees = {&s.state.objects(), &s.state.catalog(),
                                               &s.state.space().tree(), &s.state.references()};
  std::vector<PageRef> pages;
  const auto next = trees[position.tree]->pages_from(position.key, pages);
  if (next && *next) {
    position.key = **next;
  } else {
    position.key.clear();  // a page on the way that cannot be read hides the rest
    if (++position.tree == trees.size()) position.part = MetadataPosition::Part::page_map;
  }
  Status first = next ? Status() : next.error();
  for (const PageRef& page : pages) {
    const Status status = s.pages.verify_copies(page, PageKind::tree_node);
    if (first.ok()) first = status;
    bytes += 2 * kBlockBytes;
  }
  s.pages.trim();
  if (!first.ok()) return error(first);
  return true;
}

// While no checkpoint is made, the page map's pages are those of the last one.
Status BlobStore::Impl::verify_page_map(uint64_t& bytes) {
  const MutexLock no_checkpoint(checkpoint_mutex);
  const MutexLock lock(meta);
  return pages.verify_map_copies(superblock.page_map, bytes);
}

// Nothing is written: the next two flips do that, and they know whether the store is still ours.
Status BlobStore::Impl::verify_superblocks(uint64_t& bytes) {
  const MutexLock no_checkpoint(checkpoint_mutex);
  const MutexLock lock(meta);
  BASALT_TRY_ASSIGN(auto lease, pool.lease());
  BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(*lease, device.info()));
  bytes += pair.slots.size() * kBlockBytes;
  const bool owner = journal != nullptr;  // a reader may have started from the older one
  for (const auto& found : pair.slots) {
    if (!owner || !found) continue;
    if (found->uuid == superblock.uuid && found->epoch <= superblock.epoch) continue;
    return {StatusCode::fenced, device.info().uri + ": another owner has taken the store over"};
  }
  std::array<Status, 2> damages = pair.problems;
  for (unsigned slot = 0; owner && slot < 2; ++slot) {
    damages[slot] = compare(pair, slot, superblock.generation);
  }
  if (!damages[0].ok() && !damages[1].ok()) {
    return damages[1].with_context(std::string(damages[0].message()));
  }
  for (const Status& damage : damages) {
    if (!damage.ok()) pages.note_damaged(std::string(damage.message()) + "; the other one is good");
  }
  return {};
}

}  // namespace basalt::blob
