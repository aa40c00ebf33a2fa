// check_pages: the metadata pages of one checkpoint as they are on the device.
//
// Both copies of each page, keys in order and within their parents' bounds, and the page map against what
// is reachable. A damaged copy with a good twin is a note, or is rewritten; a page without a good copy is a
// problem, which says what cannot be read without it.
#pragma once

#include "blob/store_impl.h"

namespace basalt::blob {

// The parts of a checkpoint, as bits.
inline constexpr unsigned part_of(TreeId tree) { return 1u << static_cast<unsigned>(tree); }
inline constexpr unsigned kPageMapPart = 1u << kTreeCount;

struct PageFindings {
  unsigned lost = 0;  // parts that cannot be read whole, or contradict the others
  // Pages that the trees other than the free space's, and that the latter's, are made of.
  std::vector<bool> pages, space_pages;
  bool complete() const { return lost == 0; }
};

// `store` was made from the superblock in `slot` and has loaded nothing yet.
PageFindings check_pages(BlobStore::Impl& store, unsigned slot, const CheckOptions& options,
                         StoreReport& report);

}  // namespace basalt::blob
