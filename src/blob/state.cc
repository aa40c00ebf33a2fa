#include "blob/state.h"

#include "base/try.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

template <typename T>
bool load(std::string_view bytes, T& out) {
  if (bytes.size() != sizeof out) return false;
  std::memcpy(&out, bytes.data(), sizeof out);
  return true;
}

Status malformed(BlobId id, const char* what) {
  return Status(StatusCode::corruption, "blob " + std::to_string(id.value) + ": " + what);
}

}  // namespace

std::string object_key(BlobId id, ObjectKind kind, std::string_view rest) {
  const be64 number = id.value;
  std::string key(struct_text(number));
  key.push_back(static_cast<char>(kind));
  key.append(rest);
  return key;
}

std::string extent_key(BlobId id, uint64_t logical) {
  const be64 number = logical;
  return object_key(id, ObjectKind::extent, struct_text(number));
}

State::State(PageStore& pages)
    : pages_(pages),
      objects_(pages, TreeId::objects),
      catalog_(pages, TreeId::catalog),
      references_(pages, TreeId::references),
      space_(pages) {}

Status State::apply(std::span<const std::byte> operations, std::vector<Effect>& effects) {
  OperationReader reader(operations);
  while (!reader.done()) {
    const OpCode op = reader.op();
    BASALT_TRY(apply_one(op, reader, effects)
                   .with_context("operation " + std::to_string(static_cast<int>(op))));
  }
  if (reader.failed()) return Status(StatusCode::corruption, "operations end in the middle");
  return {};
}

// Arguments are read in the order they were written; an overrun is found before anything is done.
Status State::apply_one(OpCode op, OperationReader& in, std::vector<Effect>& effects) {
  const auto overrun = [] { return Status(StatusCode::corruption, "operation cut short"); };
  if (op == OpCode::catalog_put || op == OpCode::catalog_erase) {
    const std::string_view key = in.text(kMaxKeyBytes);
    const std::string_view value = op == OpCode::catalog_put ? in.text(kMaxValueBytes) : "";
    if (in.failed()) return overrun();
    if (op == OpCode::catalog_put) return catalog_.put(key, value);
    BASALT_TRY_ASSIGN([[maybe_unused]] const bool was, catalog_.erase(key));
    return {};
  }
  const BlobId id{in.number()};
  switch (op) {
    case OpCode::create_blob: {
      const uint64_t flags = in.number(), parent = in.number();
      return in.failed() ? overrun() : create_blob(id, flags, BlobId{parent});
    }
    case OpCode::delete_blob: return in.failed() ? overrun() : delete_blob(id, effects);
    case OpCode::set_size: {
      const uint64_t size = in.number();
      if (in.failed()) return overrun();
      BASALT_TRY_ASSIGN(BlobRecord blob, record(id));
      blob.size_bytes = size;
      return put_record(id, blob);
    }
    case OpCode::set_attribute: {
      const std::string_view name = in.text(kMaxKeyBytes), value = in.text(kMaxValueBytes);
      if (in.failed()) return overrun();
      return objects_.put(object_key(id, ObjectKind::attribute, name), value);
    }
    case OpCode::erase_attribute: {
      const std::string_view name = in.text(kMaxKeyBytes);
      if (in.failed()) return overrun();
      BASALT_TRY_ASSIGN([[maybe_unused]] const bool was,
                        objects_.erase(object_key(id, ObjectKind::attribute, name)));
      return {};
    }
    case OpCode::orphan: {
      if (in.failed()) return overrun();
      const be64 number = id.value;
      return objects_.put(object_key(BlobId{0}, ObjectKind::orphan, struct_text(number)), "");
    }
    case OpCode::map: {
      Extent extent;
      extent.logical = in.number();
      extent.physical = in.number();
      extent.count = in.number();
      extent.state = in.number() == 1 ? ExtentState::written : ExtentState::unwritten;
      return in.failed() ? overrun() : map(id, extent, effects);
    }
    case OpCode::unmap: {
      const uint64_t first = in.number(), count = in.number();
      return in.failed() ? overrun() : unmap(id, {first, count}, effects);
    }
    case OpCode::set_state: {
      const uint64_t first = in.number(), count = in.number();
      const ExtentState state = in.number() == 1 ? ExtentState::written : ExtentState::unwritten;
      return in.failed() ? overrun() : set_state(id, {first, count}, state, effects);
    }
    case OpCode::grow_clusters: {
      const uint64_t clusters = id.value;  // the only number of this operation
      if (in.failed() || clusters < cluster_count) return overrun();
      BASALT_TRY(space_.give(cluster_count, clusters - cluster_count));
      cluster_count = clusters;
      return {};
    }
    case OpCode::set_checksums: {
      const uint64_t first = in.number();
      const std::string_view checksums = in.text(kMaxValueBytes);
      return in.failed() ? overrun() : set_checksums(id, first, checksums);
    }
    case OpCode::catalog_put:
    case OpCode::catalog_erase: break;
  }
  return Status(StatusCode::corruption, "unknown operation");
}

