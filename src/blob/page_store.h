// PageStore: the metadata pages in memory, and their way from and to the device.
//
// Pages are never overwritten where a checkpoint needs them: modify() gives a page of an older
// generation a new place (copy on write) and the caller puts the new address into the parent. A page of
// the present generation is `dirty` and stays in memory; freeze() makes all dirty pages immutable, fixes
// their checksums bottom-up and hands them out for writing while new transactions go on with copies.
// Clean pages are evicted least recently used first when trim() finds more than the bound.
// Every page has two copies on the device; reading falls back to the second and says so. In a store that is
// open for writing it also mends the damaged one: the page was reached from the present trees under the metadata
// lock, so nobody gives its place to another page meanwhile, and it is written by no checkpoint.
// Not synchronised: the store's metadata lock guards everything. Frames stay valid until trim().
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include "blob/aligned_buffer.h"
#include "blob/block_io.h"
#include "blob/channel_pool.h"
#include "blob/node.h"
#include "blob/page_map.h"

#include <functional>
#include <list>
#include <unordered_map>
#include <vector>

namespace basalt::blob {

struct Frame {
  uint64_t page = kNoPage;
  uint64_t generation = 0;
  bool dirty = false;   // changed since the last freeze; in memory only
  bool frozen = false;  // being written by a checkpoint; immutable
  bool doomed = false;  // freed while frozen: dropped when written
  AlignedBuffer bytes;
  std::list<Frame*>::iterator place;  // in the eviction order
  Node node() const { return Node(bytes.data()); }
  PageRef ref() const;
};

// The page a checkpoint writes: copies of the frozen frame's place, kept by the frame or by `owned`.
struct FrozenPage {
  uint64_t page = 0;
  const std::byte* bytes = nullptr;
};

class PageStore {
 public:
  PageStore(Context& context, ChannelPool& channels, const Uuid& uuid, uint64_t cache_bytes);

  void set_runs(std::vector<MetadataRun> runs) { runs_ = std::move(runs); }
  std::span<const MetadataRun> runs() const { return runs_; }
  PageMap& map() { return map_; }
  const PageMap& map() const { return map_; }
  // From now on get() rewrites a damaged copy whose twin is good, where `may_write` agrees at that moment.
  void mend_copies(std::function<bool()> may_write) { may_mend_ = std::move(may_write); }
  void set_building(uint64_t generation) { building_ = generation; }
  uint64_t building() const { return building_; }
  uint64_t dirty_count() const { return dirty_count_; }
  uint64_t damaged_copies_used() const { return damaged_copies_used_; }
  std::vector<std::string>& notes() { return notes_; }
  // A damaged copy was met: counts, logs and keeps the sentence.
  void note_damaged(const std::string& note);
  const Uuid& uuid() const { return uuid_; }

  // ---- Tree nodes
  Result<Frame*> get(const PageRef& ref, TreeId tree);
  Result<Frame*> allocate(TreeId tree, uint8_t level);
  // The frame itself if it may be changed in place, else a dirty copy with a new address.
  Result<Frame*> modify(Frame* frame);
  // corruption when the page map knows nothing of the page.
  Status free(Frame* frame);

  // ---- Checkpoints
  // Seals the dirty tree pages reachable from `roots` (whose refs get their checksums) and the page
  // map, whose root ref is returned. `pages` then holds everything to be written.
  Result<PageRef> freeze(std::span<PageRef> roots, std::vector<FrozenPage>& pages);
  // The pages handed out are on the device (ok) or the store is dead (not ok).
  void written();

  // Reads and verifies one page, both copies if need be. `kind` and `expected` must match.
  Status read_page(const PageRef& ref, PageKind kind, std::byte* bytes);
  // Reads both copies of a page, unless it is only in memory as yet; a damaged one is dealt with as by
  // read_page(). corruption when neither verifies.
  Status verify_copies(const PageRef& ref, PageKind kind);
  // The same for each page of the page map below `root`, which no checkpoint may replace meanwhile. Adds to `bytes`
  // what it read. The first error, after everything that can be reached was looked at.
  Status verify_map_copies(const PageRef& root, uint64_t& bytes);
  // Verifies one copy; the sentence says what is wrong with it.
  Status read_copy(const PageRef& ref, PageKind kind, unsigned copy, std::byte* bytes);
  // Writes one copy, durable after flush(): for repairing copies that do not verify.
  Status write_copy(const PageRef& ref, unsigned copy, const std::byte* bytes);
  Status flush(std::string_view what);
  Status load_page_map(const PageRef& root, uint64_t page_count);
  uint64_t block_of(uint64_t page, unsigned copy) const;
  uint64_t page_count() const;

  void trim();

 private:
  Status check_node(const PageRef& ref, TreeId tree, Node node) const;
  Frame* insert(uint64_t page, AlignedBuffer bytes);
  void drop(Frame* frame);
  // `bytes` are those of the other copy, which is good.
  void note_damaged_copy(const PageRef& ref, unsigned copy, const Status& damage,
                         const std::byte* bytes);
  Status seal(PageRef& ref);
  Status seal_page_map(PageRef& root, std::vector<FrozenPage>& pages);
  void finish_page(std::byte* bytes, uint64_t page);
  // Whether `bytes` are that copy of the page, undamaged.
  Status check_copy(const PageRef& ref, PageKind kind, unsigned copy, std::byte* bytes) const;
  unsigned map_levels() const;  // of the index above the leaves
  Status check_in_region(const PageRef& map_page) const;
  Status load_map_index(const PageRef& ref, unsigned level, uint64_t& next_leaf);
  // `refs`: what an index page of level 1 leads to.
  Status load_map_leaves(std::span<const PageRef> refs, uint64_t& next_leaf);
  // Pages that lie side by side in one read, since the map of a large device has a thousand leaves. What cannot be read
  // is left as it was.
  Status read_first_copies(std::span<const PageRef> refs, std::span<std::byte> bytes);
  Status verify_map_copies(const PageRef& ref, unsigned level, uint64_t& bytes);

  Context& context_;
  ChannelPool& channels_;
  Uuid uuid_;
  size_t max_frames_;
  std::vector<MetadataRun> runs_;
  PageMap map_;
  uint64_t building_ = 1;
  uint64_t dirty_count_ = 0;
  uint64_t damaged_copies_used_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Frame>> frames_;
  std::list<Frame*> order_;  // clean frames, least recently used first
  std::vector<Frame*> frozen_;
  std::vector<AlignedBuffer> map_pages_;  // page map pages of the checkpoint being written
  std::vector<std::string> notes_;
  std::function<bool()> may_mend_;
};

}  // namespace basalt::blob
