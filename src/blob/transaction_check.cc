// State::check: whether a transaction can be applied, asked before anything is changed.
//
// Follows the operations against the state, remembering what earlier operations of the same transaction
// would have done, and adds up what they will touch. A caller's mistake (a blob that is gone, a range that
// is mapped already) is answered here; what apply() finds wrong after that is damage.
// Not synchronised: the store's metadata lock guards the state.
#include "base/try.h"
#include "blob/operations.h"
#include "blob/range_set.h"
#include "blob/state.h"

#include <algorithm>
#include <map>

namespace basalt::blob {
namespace {

constexpr uint64_t kExtentCellBytes = 48;  // of an extent in its leaf: offset, lengths, key, value
constexpr uint64_t kSpaceCellBytes = 24;
constexpr uint64_t kChecksumCellBytes = 2 + 4 + 17 + kChecksumGroupBlocks * sizeof(le32);
constexpr uint64_t kChecksumCellsPerLeaf = Node::kCapacity / kChecksumCellBytes;

std::string name_of(BlobId id) { return "blob " + std::to_string(id.value); }

Status missing(BlobId id) { return Status(StatusCode::not_found, "no " + name_of(id)); }

Status impossible(BlobId id, BlockRange range, const char* what) {
  return Status(StatusCode::invalid_argument, name_of(id) + ": blocks " +
                                                  std::to_string(range.first) + " + " +
                                                  std::to_string(range.count) + ": " + what);
}

bool overlaps(const RangeSet& set, BlockRange range) {
  return set.end_of_range_at(range.first) != 0 || set.next_range_after(range.first) < range.end();
}

bool covers(const RangeSet& set, BlockRange range) {
  return set.end_of_range_at(range.first) >= range.end();  // ranges of a set never touch
}

BlockRange clip(const Extent& extent, BlockRange range) {
  const uint64_t first = std::max(extent.logical, range.first);
  return {first, std::min(extent.end(), range.end()) - first};
}

}  // namespace

class State::Checker {
 public:
  explicit Checker(State& state) : state_(state) {}

  const Footprint& footprint() const { return footprint_; }
  Status check_one(OpCode op, OperationReader& in);

 private:
  // A blob as this transaction has left it so far.
  struct View {
    bool exists = false;
    bool checksums = false;
    RangeSet mapped, unmapped;
  };

  void touch(uint64_t places, uint64_t new_bytes) {
    footprint_.places += places;
    footprint_.new_bytes += new_bytes;
  }
  Result<View*> view(BlobId id);
  Status require(BlobId id);
  Status check_create(BlobId id, uint64_t flags);
  Status check_delete(BlobId id);
  Status check_map(BlobId id, const Extent& extent);
  Status check_unmap(BlobId id, BlockRange range);
  Status check_set_state(BlobId id, BlockRange range);
  Status check_set_checksums(BlobId id, uint64_t first, std::string_view checksums);

