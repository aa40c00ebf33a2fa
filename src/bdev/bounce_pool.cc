#include "bdev/bounce_pool.h"

#include <algorithm>

#include "base/check.h"
#include "base/try.h"

namespace basalt {

Result<std::unique_ptr<BouncePool>> BouncePool::create(size_t bytes, size_t granule, MemoryMap* map,
                                                       Hugepages hugepages) {
  bytes = std::max(bytes / granule, size_t{1}) * granule;
  BASALT_TRY_ASSIGN(std::unique_ptr<Arena> arena, Arena::create({.name = "basalt-bounce",
                                                                 .bytes = bytes + kZeroBytes,
                                                                 .hugepages = hugepages,
                                                                 .numa_node = -1,
                                                                 .map = map}));
  BASALT_TRY_ASSIGN(Buffer memory, arena->allocate(bytes));
  BASALT_TRY_ASSIGN(Buffer zeroes, arena->allocate(kZeroBytes));
  return std::unique_ptr<BouncePool>(
      new BouncePool(std::move(arena), std::move(memory), std::move(zeroes), granule));
}

BouncePool::BouncePool(std::unique_ptr<Arena> arena, Buffer memory, Buffer zeroes, size_t granule)
    : arena_(std::move(arena)),
      memory_(std::move(memory)),
      zeroes_(std::move(zeroes)),
      granule_(granule),
      granule_count_(memory_.size() / granule),
      bitmap_((granule_count_ + 63) / 64) {}

std::span<std::byte> BouncePool::take(size_t least, size_t most) noexcept {
  const size_t wanted = (most + granule_ - 1) / granule_;
  const size_t needed = (least + granule_ - 1) / granule_;
  for (size_t first = 0; first + needed <= granule_count_;) {
    size_t run = 0;
    while (run < wanted && first + run < granule_count_ && !taken(first + run)) ++run;
    if (run >= needed) {
      mark(first, run, true);
      return memory_.span().subspan(first * granule_, std::min(run * granule_, most));
    }
    first += run + 1;
  }
  return {};
}

void BouncePool::give(std::span<std::byte> bytes) noexcept {
  const auto offset = static_cast<size_t>(bytes.data() - memory_.data());
  mark(offset / granule_, (bytes.size() + granule_ - 1) / granule_, false);
}

void BouncePool::mark(size_t first, size_t count, bool take) noexcept {
  for (size_t granule = first; granule < first + count; ++granule) {
    BASALT_CHECK(taken(granule) != take, "bounce memory is taken or given twice");
    bitmap_[granule / 64] ^= uint64_t{1} << granule % 64;
  }
}

}  // namespace basalt
