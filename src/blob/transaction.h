// Transaction: a list of changes that becomes visible and durable as one.
//
// Each call appends one encoded operation (docs/format/journal.md, "Operations"); nothing happens until
// BlobStore::apply(). A Transaction is a value used by one thread.
#pragma once

#include <basalt/units.h>

#include "blob/extent_map.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace basalt::blob {

// A tree cell must fit a quarter of a page, so that a split always makes room.
inline constexpr size_t kMaxKeyBytes = 300;    // of a catalog key or an attribute name
inline constexpr size_t kMaxValueBytes = 512;  // of a catalog value or an attribute

struct BlobOptions {
  enum class Provisioning : uint8_t { thin, thick } provisioning = Provisioning::thin;
  BlobId parent{};  // snapshots and clones; zero: none
  // Every block gets a checksum, verified when it is read; for stores formatted with data_checksums.
  bool checksums = false;
};

class Transaction {
 public:
  static constexpr size_t kMaxBytes = 60 * 1024;

  Transaction() = default;
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  // Gives back space that was reserved and never applied.
  ~Transaction() { abandon(); }

  void create_blob(BlobId id, const BlobOptions& options);
  // The blob must have at most kMaxExtentsPerFree extents; BlobStore::delete_blob() does the rest.
  void delete_blob(BlobId id);
  void set_size(BlobId id, uint64_t size_bytes);
  void set_attribute(BlobId id, std::string_view name, std::string_view value);
  void erase_attribute(BlobId id, std::string_view name);
  void catalog_put(std::string_view key, std::string_view value);
  void catalog_erase(std::string_view key);
  // The blob is to be deleted: remembered durably until it is gone.
  void orphan(BlobId id);

  // For BlobStore: mappings chosen by allocate(), free_range(), mark_written().
  void map(BlobId id, const Extent& extent);
  void unmap(BlobId id, BlockRange range);
  void set_state(BlobId id, BlockRange range, ExtentState state);
  void grow_clusters(uint64_t cluster_count);
  // Of the blocks from `first` on, le32 each; they lie in one group.
  void set_checksums(BlobId id, uint64_t first, std::string_view checksums);

  // The journal record is written only after a flush of all data written before apply().
  void require_data_flush() { needs_data_flush_ = true; }
  bool needs_data_flush() const { return needs_data_flush_; }
  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  uint32_t op_count() const { return op_count_; }

  // Space promised by allocate(), in clusters, given back if the transaction is never applied.
  struct Reservation {
    uint64_t first_cluster = 0;
    uint64_t count = 0;
  };
  struct ReservationKeeper {
    virtual ~ReservationKeeper() = default;
    virtual void give_back(std::span<const Reservation> reservations) = 0;
  };

 private:
  friend class BlobStore;
  friend class SpaceMap;
  void append(uint8_t op, std::initializer_list<uint64_t> numbers, std::string_view a = {},
              std::string_view b = {});
  std::vector<std::byte> bytes_;
  void abandon() {
    if (keeper_ != nullptr && !reservations_.empty()) keeper_->give_back(reservations_);
    reservations_.clear();
  }
  std::vector<Reservation> reservations_;
  ReservationKeeper* keeper_ = nullptr;
  std::vector<std::pair<BlobId, Extent>>
      mapped_;  // by this transaction, for later allocate() calls
  uint32_t op_count_ = 0;
  bool needs_data_flush_ = false;
  bool oversized_ = false;  // a key or value beyond its limit: apply() answers too_large
  bool only_frees_ = true;  // creates and maps nothing
  bool any_frees_ = false;
};

}  // namespace basalt::blob
