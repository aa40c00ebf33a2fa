// PageMap: which pages of the metadata region are in use, and when a freed one may be used again.
//
// A page freed while checkpoint X is being built is still part of checkpoint X-1, which stays a starting
// point until checkpoint X+1 has been flipped in: it waits in `building`, `frozen` and `previous` in turn.
// The map is kept as bits in memory and saved as leaf pages that are themselves metadata pages, rewritten
// only where they changed. Not synchronised: the store's metadata lock guards it.
#pragma once

#include "blob/format.h"

#include <optional>
#include <vector>

namespace basalt::blob {

class PageMap {
 public:
  // All pages free.
  void reset(uint64_t page_count);
  uint64_t page_count() const { return page_count_; }
  uint64_t free_count() const { return free_count_; }
  uint64_t leaf_count() const { return leaves_.size(); }
  // Of the index above the leaves.
  uint64_t index_page_count() const;

  std::optional<uint64_t> allocate();
  // Something is known to lie there; for making a map that was lost.
  void mark_used(uint64_t page);
  // The page belongs to a checkpoint: it becomes usable after two flips. False when the map knows
  // nothing of such a page, which only damage can bring about.
  [[nodiscard]] bool free(uint64_t page);
  // The page was allocated since the last freeze and never written: usable at once.
  void release(uint64_t page);
  bool used(uint64_t page) const { return bit(used_, page); }

  // A checkpoint begins: pages freed from now on belong to the next one.
  void freeze();
  // The checkpoint's superblock is durable.
  void flipped();
  // The other superblock says the same now: what only the checkpoint before needed is free.
  void flipped_again();

  // One leaf in the form it is saved in, as of the freeze, and back.
  void save_leaf(uint64_t leaf, std::byte* payload) const;
  bool load_leaf(uint64_t leaf, const std::byte* payload);
  PageRef& leaf_ref(uint64_t leaf) { return leaves_[leaf].ref; }
  bool leaf_dirty(uint64_t leaf) const { return leaves_[leaf].dirty; }
  void set_leaf_dirty(uint64_t leaf, bool dirty) { leaves_[leaf].dirty = dirty; }
  // Pages of the index above the leaves, rewritten by every checkpoint.
  std::vector<uint64_t>& index_pages() { return index_pages_; }

 private:
  struct Leaf {
    PageRef ref{};
    bool dirty = true;
  };
  static bool bit(const std::vector<uint64_t>& bits, uint64_t i) {
    return (bits[i / 64] >> (i % 64)) & 1;
  }
  void set(std::vector<uint64_t>& bits, uint64_t i, bool value);

  uint64_t page_count_ = 0;
  uint64_t free_count_ = 0;
  uint64_t cursor_ = 0;
  std::vector<uint64_t> used_;
  std::vector<uint64_t> building_, frozen_, previous_;
  std::vector<Leaf> leaves_;
  std::vector<uint64_t> index_pages_;
};

}  // namespace basalt::blob
