// check_pages: the metadata pages of one checkpoint as they are on the device.
//
// Both copies of each page, keys in order and within their parents' bounds, and the page map against what
// is reachable. A damaged copy with a good twin is a note, or is rewritten; a page without a good copy is a
// problem, which says what cannot be read without it.
#pragma once

#include "blob/store_impl.h"

namespace basalt::blob {

// `store` was made from the superblock in `slot` and has loaded nothing yet. False when problems were found.
bool check_pages(BlobStore::Impl& store, unsigned slot, const CheckOptions& options,
                 StoreReport& report);

}  // namespace basalt::blob
