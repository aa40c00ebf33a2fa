// check_store: reads everything the superblocks lead to and says what does not fit.
//
// First the pages as they are on the device: both copies of each page of both checkpoints, keys in order
// and within their parents' bounds, and the page map against what is reachable. Then, with the journal
// replayed in memory, the meaning: each cluster mapped once or free once, counts, orphans. A damaged copy
// with a good twin is a note; what cannot be read or contradicts something else is a problem.
#include "base/try.h"
#include "blob/store_impl.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

class PageChecker {
 public:
  PageChecker(BlobStore::Impl& store, unsigned slot, StoreReport& report,
              const std::function<void(double)>& progress)
      : store_(store),
        name_("superblock " + std::to_string(slot)),
        report_(report),
        progress_(progress),
        reachable_(store.pages.page_count()) {}

  void run() {
    const Superblock& sb = store_.superblock;
    for (unsigned tree = 0; tree < kTreeCount; ++tree) {
      if (sb.trees[tree].page != kNoPage) {
        walk(sb.trees[tree], static_cast<TreeId>(tree), "", nullptr);
      }
    }
    walk_map(sb.page_map);
    if (report_.problems.empty()) compare_with_map();
  }

 private:
  void problem(const std::string& text) { report_.problems.push_back(name_ + ": " + text); }

  // Reads both copies; false when neither can be used or the page was met before.
  bool read(const PageRef& ref, PageKind kind, std::byte* bytes) {
    if (ref.page >= reachable_.size()) {
      problem("metadata page " + std::to_string(ref.page) + " is outside the region");
      return false;
    }
    if (reachable_[ref.page]) {
      problem("metadata page " + std::to_string(ref.page) + " is reached twice");
      return false;
    }
    reachable_[ref.page] = true;
    ++report_.metadata_pages;
    if (progress_ && report_.metadata_pages % 256 == 0) {
      const double used =
          static_cast<double>(store_.pages.page_count() - store_.pages.map().free_count());
      progress_(std::min(0.9, static_cast<double>(report_.metadata_pages) / (2 * used + 1)));
    }
    AlignedBuffer scratch(kBlockBytes);
    const Status second = store_.pages.read_copy(ref, kind, 1, scratch.data());
    const Status first = store_.pages.read_copy(ref, kind, 0, bytes);
    if (!first.ok() && !second.ok()) {
      problem("both copies damaged: " + std::string(first.message()) + "; " +
              std::string(second.message()));
      return false;
    }
    if (!first.ok()) std::memcpy(bytes, scratch.data(), kBlockBytes);
    const Status& bad = first.ok() ? second : first;
    if (!bad.ok()) report_.notes.push_back(std::string(bad.message()) + "; the other copy is good");
    return true;
  }

  void walk(const PageRef& ref, TreeId tree, std::string_view low, const std::string* high) {
    AlignedBuffer bytes(kBlockBytes);
    if (!read(ref, PageKind::tree_node, bytes.data())) return;
    const Node node(bytes.data());
    const std::string page = "metadata page " + std::to_string(ref.page);
    if (node.header().tree != static_cast<uint8_t>(tree) || node.level() != ref.level ||
        !node.well_formed()) {
      return problem(page + ": not a well-formed node of tree " +
                     std::to_string(static_cast<int>(tree)));
    }
    const unsigned first_real_key = node.level() > 0 ? 1 : 0;
    if (node.count() > first_real_key) {
      if (node.key(first_real_key) < low || (high && node.key(node.count() - 1) >= *high)) {
        problem(page + ": keys outside the bounds its parent gives");
      }
    }
    if (node.level() == 0) return;
    for (unsigned i = 0; i < node.count(); ++i) {
      const std::string_view child_low = i == 0 ? low : node.key(i);
      const std::string child_high(i + 1 < node.count() ? node.key(i + 1) : "");
      const PageRef child = node.child(i);
      if (child.level + 1 != node.level()) {
        problem(page + ": child " + std::to_string(i) + " is of level " +
                std::to_string(child.level));
        continue;
      }
      walk(child, tree, std::string(child_low), i + 1 < node.count() ? &child_high : high);
    }
  }

