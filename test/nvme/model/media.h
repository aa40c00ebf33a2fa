// Media: the blocks of one of the model's namespaces.
//
// Memory-backed media is one anonymous mapping, so blocks that nobody wrote cost nothing and read as
// zeros. With a volatile cache, the durable bytes of each block that was written since the last flush
// are kept beside it: flush() forgets them, power_cut() puts them back. That is also where writing
// allocates; nothing else does. Blocks made uncorrectable stay so until they are written or
// deallocated. Null media has no bytes at all. Not synchronised: the model's lock. The caller has
// checked that block ranges lie within the media.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "nvme/model/model_options.h"

namespace basalt::nvme::model {

// Whether a change survives a power cut that comes before the next flush.
enum class Durability : uint8_t { cached, durable };

class Media {
 public:
  explicit Media(const NamespaceOptions& options);
  ~Media();
  Media(const Media&) = delete;
  Media& operator=(const Media&) = delete;

  uint64_t block_count() const { return options_.block_count; }
  uint32_t block_size() const { return options_.block_size; }
  bool is_null() const { return options_.backing == Backing::null; }
  const NamespaceOptions& options() const { return options_; }

  // The bytes of a range, for reading; empty for null media.
  std::span<std::byte> bytes(uint64_t first, uint64_t count);
  // The same, for changing: the old bytes are remembered as `durability` says.
  std::span<std::byte> change(uint64_t first, uint64_t count, Durability durability);
  void zero(uint64_t first, uint64_t count, Durability durability);
  void make_uncorrectable(uint64_t first, uint64_t count);
  bool has_uncorrectable(uint64_t first, uint64_t count) const;

  void flush() { durable_.clear(); }
  void power_cut();
  uint64_t unflushed_blocks() const { return durable_.size(); }

  // All blocks are zeros afterwards; the size in bytes stays (rounded down to a block).
  void format(uint32_t block_size);
  // Keeps the blocks that both sizes have.
  void resize(uint64_t block_count);
  void set_active(bool active) { options_.active = active; }

 private:
  void allocate();
  void release();
  size_t size_bytes() const { return options_.block_count * options_.block_size; }

  NamespaceOptions options_;
  std::byte* memory_ = nullptr;
  std::unordered_map<uint64_t, std::vector<std::byte>> durable_;  // by block
  std::set<uint64_t> uncorrectable_;
};

}  // namespace basalt::nvme::model