Result<BlobRecord> State::record(BlobId id) {
  BASALT_TRY_ASSIGN(const auto value, objects_.get(object_key(id, ObjectKind::record)));
  if (!value) return error(StatusCode::not_found, "no blob " + std::to_string(id.value));
  BlobRecord blob;
  if (!load(*value, blob)) return error(malformed(id, "record of the wrong size"));
  return blob;
}

Status State::put_record(BlobId id, const BlobRecord& blob) {
  return objects_.put(object_key(id, ObjectKind::record), struct_text(blob));
}

Status State::create_blob(BlobId id, uint64_t flags, BlobId parent) {
  if (id.value < kFirstBlobId || id.value > kMaxBlobId) return malformed(id, "impossible id");
  if (const auto existing = record(id); existing) return malformed(id, "exists already");
  if ((flags & kBlobChecksums) != 0 && !data_checksums) {
    return malformed(id, "checksums in a store without that feature");
  }
  BlobRecord blob{};
  blob.flags = static_cast<uint32_t>(flags);
  blob.parent = parent.value;
  blob.extent_root.page = kNoPage;
  BASALT_TRY(put_record(id, blob));
  next_blob_id = std::max(next_blob_id, id.value + 1);
  ++blob_count;
  return {};
}

Result<std::vector<Extent>> State::extents(BlobId id, BlockRange range) {
  std::vector<Extent> found;
  uint64_t previous_end = 0;
  Tree::Cursor cursor(objects_);
  // Start at the extent that may reach into the range from the left.
  BASALT_TRY(cursor.seek_before(extent_key(id, range.first + 1)));
  const std::string prefix = object_key(id, ObjectKind::extent);
  if (!cursor.valid() || !cursor.key().starts_with(prefix)) BASALT_TRY(cursor.seek(prefix));
  while (cursor.valid() && cursor.key().starts_with(prefix)) {
    be64 logical;
    ExtentRecord stored;
    if (!load(cursor.key().substr(prefix.size()), logical) || !load(cursor.value(), stored) ||
        stored.state > 1) {
      return error(malformed(id, "malformed extent"));
    }
    const Extent extent{logical, stored.physical, stored.count,
                        static_cast<ExtentState>(stored.state)};
    const uint64_t limit = cluster_count * cluster_blocks;
    if (!within_blob({extent.logical, extent.count}) || extent.logical < previous_end ||
        extent.physical > limit || extent.count > limit - extent.physical) {
      return error(malformed(id, "impossible extent"));
    }
    previous_end = extent.end();
    if (extent.logical >= range.end()) break;
    if (extent.end() > range.first) found.push_back(extent);
    BASALT_TRY(cursor.next());
  }
  return found;
}

// Loads the extents around `range`, lets `change` edit them, and writes back what differs.
Status State::rewrite(BlobId id, BlockRange range, const std::function<void(ExtentMap&)>& change) {
  const uint64_t first = range.first == 0 ? 0 : range.first - 1;  // neighbours may merge
  BASALT_TRY_ASSIGN(const std::vector<Extent> before,
                    extents(id, {first, range.end() + 1 - first}));
  ExtentMap map;
  for (const Extent& extent : before) map.set(extent);
  change(map);
  const auto after = map.all();
  const auto kept = [&](const Extent& extent) {
    return std::find(after.begin(), after.end(), extent) != after.end();
  };
  for (const Extent& extent : before) {
    if (kept(extent)) continue;
    const auto same_key = std::find_if(
        after.begin(), after.end(), [&](const Extent& e) { return e.logical == extent.logical; });
    if (same_key != after.end()) continue;  // overwritten below
    BASALT_TRY_ASSIGN([[maybe_unused]] const bool was,
                      objects_.erase(extent_key(id, extent.logical)));
  }
  for (const Extent& extent : after) {
    if (std::find(before.begin(), before.end(), extent) != before.end()) continue;
    ExtentRecord stored{};
    stored.physical = extent.physical;
    stored.count = extent.count;
    stored.state = static_cast<uint8_t>(extent.state);
    BASALT_TRY(objects_.put(extent_key(id, extent.logical), struct_text(stored)));
  }
  return {};
}

Status State::map(BlobId id, const Extent& extent, std::vector<Effect>& effects) {
  const uint64_t unit = cluster_blocks;
  if (!within_blob({extent.logical, extent.count}) || extent.logical % unit != 0 ||
      extent.physical % unit != 0 || extent.count % unit != 0 ||
      extent.physical / unit + extent.count / unit > cluster_count) {
    return malformed(id, "mapping of impossible blocks");
  }
  BASALT_TRY_ASSIGN(BlobRecord blob, record(id));
  BASALT_TRY_ASSIGN(const auto present, extents(id, {extent.logical, extent.count}));
  if (!present.empty()) return malformed(id, "mapping over mapped blocks");
  BASALT_TRY(space_.take(extent.physical / unit, extent.count / unit));
  BASALT_TRY(rewrite(id, {extent.logical, extent.count}, [&](ExtentMap& map) { map.set(extent); }));
  blob.allocated_blocks = blob.allocated_blocks + extent.count;
  effects.push_back({Effect::Kind::map, id, extent});
  return put_record(id, blob);
}

