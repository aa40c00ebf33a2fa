#include "blob/page_map.h"

#include "base/check.h"
#include "base/endian.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {

void PageMap::reset(uint64_t page_count) {
  page_count_ = page_count;
  free_count_ = page_count;
  cursor_ = 0;
  used_.assign((page_count + 63) / 64, 0);
  building_.clear();
  frozen_.clear();
  previous_.clear();
  leaves_.assign((page_count + kPagesPerMapLeaf - 1) / kPagesPerMapLeaf, Leaf{});
  for (Leaf& leaf : leaves_) leaf.ref.page = kNoPage;
  index_pages_.clear();
}

void PageMap::set(std::vector<uint64_t>& bits, uint64_t i, bool value) {
  const uint64_t mask = uint64_t{1} << (i % 64);
  bits[i / 64] = value ? bits[i / 64] | mask : bits[i / 64] & ~mask;
  leaves_[i / kPagesPerMapLeaf].dirty = true;
}

std::optional<uint64_t> PageMap::allocate() {
  if (free_count_ == 0) return std::nullopt;
  const uint64_t words = used_.size();
  for (uint64_t n = 0; n <= words; ++n) {
    const uint64_t word = (cursor_ / 64 + n) % words;
    uint64_t candidates = ~used_[word];
    if (n == 0) candidates &= ~uint64_t{0} << (cursor_ % 64);
    if (candidates == 0) continue;
    const uint64_t page = word * 64 + static_cast<unsigned>(__builtin_ctzll(candidates));
    if (page >= page_count_) continue;
    set(used_, page, true);
    --free_count_;
    cursor_ = (page + 1) % page_count_;
    return page;
  }
  return std::nullopt;
}

void PageMap::mark_used(uint64_t page) {
  if (used(page)) return;
  set(used_, page, true);
  --free_count_;
}

bool PageMap::free(uint64_t page) {
  if (page >= page_count_ || !used(page)) return false;
  building_.push_back(page);
  leaves_[page / kPagesPerMapLeaf].dirty = true;
  return true;
}

uint64_t PageMap::index_page_count() const {
  uint64_t pages = 0;
  for (uint64_t n = leaf_count(); n > 1 || pages == 0;) {
    n = (n + kRefsPerMapIndex - 1) / kRefsPerMapIndex;
    pages += n;
  }
  return pages;
}

void PageMap::release(uint64_t page) {
  BASALT_CHECK(page < page_count_ && used(page), "metadata page released twice");
  set(used_, page, false);
  ++free_count_;
}

void PageMap::freeze() {
  BASALT_CHECK(frozen_.empty(), "two checkpoints at once");
  frozen_ = std::move(building_);
  building_.clear();
}

void PageMap::flipped() {
  flipped_again();
  previous_ = std::move(frozen_);
  frozen_.clear();
}

void PageMap::flipped_again() {
  for (const uint64_t page : previous_) {
    if (!used(page)) continue;  // named twice by a damaged tree
    set(used_, page, false);
    ++free_count_;
  }
  previous_.clear();
}

// Plane 0: used; plane 1: leaving. Pages in `previous_` are free once this checkpoint is flipped in,
// and are saved as free; what was freed while this checkpoint was built is used and leaving.
void PageMap::save_leaf(uint64_t leaf, std::byte* payload) const {
  const uint64_t first = leaf * kPagesPerMapLeaf;
  const uint64_t bytes = std::min(kPageMapBytesPerPlane, (used_.size() * 64 - first) / 8);
  std::memset(payload, 0, 2 * kPageMapBytesPerPlane);
  std::memcpy(payload, reinterpret_cast<const std::byte*>(used_.data()) + first / 8, bytes);
  const auto within = [&](uint64_t page) {
    return page >= first && page < first + kPagesPerMapLeaf;
  };
  for (const uint64_t page : previous_) {
    if (within(page)) payload[(page - first) / 8] &= ~(std::byte{1} << ((page - first) % 8));
  }
  for (const uint64_t page : frozen_) {
    if (!within(page)) continue;
    payload[kPageMapBytesPerPlane + (page - first) / 8] |= std::byte{1} << ((page - first) % 8);
  }
}

bool PageMap::load_leaf(uint64_t leaf, const std::byte* payload) {
  static_assert(kPagesPerMapLeaf % 64 == 0, "a leaf is whole words");
  const uint64_t first = leaf * kPagesPerMapLeaf;
  for (uint64_t i = 0; i < kPagesPerMapLeaf; i += 64) {
    le64 planes[2];
    std::memcpy(&planes[0], payload + i / 8, 8);
    std::memcpy(&planes[1], payload + kPageMapBytesPerPlane + i / 8, 8);
    const uint64_t in_use = planes[0], leaving = planes[1];
    const uint64_t page = first + i;
    const uint64_t there = page_count_ - std::min(page_count_, page);
    const uint64_t beyond = there >= 64 ? 0 : ~uint64_t{0} << there;
    if ((in_use & beyond) != 0 || (leaving & ~in_use) != 0) return false;
    if (in_use == 0) continue;
    if ((used_[page / 64] & in_use) != 0) return false;
    used_[page / 64] |= in_use;
    free_count_ -= static_cast<unsigned>(__builtin_popcountll(in_use));
    for (uint64_t left = leaving; left != 0; left &= left - 1) {
      previous_.push_back(page + static_cast<unsigned>(__builtin_ctzll(left)));
    }
  }
  leaves_[leaf].dirty = false;
  return true;
}

}  // namespace basalt::blob
