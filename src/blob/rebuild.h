// rebuild: makes anew the parts of a checkpoint that follow from the others.
//
// The page map follows from what the trees reach, the free space from the extents. Where both copies of a page of
// these are gone and neither superblock is a starting point, the rest of one is loaded, the journal replayed, and
// all of it written as a checkpoint that both superblocks name. Epoch, open id and what is to be replayed stay as
// they are, as with every repair (check.cc). Power loss leaves what was there or the finished checkpoint: its pages
// go where none of the trees it is made from lie, and its first superblock not where theirs does.
#pragma once

#include "blob/check_pages.h"
#include "blob/superblock.h"

namespace basalt::blob {

// Whether what was lost follows from what was found.
bool can_rebuild(const PageFindings& found);
// From the superblock in `slot`, of which `found` is what check_pages() said; nobody else has the store open. Adds
// a sentence for each thing done.
Status rebuild(Context& context, Device& device, const SuperblockPair& pair, unsigned slot,
               const PageFindings& found, std::vector<std::string>& done);

}  // namespace basalt::blob
