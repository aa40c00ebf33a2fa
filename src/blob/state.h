// State: everything the store remembers, as trees, and the one way it changes.
//
// apply() carries out a transaction's operations; normal running and recovery use the same code. It
// validates what it decodes, because journal bytes come from a device. What open blobs and the free
// space have to learn is returned as Effects. Not synchronised: the store's metadata lock guards it.
//
// Invariants (check_store verifies them): every extent lies in clusters mapped once; mapped and free
// clusters together are all data clusters; a blob's allocated_blocks is the sum of its extents.
#pragma once

#include "blob/blob_store.h"
#include "blob/operations.h"
#include "blob/page_store.h"
#include "blob/space_map.h"
#include "blob/tree.h"

#include <functional>
#include <string>
#include <vector>

namespace basalt::blob {

// What a transaction did to mappings, in order, for open blobs and the allocator.
struct Effect {
  enum class Kind : uint8_t { map, unmap, set_state, freed } kind;
  BlobId blob;
  Extent extent;  // freed: physical and count alone
};

inline constexpr uint64_t kMaxExtentsPerFree = 128;
inline constexpr uint64_t kMaxChecksumGroupsPerFree = 1024;

// What a transaction may touch, for the room it needs in the metadata region.
struct Footprint {
  uint64_t places = 0;     // in the trees; each perhaps a leaf of its own
  uint64_t new_bytes = 0;  // by which the trees may grow
};

class State {
 public:
  explicit State(PageStore& pages);

  Status apply(std::span<const std::byte> operations, std::vector<Effect>& effects);

  // Whether `operations` can be applied to the state as it is; changes nothing. A mistake of the caller
  // is answered here: what apply() finds wrong afterwards is damage.
  Result<Footprint> check(std::span<const std::byte> operations);
  // The most pages a transaction takes from the metadata region, with the checkpoint after it.
  uint64_t pages_needed(const Footprint& footprint) const;
  // Of freeing so many extents, with so many groups of checksums.
  static Footprint footprint_of_unmap(uint64_t extents, uint64_t groups);

  Tree& objects() { return objects_; }
  Tree& catalog() { return catalog_; }
  SpaceMap& space() { return space_; }
  Tree& references() { return references_; }

  Result<BlobRecord> record(BlobId id);
  Result<std::vector<Extent>> extents(BlobId id, BlockRange range);
  // A group's checksums as stored; empty when it has none.
  Result<std::string> checksums(BlobId id, uint64_t group);
  // The groups with checksums of blocks in `range`, in order.
  Result<std::vector<uint64_t>> checksum_groups(BlobId id, BlockRange range);
  Status for_each_blob(const std::function<bool(BlobId, const BlobRecord&)>& visit);
  Result<std::vector<BlobId>> orphans();

  uint64_t next_blob_id = kFirstBlobId;
  uint64_t blob_count = 0;
  uint64_t cluster_count = 0;
  uint32_t cluster_blocks = 0;
  bool data_checksums = false;  // the store's feature: blobs may have checksums

 private:
  class Checker;
  Status apply_one(OpCode op, OperationReader& reader, std::vector<Effect>& effects);
  Status create_blob(BlobId id, uint64_t flags, BlobId parent);
  Status delete_blob(BlobId id, std::vector<Effect>& effects);
  Status map(BlobId id, const Extent& extent, std::vector<Effect>& effects);
  Status unmap(BlobId id, BlockRange range, std::vector<Effect>& effects);
  Status set_state(BlobId id, BlockRange range, ExtentState state, std::vector<Effect>& effects);
  Status set_checksums(BlobId id, uint64_t first, std::string_view checksums);
  Status erase_checksums(BlobId id, BlockRange unmapped);
  Status rewrite(BlobId id, BlockRange range, const std::function<void(ExtentMap&)>& change);
  Status put_record(BlobId id, const BlobRecord& record);
  Status free_clusters(const Extent& extent, std::vector<Effect>& effects);

  PageStore& pages_;
  Tree objects_, catalog_, references_;
  SpaceMap space_;
};

// Keys of the objects tree.
std::string object_key(BlobId id, ObjectKind kind, std::string_view rest = {});
std::string extent_key(BlobId id, uint64_t logical);
std::string checksum_key(BlobId id, uint64_t group);
// Blocks whose checksums an operation or a cell can hold: 1 … kChecksumGroupBlocks, all in one group.
bool is_checksum_run(uint64_t first, std::string_view checksums);

}  // namespace basalt::blob
