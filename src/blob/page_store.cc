#include "blob/page_store.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/planted.h"
#include "base/try.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

PageHeader& header_of(std::byte* bytes) { return *reinterpret_cast<PageHeader*>(bytes); }

uint32_t page_crc(std::byte* bytes) {
  PageHeader& header = header_of(bytes);
  const le32 saved = header.crc;
  header.crc = 0;
  const uint32_t crc = crc32c({bytes, kBlockBytes});
  header.crc = saved;
  return crc;
}

std::string describe(const PageRef& ref, unsigned copy, uint64_t block) {
  return "metadata page " + std::to_string(ref.page) + " copy " + std::to_string(copy) +
         " (block " + std::to_string(block) + ")";
}

// What an index page of the page map, whose header is known to be right, leads to.
std::vector<PageRef> map_index_refs(std::byte* bytes) {
  std::vector<PageRef> refs(header_of(bytes).cell_count);
  std::memcpy(refs.data(), bytes + sizeof(PageHeader), refs.size() * sizeof(PageRef));
  return refs;
}

// A device that does not give the bytes does not say that they are damaged.
Status both_damaged(const Status& first, const Status& second) {
  if (second.code() != StatusCode::corruption && second.code() == first.code()) return first;
  return Status(StatusCode::corruption, "both copies damaged: " + std::string(first.message()) +
                                            "; " + std::string(second.message()));
}

}  // namespace

PageRef Frame::ref() const {
  PageRef ref{};
  ref.page = page;
  ref.generation = generation;
  ref.level = node().level();
  return ref;
}

PageStore::PageStore(Context& context, ChannelPool& channels, const Uuid& uuid,
                     uint64_t cache_bytes)
    : context_(context),
      channels_(channels),
      uuid_(uuid),
      max_frames_(std::max<uint64_t>(64, cache_bytes / kBlockBytes)) {}

uint64_t PageStore::page_count() const {
  uint64_t pages = 0;
  for (const MetadataRun& run : runs_) pages += run.page_count;
  return pages;
}

uint64_t PageStore::block_of(uint64_t page, unsigned copy) const {
  for (const MetadataRun& run : runs_) {
    if (page < run.page_count) return run.first_block[copy] + page;
    page -= run.page_count;
  }
  BASALT_CHECK(false, "metadata page outside the region");
}

Frame* PageStore::insert(uint64_t page, AlignedBuffer bytes) {
  auto frame = std::make_unique<Frame>();
  frame->page = page;
  frame->bytes = std::move(bytes);
  Frame* raw = frame.get();
  BASALT_CHECK(frames_.emplace(page, std::move(frame)).second, "metadata page cached twice");
  raw->place = order_.insert(order_.end(), raw);
  return raw;
}

void PageStore::drop(Frame* frame) {
  if (frame->place != order_.end()) order_.erase(frame->place);
  frames_.erase(frame->page);
}

// Levels fall by one on the way down, so no chain of pages leads round in a circle.
Status PageStore::check_node(const PageRef& ref, TreeId tree, Node node) const {
  const bool of_tree = node.header().tree == static_cast<uint8_t>(tree) || planted("page_tree");
  if (of_tree && (node.level() == ref.level || planted("page_level"))) return {};
  return Status(StatusCode::corruption, "metadata page " + std::to_string(ref.page) +
                                            ": not a node of tree " +
                                            std::to_string(static_cast<int>(tree)) + ", level " +
                                            std::to_string(ref.level));
}