Status State::free_clusters(const Extent& extent, std::vector<Effect>& effects) {
  BASALT_TRY(space_.give(extent.physical / cluster_blocks, extent.count / cluster_blocks));
  effects.push_back({Effect::Kind::freed, BlobId{0}, extent});
  return {};
}

Status State::unmap(BlobId id, BlockRange range, std::vector<Effect>& effects) {
  if (!within_blob(range) || range.first % cluster_blocks != 0 ||
      range.count % cluster_blocks != 0) {
    return malformed(id, "freeing of a part of a cluster");
  }
  BASALT_TRY_ASSIGN(BlobRecord blob, record(id));
  BASALT_TRY_ASSIGN(const auto present, extents(id, range));
  ExtentMap freed;  // merges written and unwritten neighbours of one cluster
  for (Extent extent : present) {
    const uint64_t first = std::max(extent.logical, range.first);
    const uint64_t end = std::min(extent.end(), range.end());
    extent.physical += first - extent.logical;
    extent.logical = first;
    extent.count = end - first;
    extent.state = ExtentState::unwritten;
    freed.set(extent);
  }
  BASALT_TRY(rewrite(id, range, [&](ExtentMap& map) { map.erase(range); }));
  if ((blob.flags & kBlobChecksums) != 0) BASALT_TRY(erase_checksums(id, range));
  effects.push_back({Effect::Kind::unmap, id, {range.first, 0, range.count, {}}});
  for (const Extent& extent : freed.all()) {
    if (extent.physical % cluster_blocks != 0 || extent.count % cluster_blocks != 0) {
      return malformed(id, "a cluster mapped in part");
    }
    BASALT_TRY(free_clusters(extent, effects));
    blob.allocated_blocks = blob.allocated_blocks - extent.count;
  }
  return put_record(id, blob);
}

Status State::set_state(BlobId id, BlockRange range, ExtentState state,
                        std::vector<Effect>& effects) {
  if (!within_blob(range)) return malformed(id, "state of impossible blocks");
  effects.push_back({Effect::Kind::set_state, id, {range.first, 0, range.count, state}});
  return rewrite(id, range, [&](ExtentMap& map) { map.set_state(range, state); });
}

Status State::delete_blob(BlobId id, std::vector<Effect>& effects) {
  BASALT_TRY_ASSIGN([[maybe_unused]] const BlobRecord blob, record(id));
  BASALT_TRY(unmap(id, {0, kMaxBlobBlocks}, effects));
  // What is left are the record and the attributes.
  const std::string prefix = object_key(id, ObjectKind::record).substr(0, 8);
  while (true) {
    Tree::Cursor cursor(objects_);
    BASALT_TRY(cursor.seek(prefix));
    if (!cursor.valid() || !cursor.key().starts_with(prefix)) break;
    BASALT_TRY_ASSIGN(const bool was, objects_.erase(std::string(cursor.key())));
    if (!was) return malformed(id, "its keys are not where the tree leads to");
  }
  const be64 number = id.value;
  BASALT_TRY_ASSIGN([[maybe_unused]] const bool was_orphan,
                    objects_.erase(object_key(BlobId{0}, ObjectKind::orphan, struct_text(number))));
  --blob_count;
  return {};
}

Result<std::vector<BlobId>> State::orphans() {
  std::vector<BlobId> ids;
  const std::string prefix = object_key(BlobId{0}, ObjectKind::orphan);
  Tree::Cursor cursor(objects_);
  BASALT_TRY(cursor.seek(prefix));
  while (cursor.valid() && cursor.key().starts_with(prefix)) {
    be64 id;
    if (!load(cursor.key().substr(prefix.size()), id)) {
      return error(StatusCode::corruption, "orphan list: malformed key");
    }
    ids.push_back(BlobId{id});
    BASALT_TRY(cursor.next());
  }
  return ids;
}

Status State::for_each_blob(const std::function<bool(BlobId, const BlobRecord&)>& visit) {
  Tree::Cursor cursor(objects_);
  std::string from = object_key(BlobId{1}, ObjectKind::orphan);
  BASALT_TRY(cursor.seek(from));
  while (cursor.valid()) {
    be64 id;
    std::memcpy(&id, cursor.key().data(), std::min(sizeof id, cursor.key().size()));
    BlobRecord blob;
    if (cursor.key() != object_key(BlobId{id}, ObjectKind::record) || !load(cursor.value(), blob)) {
      return malformed(BlobId{id}, "objects without a blob record");
    }
    if (id > kMaxBlobId) return malformed(BlobId{id}, "impossible id");
    if (!visit(BlobId{id}, blob)) break;
    from = object_key(BlobId{id + 1}, ObjectKind::orphan);
    BASALT_TRY(cursor.seek(from));
  }
  return {};
}

}  // namespace basalt::blob
