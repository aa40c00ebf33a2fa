// check_store: reads everything the superblocks lead to, says what does not fit, and on request repairs what
// has a second copy.
//
// First the pages of both checkpoints as they are on the device (check_pages.h). Then, with the journal
// replayed in memory, the meaning: each cluster mapped once or free once, counts, orphans. What cannot be
// read or contradicts something else is a problem.
//
// A repair writes damaged copies only and never what it was copied from, unless neither superblock is a
// starting point any more: then what follows from the rest is made anew (rebuild.h). It changes nothing that opening
// would find: a page gets the bytes its parent vouches for; a superblock gets the contents of the other one,
// one generation later, as by a flip. The other one is a complete starting point without it, and what it says
// about journal position, epoch and open id is what opening would go by.
#include "base/planted.h"
#include "base/try.h"
#include "blob/block_io.h"
#include "blob/check_pages.h"
#include "blob/range_set.h"
#include "blob/rebuild.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

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
    for (const FixedRegion& region : fixed_regions(store_.superblock)) {
      mark(region.first_cluster, region.count, region.name);
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
    BASALT_TRY(check_checksums(id, name, record, extents));
    store_.pages.trim();
    return {};
  }

  // Every written block of a blob with checksums has one; no other blob has any.
  Status check_checksums(BlobId id, const std::string& name, const BlobRecord& record,
                         std::span<const Extent> extents) {
    BASALT_TRY_ASSIGN(const auto groups, store_.state.checksum_groups(id, {0, kMaxBlobBlocks}));
    if ((record.flags & kBlobChecksums) == 0) {
      if (!groups.empty()) problem(name + " was created without checksums, but has some");
      return {};
    }
    RangeSet covered;
    for (const uint64_t group : groups) {
      BASALT_TRY_ASSIGN(const std::string stored, store_.state.checksums(id, group));
      covered.add(group * kChecksumGroupBlocks, stored.size() / sizeof(le32));
    }
    for (const Extent& extent : extents) {
      if (extent.state != ExtentState::written) continue;
      const uint64_t end = covered.end_of_range_at(extent.logical);
      if (end < extent.end()) {
        problem(name + ": block " + std::to_string(std::max(end, extent.logical)) +
                " is written and has no checksum");
      }
    }
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

// The same starting point once more, into the other slot.
Status rewrite_superblock(Channel& channel, const DeviceInfo& info, const Superblock& good) {
  Superblock next = good;
  next.generation = good.generation + 1;
  BASALT_TRY(write_superblock(channel, info, next));
  BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(channel, info));
  const unsigned slot = next.generation % 2;
  if (!pair.slots[slot]) return pair.problems[slot];
  if (std::memcmp(&*pair.slots[slot], &next, sizeof next) == 0) return {};
  return Status(StatusCode::corruption, "it reads back as something else");
}

// `slot` cannot be used, the other one can. `complete`: starting from that one succeeds.
void repair_superblock(Channel& channel, const DeviceInfo& info, const SuperblockPair& pair,
                       unsigned slot, bool complete, StoreReport& report) {
  const Superblock& good = *pair.slots[1 - slot];
  const std::string damage(pair.problems[slot].message());
  const std::string other = "superblock " + std::to_string(1 - slot);
  const StatusCode code = pair.problems[slot].code();
  if (code != StatusCode::corruption && code != StatusCode::not_found &&
      code != StatusCode::io_error) {
    report.problems.push_back(damage + "; not rewritten");
  } else if (!complete && !planted("repair_from_incomplete")) {
    report.problems.push_back(damage + "; not rewritten: " + other +
                              " is not a complete starting point");
  } else if (const Status status = rewrite_superblock(channel, info, good); !status.ok()) {
    report.problems.push_back(damage +
                              "; rewriting it did not help: " + std::string(status.message()));
  } else {
    report.repairs.push_back(damage + "; rewrote its " + std::to_string(kBlockBytes) + " B from " +
                             other + " (byte " + std::to_string(kSuperblockOffset[1 - slot]) +
                             "), as generation " + std::to_string(good.generation + 1));
  }
}

// Nothing to start from, but all that cannot be had otherwise can be read.
Result<StoreReport> rebuild_and_check(Context& context, Device& device, const SuperblockPair& pair,
                                      unsigned slot, const PageFindings& found,
                                      const CheckOptions& options, StoreReport&& report) {
  std::vector<std::string> done;
  const Status status = rebuild(context, device, pair, slot, found, done);
  if (!status.ok()) {
    report.problems.push_back("rebuilding it failed: " + std::string(status.message()));
    return std::move(report);
  }
  CheckOptions again = options;
  again.mode = CheckMode::report;
  BASALT_TRY_ASSIGN(StoreReport after, check_store(context, device, again));
  after.repairs = std::move(report.repairs);
  after.repairs.insert(after.repairs.end(), report.problems.begin(), report.problems.end());
  after.repairs.insert(after.repairs.end(), done.begin(), done.end());
  return after;
}

}  // namespace

Result<StoreReport> check_store(Context& context, Device& device, const CheckOptions& options) {
  const bool repair = options.mode == CheckMode::repair;
  StoreReport report;
  BASALT_TRY_ASSIGN(auto channel, device.open_channel());
  BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(*channel, device.info()));
  const auto newest = pair.newest();
  if (!newest) {
    return error(pair.problems[0].code(), std::string(pair.problems[0].message()) + "; " +
                                              std::string(pair.problems[1].message()));
  }
  if (repair) {
    for (const auto& slot : pair.slots) {
      if (slot) BASALT_TRY(check_features(*slot, OpenMode::read_write));
    }
    // What was accepted may sit in a volatile cache; make it durable before building on it.
    if (!planted("repair_before_flush")) BASALT_TRY(flush_device(*channel, "repair"));
  }
  StoreOptions store_options;
  store_options.mode = OpenMode::read_only;
  const bool both = pair.slots[0] && pair.slots[1];
  const bool same_checkpoint =
      both && pair.slots[0]->checkpoint_generation == pair.slots[1]->checkpoint_generation;
  PageFindings found[2];
  for (const unsigned slot : {*newest, 1 - *newest}) {
    if (!pair.slots[slot] || (slot != *newest && same_checkpoint)) continue;
    BlobStore::Impl store(context, device, store_options, *pair.slots[slot]);
    found[slot] = check_pages(store, slot, options, report);
  }
  if (repair && !found[*newest].complete()) {
    const bool other_serves =
        pair.slots[1 - *newest] && !same_checkpoint && found[1 - *newest].complete();
    for (const unsigned slot : {*newest, 1 - *newest}) {
      if (other_serves || !pair.slots[slot] || !can_rebuild(found[slot])) continue;
      return rebuild_and_check(context, device, pair, slot, found[slot], options,
                               std::move(report));
    }
  }
  if (found[*newest].complete() && !found[1 - *newest].complete()) {
    report.notes.push_back(
        "superblock " + std::to_string(*newest) + ", the newer, needs none of what superblock " +
        std::to_string(1 - *newest) + " lacks; the next mount for writing replaces that one");
  }
  auto store = open_impl(context, device, store_options);
  if (!store) report.problems.push_back(std::string(store.error().message()));
  if (!both) {
    const unsigned bad = 1 - *newest;
    if (repair) {
      const bool complete = report.problems.empty();
      repair_superblock(*channel, device.info(), pair, bad, complete, report);
    } else {
      report.notes.push_back(std::string(pair.problems[bad].message()) +
                             "; the other superblock is good");
    }
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
  if (options.progress) options.progress(1.0);
  return report;
}

}  // namespace basalt::blob