Result<Frame*> PageStore::get(const PageRef& ref, TreeId tree) {
  if (const auto found = frames_.find(ref.page); found != frames_.end()) {
    Frame* frame = found->second.get();
    BASALT_TRY(check_node(ref, tree, frame->node()));
    if (frame->generation != ref.generation) {
      return error(StatusCode::corruption, "metadata page " + std::to_string(ref.page) +
                                               " is referred to by two generations");
    }
    if (frame->place != order_.end()) order_.splice(order_.end(), order_, frame->place);
    return frame;
  }
  if (ref.page >= map_.page_count()) {
    return error(StatusCode::corruption, "metadata page " + std::to_string(ref.page) +
                                             " is outside the region of " +
                                             std::to_string(map_.page_count()) + " pages");
  }
  AlignedBuffer bytes(kBlockBytes);
  BASALT_TRY(read_page(ref, PageKind::tree_node, bytes.data()));
  const Node node(bytes.data());
  BASALT_TRY(check_node(ref, tree, node));
  if (!node.well_formed()) {
    return error(StatusCode::corruption,
                 "metadata page " + std::to_string(ref.page) + ": not a well-formed tree node");
  }
  // A child is never newer than its parent; this also keeps foreign pages out of the dirty set.
  for (unsigned i = 0; node.level() > 0 && i < node.count(); ++i) {
    const PageRef child = node.child(i);
    if (child.level + 1 != node.level() || child.generation > ref.generation) {
      return error(StatusCode::corruption, "metadata page " + std::to_string(ref.page) +
                                               ": child " + std::to_string(i) +
                                               " of an impossible level or age");
    }
  }
  Frame* frame = insert(ref.page, std::move(bytes));
  frame->generation = ref.generation;
  return frame;
}

Result<Frame*> PageStore::allocate(TreeId tree, uint8_t level) {
  const auto page = map_.allocate();
  if (!page) {
    return error(StatusCode::no_space,
                 "the metadata region is full (" + std::to_string(map_.page_count()) + " pages)");
  }
  if (frames_.contains(*page)) {
    return error(StatusCode::corruption,
                 "metadata page " + std::to_string(*page) + " is in use, but free in the page map");
  }
  Frame* frame = insert(*page, AlignedBuffer(kBlockBytes));
  frame->generation = building_;
  frame->dirty = true;
  order_.erase(frame->place);
  frame->place = order_.end();
  ++dirty_count_;
  frame->node().initialise(tree, level);
  return frame;
}

Result<Frame*> PageStore::modify(Frame* frame) {
  if (frame->dirty) return frame;
  const PageHeader& header = header_of(frame->bytes.data());
  BASALT_TRY_ASSIGN(Frame * copy, allocate(static_cast<TreeId>(header.tree), header.level));
  std::memcpy(copy->bytes.data(), frame->bytes.data(), kBlockBytes);
  BASALT_TRY(free(frame));
  return copy;
}

Status PageStore::free(Frame* frame) {
  const uint64_t page = frame->page;
  if (frame->dirty) {
    map_.release(page);
    --dirty_count_;
    drop(frame);
    return {};
  }
  if (!map_.free(page)) {
    return Status(StatusCode::corruption,
                  "metadata page " + std::to_string(page) + " is in use, but free in the page map");
  }
  if (frame->frozen) {
    frame->doomed = true;
  } else {
    drop(frame);
  }
  return {};
}

void PageStore::finish_page(std::byte* bytes, uint64_t page) {
  PageHeader& header = header_of(bytes);
  header.magic = kPageMagic;
  header.uuid = uuid_;
  header.page = page;
  header.generation = building_;
  header.crc = page_crc(bytes);
}

// Children before parents, so that a parent's checksum covers its children's.
Status PageStore::seal(PageRef& ref) {
  if (ref.page == kNoPage || ref.generation != building_) return {};
  Frame* frame = frames_.at(ref.page).get();
  BASALT_CHECK(frame->dirty, "a page of the present generation must be dirty");
  Node node = frame->node();
  if (node.level() > 0) {
    for (unsigned i = 0; i < node.count(); ++i) {
      PageRef child = node.child(i);
      if (child.generation != building_) continue;
      BASALT_TRY(seal(child));
      node.set_child(i, child);
    }
  }
  finish_page(frame->bytes.data(), frame->page);
  ref.crc = header_of(frame->bytes.data()).crc;
  frame->dirty = false;
  frame->frozen = true;
  frozen_.push_back(frame);
  return {};
}