  State& state_;
  Footprint footprint_;
  std::map<BlobId, View> views_;
  RangeSet taken_;  // clusters this transaction maps
};

Result<State::Checker::View*> State::Checker::view(BlobId id) {
  const auto [at, fresh] = views_.try_emplace(id);
  if (fresh) {
    const auto record = state_.record(id);
    if (!record && record.error().code() != StatusCode::not_found) return error(record.error());
    at->second.exists = record.has_value();
    at->second.checksums = record && (record->flags & kBlobChecksums) != 0;
  }
  return &at->second;
}

Status State::Checker::require(BlobId id) {
  BASALT_TRY_ASSIGN(const View* blob, view(id));
  return blob->exists ? Status() : missing(id);
}

Status State::Checker::check_create(BlobId id, uint64_t flags) {
  if (id.value < kFirstBlobId || id.value > kMaxBlobId) {
    return Status(StatusCode::invalid_argument, name_of(id) + ": not an id a blob can have");
  }
  if ((flags & kBlobChecksums) != 0 && !state_.data_checksums) {
    return Status(StatusCode::invalid_argument,
                  name_of(id) + ": the store was formatted without data_checksums");
  }
  BASALT_TRY_ASSIGN(View * blob, view(id));
  if (blob->exists) return Status(StatusCode::already_exists, name_of(id) + " exists already");
  // Blocks of a blob of that id deleted earlier in this transaction stay in `unmapped`.
  blob->exists = true;
  blob->checksums = (flags & kBlobChecksums) != 0;
  touch(2, 80);
  return {};
}

Status State::Checker::check_delete(BlobId id) {
  BASALT_TRY_ASSIGN(View * blob, view(id));
  if (!blob->exists) return missing(id);
  BASALT_TRY_ASSIGN(const auto extents, state_.extents(id, {0, kMaxBlobBlocks}));
  uint64_t left = 0;
  for (const Extent& extent : extents)
    left += !covers(blob->unmapped, {extent.logical, extent.count});
  if (left > kMaxExtentsPerFree) {
    return Status(StatusCode::too_large,
                  name_of(id) + " still has " + std::to_string(left) + " extents; at most " +
                      std::to_string(kMaxExtentsPerFree) + " are freed by one transaction");
  }
  BASALT_TRY_ASSIGN(const auto groups, state_.checksum_groups(id, {0, kMaxBlobBlocks}));
  if (groups.size() > kMaxChecksumGroupsPerFree) {
    return Status(StatusCode::too_large,
                  name_of(id) + " still has " + std::to_string(groups.size()) +
                      " groups of checksums; at most " + std::to_string(kMaxChecksumGroupsPerFree) +
                      " are freed by one transaction");
  }
  uint64_t attributes = 0;
  Tree::Cursor cursor(state_.objects());
  BASALT_TRY(cursor.seek(object_key(id, ObjectKind::attribute)));
  for (const std::string prefix = object_key(id, ObjectKind::attribute);
       cursor.valid() && cursor.key().starts_with(prefix); ++attributes) {
    BASALT_TRY(cursor.next());
  }
  const Footprint freed = footprint_of_unmap(left, groups.size());
  touch(freed.places + attributes + 4, freed.new_bytes);
  blob->exists = false;
  blob->mapped = {};
  blob->unmapped.add(0, kMaxBlobBlocks);
  return {};
}

Status State::Checker::check_map(BlobId id, const Extent& extent) {
  const BlockRange range{extent.logical, extent.count};
  const uint64_t unit = state_.cluster_blocks;
  if (!within_blob(range) || extent.logical % unit != 0 || extent.physical % unit != 0 ||
      extent.count % unit != 0 ||
      extent.physical / unit + extent.count / unit > state_.cluster_count) {
    return impossible(id, range, "cannot be mapped there");
  }
  BASALT_TRY_ASSIGN(View * blob, view(id));
  if (!blob->exists) return missing(id);
  BASALT_TRY_ASSIGN(const auto present, state_.extents(id, range));
  for (const Extent& there : present) {
    if (!covers(blob->unmapped, clip(there, range))) return impossible(id, range, "mapped already");
  }
  if (overlaps(blob->mapped, range)) return impossible(id, range, "mapped twice");
  const BlockRange clusters{extent.physical / unit, extent.count / unit};
  BASALT_TRY_ASSIGN(const bool free, state_.space_.all_free(clusters.first, clusters.count));
  if (!free || overlaps(taken_, clusters)) {
    return impossible(id, range, "the clusters they are to be mapped to are not free");
  }
  blob->mapped.add(range.first, range.count);
  taken_.add(clusters.first, clusters.count);
  touch(8, 2 * kExtentCellBytes + 2 * kSpaceCellBytes);
  return {};
}

Status State::Checker::check_unmap(BlobId id, BlockRange range) {
  const uint64_t unit = state_.cluster_blocks;
  if (!within_blob(range) || range.first % unit != 0 || range.count % unit != 0) {
    return impossible(id, range, "not a range of whole clusters");
  }
  BASALT_TRY_ASSIGN(View * blob, view(id));
  if (!blob->exists) return missing(id);
  BASALT_TRY_ASSIGN(const auto present, state_.extents(id, range));
  uint64_t groups = 0;
  if (blob->checksums) {
    BASALT_TRY_ASSIGN(const auto found, state_.checksum_groups(id, range));
    groups = found.size();
  }
  const Footprint freed = footprint_of_unmap(present.size(), groups);
  touch(freed.places, freed.new_bytes);
  blob->mapped.remove(range.first, range.count);
  blob->unmapped.add(range.first, range.count);
  return {};
}

Status State::Checker::check_set_state(BlobId id, BlockRange range) {
  if (!within_blob(range)) return impossible(id, range, "beyond what a blob can hold");
  BASALT_TRY(require(id));
  BASALT_TRY_ASSIGN(const auto present, state_.extents(id, range));
  touch(present.size() / 4 + 3, (present.size() + 2) * kExtentCellBytes);
  return {};
}

Status State::Checker::check_set_checksums(BlobId id, uint64_t first, std::string_view checksums) {
  if (!is_checksum_run(first, checksums)) {
    return Status(StatusCode::invalid_argument,
                  name_of(id) + ": " + std::to_string(checksums.size()) +
                      " bytes of checksums from block " + std::to_string(first) +
                      " on are not those of one group");
  }
  BASALT_TRY_ASSIGN(const View* blob, view(id));
  if (!blob->exists) return missing(id);
  if (!blob->checksums) {
    return Status(StatusCode::invalid_argument, name_of(id) + " was created without checksums");
  }
  touch(2, kChecksumCellBytes);
  return {};
}

Status State::Checker::check_one(OpCode op, OperationReader& in) {
  if (op == OpCode::catalog_put || op == OpCode::catalog_erase) {
    const std::string_view key = in.text(kMaxKeyBytes);
    const std::string_view value = op == OpCode::catalog_put ? in.text(kMaxValueBytes) : "";
    touch(2, op == OpCode::catalog_put ? Node::cell_bytes(key, value) : 0);
    return {};
  }
  const BlobId id{in.number()};
  switch (op) {
    case OpCode::create_blob: {
      const uint64_t flags = in.number();
      in.number();
      return check_create(id, flags);
    }
    case OpCode::delete_blob: return check_delete(id);
    case OpCode::set_size:
      in.number();
      touch(1, 0);
      return require(id);
    case OpCode::set_attribute: {
      const std::string_view name = in.text(kMaxKeyBytes), value = in.text(kMaxValueBytes);
      touch(2, 9 + Node::cell_bytes(name, value));
      return require(id);
    }
    case OpCode::erase_attribute:
      in.text(kMaxKeyBytes);
      touch(2, 0);
      return require(id);
    case OpCode::orphan: touch(2, 32); return require(id);
    case OpCode::map: {
      Extent extent;
      extent.logical = in.number();
      extent.physical = in.number();
      extent.count = in.number();
      in.number();
      return check_map(id, extent);
    }
    case OpCode::unmap: {
      const uint64_t first = in.number(), count = in.number();
      return check_unmap(id, {first, count});
    }
    case OpCode::set_state: {
      const uint64_t first = in.number(), count = in.number();
      in.number();
      return check_set_state(id, {first, count});
    }
    case OpCode::grow_clusters: {
      touch(4, kSpaceCellBytes);
      const bool grows = id.value >= state_.cluster_count;  // the number is no blob id here
      return grows ? Status()
                   : Status(StatusCode::invalid_argument,
                            "a store cannot shrink to " + std::to_string(id.value) + " clusters");
    }
    case OpCode::set_checksums: {
      const uint64_t first = in.number();
      const std::string_view checksums = in.text(kMaxValueBytes);
      return check_set_checksums(id, first, checksums);
    }
    case OpCode::catalog_put:
    case OpCode::catalog_erase: break;
  }
  return Status(StatusCode::invalid_argument, "unknown operation");
}

Result<Footprint> State::check(std::span<const std::byte> operations) {
  Checker checker(*this);
  OperationReader reader(operations);
  while (!reader.done()) {
    const OpCode op = reader.op();
    const Status status = checker.check_one(op, reader);
    if (reader.failed()) break;
    BASALT_TRY(status);
  }
  if (reader.failed()) return error(StatusCode::invalid_argument, "operations end in the middle");
  return checker.footprint();
}

// Each freed run may lie between two others of the space tree; the extents themselves are neighbours.
// So are the groups of checksums, a few to a leaf, of which a split may have left half.
Footprint State::footprint_of_unmap(uint64_t extents, uint64_t groups) {
  const uint64_t leaves = groups == 0 ? 0 : 2 + 2 * groups / kChecksumCellsPerLeaf;
  return {6 + extents / 4 + 3 * extents + leaves, 2 * kExtentCellBytes + extents * kSpaceCellBytes};
}

// A page is copied once per checkpoint, so no more than are in use can be; a node splits when it has been
// filled, so no more new ones come of it than there were and than the new bytes fill.
uint64_t State::pages_needed(const Footprint& footprint) const {
  uint64_t height = 1;
  for (const Tree* tree : {&objects_, &catalog_, &references_, &space_.tree()}) {
    if (tree->root.page != kNoPage) height = std::max<uint64_t>(height, tree->root.level + 1);
  }
  const PageMap& map = pages_.map();
  const uint64_t used = map.page_count() - map.free_count();
  const uint64_t paths = footprint.places * std::max<uint64_t>(1, height - 1) + 4 * height;
  const uint64_t copies = std::min(paths, used);
  const uint64_t splits =
      std::min(footprint.places, used + footprint.new_bytes / 1024) + height + 1;
  // The page map itself is written anew by each of the two checkpoints that make room.
  const uint64_t map_pages = 2 * (map.leaf_count() + map.index_page_count());
  return copies + splits + map_pages;
}

}  // namespace basalt::blob