  // The map itself was loaded and validated before; here both copies of its pages are read.
  void walk_map(const PageRef& root) {
    AlignedBuffer bytes(kBlockBytes);
    if (!read(root, PageKind::page_map_index, bytes.data())) return;
    PageHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const unsigned count = std::min<unsigned>(header.cell_count, kRefsPerMapIndex);
    for (unsigned i = 0; i < count; ++i) {
      PageRef child;
      std::memcpy(&child, bytes.data() + sizeof header + i * sizeof child, sizeof child);
      if (header.level > 1) {
        walk_map(child);
      } else {
        AlignedBuffer leaf(kBlockBytes);
        (void)read(child, PageKind::page_map_leaf, leaf.data());
      }
    }
  }

  void compare_with_map() {
    PageMap& map = store_.pages.map();
    map.flipped();  // what is leaving is not reachable and becomes free
    uint64_t lost = 0;
    for (uint64_t page = 0; page < reachable_.size(); ++page) {
      if (reachable_[page] && !map.used(page)) {
        problem("metadata page " + std::to_string(page) + " is in use but free in the page map");
      }
      lost += !reachable_[page] && map.used(page);
    }
    if (lost > 0) {
      problem(std::to_string(lost) + " metadata pages are used in the page map but not reachable");
    }
  }

  BlobStore::Impl& store_;
  const std::string name_;
  StoreReport& report_;
  const std::function<void(double)>& progress_;
  std::vector<bool> reachable_;
};

// Who uses each cluster; finds clusters used twice or not at all.
class ClusterChecker {
 public:
  ClusterChecker(BlobStore::Impl& store, StoreReport& report)
      : store_(store), report_(report), used_(store.state.cluster_count) {}

  Status run() {
    mark_fixed();
    std::vector<BlobId> ids;
    BASALT_TRY(store_.state.for_each_blob([&](BlobId id, const BlobRecord&) {
      ids.push_back(id);
      return true;
    }));
    for (const BlobId id : ids) BASALT_TRY(check_blob(id));
    report_.blobs = ids.size();
    if (ids.size() != store_.state.blob_count) {
      problem("the superblock counts " + std::to_string(store_.state.blob_count) + " blobs, " +
              std::to_string(ids.size()) + " were found");
    }
    BASALT_TRY_ASSIGN(const auto orphans, store_.state.orphans());
    for (const BlobId id : orphans) {
      if (!std::binary_search(ids.begin(), ids.end(), id)) {
        problem("orphan list: blob " + std::to_string(id.value) + " does not exist");
      }
    }
    BASALT_TRY(check_free());
    for (uint64_t cluster = 0; cluster < used_.size(); ++cluster) {
      if (!used_[cluster]) {
        problem("cluster " + std::to_string(cluster) + " is neither free nor used by anything");
        break;
      }
    }
    return {};
  }

 private:
  void problem(const std::string& text) { report_.problems.push_back(text); }

  void mark(uint64_t first, uint64_t count, const std::string& owner) {
    for (uint64_t cluster = first; cluster < first + count; ++cluster) {
      if (cluster >= used_.size()) {
        return problem(owner + ": cluster " + std::to_string(cluster) + " is beyond the last");
      }
      if (used_[cluster]) {
        return problem(owner + ": cluster " + std::to_string(cluster) + " is used twice");
      }
      used_[cluster] = true;
    }
  }

  void mark_fixed() {
    const Superblock& sb = store_.superblock;
    const uint64_t unit = store_.state.cluster_blocks;
    for (const uint64_t offset : kSuperblockOffset)
      mark(offset / sb.cluster_bytes, 1, "superblock");
    mark(sb.journal_first_block / unit, sb.journal_blocks / unit, "journal");
    for (const MetadataRun& run : store_.pages.runs()) {
      for (unsigned copy = 0; copy < 2; ++copy) {
        mark(run.first_block[copy] / unit, run.page_count / unit, "metadata region");
      }
    }
  }