Status PageStore::seal_page_map(PageRef& root, std::vector<FrozenPage>& pages) {
  const auto take = [&]() -> Result<uint64_t> {
    if (const auto page = map_.allocate()) return *page;
    return error(StatusCode::no_space, "no metadata page left for the page map");
  };
  // Addresses first: giving one out changes the map, perhaps a leaf not yet to be written.
  const auto let_go = [&](uint64_t page) {
    return map_.free(page) ? Status()
                           : Status(StatusCode::corruption,
                                    "page map: its own page " + std::to_string(page) + " is free");
  };
  for (const uint64_t page : map_.index_pages()) BASALT_TRY(let_go(page));
  map_.index_pages().clear();
  for (uint64_t i = map_.index_page_count(); i > 0; --i) {
    BASALT_TRY_ASSIGN(const uint64_t page, take());
    map_.index_pages().push_back(page);
  }
  std::vector<uint64_t> rewritten;
  for (bool again = true; again;) {
    again = false;
    for (uint64_t leaf = 0; leaf < map_.leaf_count(); ++leaf) {
      if (!map_.leaf_dirty(leaf) ||
          std::find(rewritten.begin(), rewritten.end(), leaf) != rewritten.end()) {
        continue;
      }
      PageRef& ref = map_.leaf_ref(leaf);
      if (ref.page != kNoPage) BASALT_TRY(let_go(ref.page));
      BASALT_TRY_ASSIGN(const uint64_t page, take());
      ref.page = page;
      ref.generation = building_;
      rewritten.push_back(leaf);
      again = true;
    }
  }
  map_.freeze();
  const auto emit = [&](PageKind kind, uint64_t page, auto&& fill) {
    AlignedBuffer bytes(kBlockBytes);
    header_of(bytes.data()).kind = static_cast<uint8_t>(kind);
    fill(bytes.data() + sizeof(PageHeader), header_of(bytes.data()));
    finish_page(bytes.data(), page);
    pages.push_back({page, bytes.data()});
    const uint32_t crc = header_of(bytes.data()).crc;
    map_pages_.push_back(std::move(bytes));
    return crc;
  };
  for (const uint64_t leaf : rewritten) {
    PageRef& ref = map_.leaf_ref(leaf);
    ref.crc = emit(PageKind::page_map_leaf, ref.page,
                   [&](std::byte* payload, PageHeader&) { map_.save_leaf(leaf, payload); });
    map_.set_leaf_dirty(leaf, false);
  }
  std::vector<PageRef> refs;
  for (uint64_t leaf = 0; leaf < map_.leaf_count(); ++leaf) refs.push_back(map_.leaf_ref(leaf));
  size_t next_index = 0;
  for (uint8_t level = 1; level == 1 || refs.size() > 1; ++level) {
    std::vector<PageRef> above;
    for (size_t first = 0; first < refs.size(); first += kRefsPerMapIndex) {
      const size_t count = std::min<size_t>(kRefsPerMapIndex, refs.size() - first);
      PageRef ref{};
      ref.page = map_.index_pages()[next_index++];
      ref.generation = building_;
      ref.crc =
          emit(PageKind::page_map_index, ref.page, [&](std::byte* payload, PageHeader& header) {
            header.level = level;
            header.cell_count = static_cast<uint16_t>(count);
            std::memcpy(payload, &refs[first], count * sizeof(PageRef));
          });
      above.push_back(ref);
    }
    refs = std::move(above);
  }
  root = refs.front();
  return {};
}

Result<PageRef> PageStore::freeze(std::span<PageRef> roots, std::vector<FrozenPage>& pages) {
  BASALT_CHECK(frozen_.empty(), "two checkpoints at once");
  for (PageRef& root : roots) BASALT_TRY(seal(root));
  BASALT_CHECK(frozen_.size() == dirty_count_, "a dirty page is not reachable from any root");
  for (const Frame* frame : frozen_) pages.push_back({frame->page, frame->bytes.data()});
  dirty_count_ = 0;
  PageRef map_root{};
  BASALT_TRY(seal_page_map(map_root, pages));
  ++building_;
  return map_root;
}

void PageStore::written() {
  for (Frame* frame : frozen_) {
    frame->frozen = false;
    if (frame->doomed) {
      frames_.erase(frame->page);
    } else {
      frame->place = order_.insert(order_.end(), frame);
    }
  }
  frozen_.clear();
  map_pages_.clear();
}

Status PageStore::read_copy(const PageRef& ref, PageKind kind, unsigned copy, std::byte* bytes) {
  const uint64_t block = block_of(ref.page, copy);
  BASALT_TRY_ASSIGN(auto lease, channels_.lease());
  BASALT_TRY(read_blocks(*lease, channels_.device().info(), block, {bytes, kBlockBytes},
                         describe(ref, copy, block)));
  return check_copy(ref, kind, copy, bytes);
}

