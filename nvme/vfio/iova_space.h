// IovaSpace: which I/O virtual addresses (IOVAs) one controller uses for which memory.
//
// Memory keeps its own address where the IOMMU can express it, so that addresses in traces mean the
// same on both sides; else it gets the lowest free one. Pure bookkeeping: nothing here talks to the
// kernel, and whoever maps an address gives it back when the mapping fails.
// Invariants: what is handed out lies in one usable range, starts at a multiple of the granule, is
// never address 0, and overlaps nothing else handed out.
// Not synchronised: VfioFunction's lock guards it.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace basalt::nvme {

// Both ends are usable: the last address of a 39-bit space is 0x7f'ffff'ffff.
struct IovaRange {
  uint64_t first = 0;
  uint64_t last = 0;
};

class IovaSpace {
 public:
  // The ranges the kernel says the IOMMU accepts, in any order; overlapping ones are joined. `granule`: the
  // smallest page of the IOMMU, a power of two.
  IovaSpace(std::vector<IovaRange> usable, uint64_t granule);

  // Addresses for the `bytes` at `address`, both multiples of the granule. Errors: invalid_argument when they
  // are not, no_space.
  Result<uint64_t> allocate(uint64_t address, uint64_t bytes);
  // ok for exactly what allocate() has handed out; invalid_argument for anything else.
  Status check_allocated(uint64_t iova, uint64_t bytes) const;
  // Gives that back. Errors: those of check_allocated().
  Status free(uint64_t iova, uint64_t bytes);

  uint64_t granule() const { return granule_; }
  uint64_t allocated_bytes() const { return allocated_bytes_; }
  size_t allocated_count() const { return taken_.size(); }
  // "0x1000-0xfedfffff, 0xfef00000-0x7fffffffff"
  std::string ranges() const;

 private:
  bool is_usable(IovaRange wanted) const;
  bool is_free(IovaRange wanted) const;
  // The lowest free address that is `phase` modulo `alignment`; 0: none.
  uint64_t first_fit(uint64_t bytes, uint64_t alignment, uint64_t phase) const;

  std::vector<IovaRange> usable_;  // ascending, with a gap between any two
  const uint64_t granule_;
  std::map<uint64_t, uint64_t> taken_;  // first address → last address
  uint64_t allocated_bytes_ = 0;
};

}  // namespace basalt::nvme