  Status check_blob(BlobId id) {
    const std::string name = "blob " + std::to_string(id.value);
    BASALT_TRY_ASSIGN(const BlobRecord record, store_.state.record(id));
    BASALT_TRY_ASSIGN(const auto extents, store_.state.extents(id, {0, uint64_t{1} << 52}));
    const uint64_t unit = store_.state.cluster_blocks;
    uint64_t blocks = 0, previous_end = 0;
    ExtentMap clusters;  // by whole clusters, whatever the states inside
    for (Extent extent : extents) {
      blocks += extent.count;
      if (extent.count == 0 || extent.logical < previous_end) {
        problem(name + ": extents overlap or are empty at block " + std::to_string(extent.logical));
      }
      if (extent.logical % unit != extent.physical % unit) {
        problem(name + ": block " + std::to_string(extent.logical) +
                " does not lie in its cluster's place");
      }
      previous_end = extent.end();
      extent.state = ExtentState::written;
      clusters.set(extent);
    }
    for (const Extent& extent : clusters.all()) {
      if (extent.physical % unit != 0 || extent.count % unit != 0) {
        problem(name + ": block " + std::to_string(extent.logical) + ": a cluster mapped in part");
        continue;
      }
      mark(extent.physical / unit, extent.count / unit, name);
    }
    if (blocks != record.allocated_blocks) {
      problem(name + ": record says " + std::to_string(record.allocated_blocks) +
              " blocks allocated, extents hold " + std::to_string(blocks));
    }
    store_.pages.trim();
    return {};
  }

  Status check_free() {
    Tree::Cursor cursor(store_.state.space().tree());
    BASALT_TRY(cursor.seek(""));
    uint64_t total = 0, previous_end = 0;
    while (cursor.valid()) {
      be64 first;
      le64 count;
      if (cursor.key().size() != 8 || cursor.value().size() != 8) {
        problem("free space: malformed entry");
        return {};
      }
      std::memcpy(&first, cursor.key().data(), 8);
      std::memcpy(&count, cursor.value().data(), 8);
      if (count == 0 || (total > 0 && first <= previous_end)) {
        problem("free space: runs touch, overlap or are empty at cluster " + std::to_string(first));
      }
      if (first > used_.size() || count > used_.size() - first) {
        problem("free space: run at cluster " + std::to_string(first) + " ends beyond the last");
        return {};
      }
      mark(first, count, "free space");
      total += count;
      previous_end = first + count;
      BASALT_TRY(cursor.next());
    }
    if (total != store_.state.space().free_clusters()) {
      problem("free space: " + std::to_string(store_.state.space().free_clusters()) +
              " clusters counted, " + std::to_string(total) + " found");
    }
    return {};
  }

  BlobStore::Impl& store_;
  StoreReport& report_;
  std::vector<bool> used_;
};

}  // namespace

Result<StoreReport> check_store(Context& context, Device& device,
                                const std::function<void(double)>& progress) {
  StoreReport report;
  StoreOptions options;
  options.mode = OpenMode::read_only;
  {
    BASALT_TRY_ASSIGN(auto channel, device.open_channel());
    BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(*channel, device.info()));
    const auto newest = pair.newest();
    if (!newest) {
      return error(pair.problems[0].code(), std::string(pair.problems[0].message()) + "; " +
                                                std::string(pair.problems[1].message()));
    }
    for (const unsigned slot : {*newest, 1 - *newest}) {
      if (!pair.slots[slot]) {
        report.notes.push_back(std::string(pair.problems[slot].message()) +
                               "; the other superblock is good");
        continue;
      }
      const bool same =
          slot != *newest && pair.slots[0] && pair.slots[1] &&
          pair.slots[0]->checkpoint_generation == pair.slots[1]->checkpoint_generation;
      if (same) continue;
      BlobStore::Impl store(context, device, options, *pair.slots[slot]);
      if (const Status status = store.load(*channel); !status.ok()) {
        report.problems.push_back("superblock " + std::to_string(slot) + ": " +
                                  std::string(status.message()));
        continue;
      }
      PageChecker(store, slot, report, progress).run();
    }
  }
  auto store = open_impl(context, device, options);
  if (!store) {
    report.problems.push_back(std::string(store.error().message()));
    return report;
  }
  if (report.problems.empty()) {
    if (const Status status = ClusterChecker(**store, report).run(); !status.ok()) {
      report.problems.push_back(std::string(status.message()));
    }
    Tree::Cursor cursor((*store)->state.catalog());
    Status status = cursor.seek("");
    for (; status.ok() && cursor.valid(); status = cursor.next()) ++report.catalog_entries;
    if (!status.ok()) report.problems.push_back(std::string(status.message()));
  }
  if (progress) progress(1.0);
  return report;
}

}  // namespace basalt::blob