Status PageStore::check_copy(const PageRef& ref, PageKind kind, unsigned copy,
                             std::byte* bytes) const {
  const PageHeader& header = header_of(bytes);
  const auto damaged = [&](const std::string& how) {
    return Status(StatusCode::corruption,
                  describe(ref, copy, block_of(ref.page, copy)) + ": " + how);
  };
  const auto bad = [&](const char* what, uint64_t found, uint64_t expected) {
    return damaged(what + (' ' + std::to_string(found)) + ", expected " + std::to_string(expected));
  };
  if (header.magic != kPageMagic && !planted("page_magic"))
    return bad("magic", header.magic, kPageMagic);
  if (const uint32_t crc = page_crc(bytes); header.crc != crc && !planted("page_checksum"))
    return bad("checksum", crc, header.crc);
  if (header.uuid != uuid_ && !planted("page_uuid")) return damaged("of another store");
  if (header.page != ref.page && !planted("page_number"))
    return bad("page number", header.page, ref.page);
  if (header.generation != ref.generation && !planted("page_generation")) {
    return bad("generation", header.generation, ref.generation);
  }
  if (header.crc != ref.crc && !planted("page_parent_checksum"))
    return bad("checksum in the parent", ref.crc, header.crc);
  if (header.kind != static_cast<uint8_t>(kind) && !planted("page_kind")) {
    return bad("kind", header.kind, static_cast<uint8_t>(kind));
  }
  return {};
}

Status PageStore::write_copy(const PageRef& ref, unsigned copy, const std::byte* bytes) {
  const uint64_t block = block_of(ref.page, copy);
  BASALT_TRY_ASSIGN(auto lease, channels_.lease());
  return write_blocks(*lease, channels_.device().info(), block, {bytes, kBlockBytes}, {},
                      describe(ref, copy, block));
}

Status PageStore::flush(std::string_view what) {
  BASALT_TRY_ASSIGN(auto lease, channels_.lease());
  return flush_device(*lease, what);
}

Status PageStore::read_page(const PageRef& ref, PageKind kind, std::byte* bytes) {
  const Status first = read_copy(ref, kind, 0, bytes);
  if (first.ok() || planted("second_copy_unread")) return first;
  const Status second = read_copy(ref, kind, 1, bytes);
  if (!second.ok()) return both_damaged(first, second);
  note_damaged_copy(ref, 0, first, bytes);
  return {};
}

Status PageStore::verify_copies(const PageRef& ref, PageKind kind) {
  if (const auto found = frames_.find(ref.page); found != frames_.end()) {
    if (found->second->dirty || found->second->frozen) return {};
  }
  AlignedBuffer first_bytes(kBlockBytes), second_bytes(kBlockBytes);
  const Status first = read_copy(ref, kind, 0, first_bytes.data());
  const Status second = read_copy(ref, kind, 1, second_bytes.data());
  if (!first.ok() && !second.ok()) return both_damaged(first, second);
  if (!first.ok()) note_damaged_copy(ref, 0, first, second_bytes.data());
  if (!second.ok()) note_damaged_copy(ref, 1, second, first_bytes.data());
  return {};
}

void PageStore::note_damaged_copy(const PageRef& ref, unsigned copy, const Status& damage,
                                  const std::byte* bytes) {
  std::string note = std::string(damage.message()) + "; the other copy is good and was used";
  if (may_mend_ && may_mend_()) {
    const Status mended = write_copy(ref, copy, bytes);
    note += mended.ok() ? ", and this one was rewritten from it"
                        : "; rewriting this one failed: " + std::string(mended.message());
  }
  note_damaged(note);
}

void PageStore::note_damaged(const std::string& note) {
  ++damaged_copies_used_;
  context_.log().log(LogLevel::warning, "blob", note);
  constexpr size_t kMaxNotes = 256;
  if (notes_.size() < kMaxNotes) notes_.push_back(note);
}

unsigned PageStore::map_levels() const {
  unsigned level = 0;
  for (uint64_t n = map_.leaf_count(); n > 1 || level == 0; ++level) {
    n = (n + kRefsPerMapIndex - 1) / kRefsPerMapIndex;
  }
  return level;
}

Status PageStore::check_in_region(const PageRef& map_page) const {
  if (map_page.page < map_.page_count()) return {};
  return Status(StatusCode::corruption,
                "page map: page " + std::to_string(map_page.page) + " is outside the region");
}

Status PageStore::load_map_index(const PageRef& ref, unsigned level, uint64_t& next_leaf) {
  BASALT_TRY(check_in_region(ref));
  AlignedBuffer bytes(kBlockBytes);
  BASALT_TRY(read_page(ref, PageKind::page_map_index, bytes.data()));
  const PageHeader& header = header_of(bytes.data());
  if (header.level != level || header.cell_count == 0 || header.cell_count > kRefsPerMapIndex) {
    return Status(StatusCode::corruption,
                  "page map index page " + std::to_string(ref.page) + ": impossible header");
  }
  map_.index_pages().push_back(ref.page);
  const std::vector<PageRef> children = map_index_refs(bytes.data());
  if (level == 1) return load_map_leaves(children, next_leaf);
  for (const PageRef& child : children) BASALT_TRY(load_map_index(child, level - 1, next_leaf));
  return {};
}

Status PageStore::load_map_leaves(std::span<const PageRef> refs, uint64_t& next_leaf) {
  if (refs.size() > map_.leaf_count() - next_leaf) {
    return Status(StatusCode::corruption, "page map: more leaves than pages need");
  }
  for (const PageRef& ref : refs) BASALT_TRY(check_in_region(ref));
  const AlignedBuffer leaves(refs.size() * kBlockBytes);
  BASALT_TRY(read_first_copies(refs, leaves.span()));
  for (size_t i = 0; i < refs.size(); ++i) {
    std::byte* const bytes = leaves.data() + i * kBlockBytes;
    if (!check_copy(refs[i], PageKind::page_map_leaf, 0, bytes).ok()) {
      BASALT_TRY(read_page(refs[i], PageKind::page_map_leaf, bytes));
    }
    if (!map_.load_leaf(next_leaf, bytes + sizeof(PageHeader))) {
      return Status(StatusCode::corruption,
                    "page map leaf " + std::to_string(next_leaf) + ": impossible bits");
    }
    map_.leaf_ref(next_leaf++) = refs[i];
  }
  return {};
}

Status PageStore::read_first_copies(std::span<const PageRef> refs, std::span<std::byte> bytes) {
  std::vector<BlockRead> reads;
  for (size_t i = 0; i < refs.size(); ++i) {
    const uint64_t block = block_of(refs[i].page, 0);
    const auto page = bytes.subspan(i * kBlockBytes, kBlockBytes);
    if (!reads.empty() && reads.back().block + reads.back().bytes.size() / kBlockBytes == block) {
      reads.back().bytes = {reads.back().bytes.data(), reads.back().bytes.size() + page.size()};
    } else {
      reads.push_back({block, page});
    }
  }
  BASALT_TRY_ASSIGN(auto lease, channels_.lease());
  // Who finds a page that was not read reads it alone, and its other copy.
  (void)read_batch(*lease, channels_.device().info(), reads, "page map");
  return {};
}

Status PageStore::load_page_map(const PageRef& root, uint64_t page_count) {
  map_.reset(page_count);
  uint64_t next_leaf = 0;
  BASALT_TRY(load_map_index(root, map_levels(), next_leaf));
  if (next_leaf != map_.leaf_count()) {
    return Status(StatusCode::corruption, "page map: " + std::to_string(next_leaf) +
                                              " leaves, expected " +
                                              std::to_string(map_.leaf_count()));
  }
  return {};
}

Status PageStore::verify_map_copies(const PageRef& root, uint64_t& bytes) {
  return verify_map_copies(root, map_levels(), bytes);
}

Status PageStore::verify_map_copies(const PageRef& ref, unsigned level, uint64_t& bytes) {
  const PageKind kind = level == 0 ? PageKind::page_map_leaf : PageKind::page_map_index;
  bytes += 2 * kBlockBytes;
  if (level == 0) return verify_copies(ref, kind);
  BASALT_TRY(verify_copies(ref, kind));
  AlignedBuffer index(kBlockBytes);
  BASALT_TRY(read_page(ref, kind, index.data()));
  Status first;
  for (const PageRef& child : map_index_refs(index.data())) {
    const Status status = verify_map_copies(child, level - 1, bytes);
    if (first.ok()) first = status;
  }
  return first;
}

void PageStore::trim() {
  while (frames_.size() > max_frames_ && !order_.empty()) drop(order_.front());
}

}  // namespace basalt::blob
