#include "blobfs/page_cache.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "base/racing_copy.h"

namespace basalt::blobfs {

namespace {
constexpr uint64_t kMaxShards = 64;
constexpr uint32_t kChunkPages = CacheMemory::kChunkPages;
constexpr uint64_t kMinPagesPerShard = 1024;  // so many that hashing fills shards evenly

Status no_room(uint64_t bytes, const char* reason) {
  return {StatusCode::no_space, "no memory for a page cache of " + std::to_string(bytes) + " B (" +
                                    reason +
                                    "); raise the limit of address space (ulimit -v) or give less "
                                    "(cache_bytes, cache=)"};
}

// A chain has seldom more than a few.
constexpr uint32_t kMostSteps = 64;

constexpr auto kRelaxed = std::memory_order_relaxed, kAcquire = std::memory_order_acquire,
               kRelease = std::memory_order_release;

}  // namespace

Status PageCache::reserve(uint64_t bytes) {
  const uint64_t pages = bytes / kPageBytes;
  if (pages == 0) return {};
  const uint64_t physical =
      static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::getpagesize());
  if (bytes > physical) {
    return {StatusCode::invalid_argument,
            "a page cache of " + std::to_string(bytes) + " B is more than this machine's memory (" +
                std::to_string(physical) + " B); give less (cache_bytes, cache=)"};
  }
  try {
    return reserve_pages(pages);
  } catch (const std::bad_alloc&) {
    shard_count_ = 0;
    return no_room(bytes, "its index");
  }
}

Status PageCache::reserve_pages(uint64_t pages) {
  shard_count_ = std::clamp<uint64_t>(std::bit_floor(pages / kMinPagesPerShard), 1, kMaxShards);
  pages_per_shard_ = static_cast<uint32_t>(std::min<uint64_t>(pages / shard_count_, kNone - 1));
  // Large pages back whole chunks.
  if (pages_per_shard_ >= kMinPagesPerShard) pages_per_shard_ -= pages_per_shard_ % kChunkPages;
  const uint32_t chunks = (pages_per_shard_ + kChunkPages - 1) / kChunkPages;
  const uint64_t buckets = std::max(std::bit_ceil(uint64_t{pages_per_shard_}), kGroupPages);
  const uint64_t all_slots = shard_count_ * pages_per_shard_, all_buckets = shard_count_ * buckets;
  if (!memory_.reserve(shard_count_ * chunks) ||
      !index_.reserve(all_buckets * sizeof(Bucket) + all_slots * sizeof(Slot))) {
    shard_count_ = 0;
    return no_room(pages * kPageBytes, std::strerror(errno));
  }
  const std::span chains(reinterpret_cast<Bucket*>(index_.begin()), all_buckets);
  const std::span slots(reinterpret_cast<Slot*>(index_.begin() + chains.size_bytes()), all_slots);
  for (Bucket& bucket : chains) bucket.store(kNone, kRelaxed);
  shards_ = std::make_unique<Shard[]>(shard_count_);
  for (uint64_t i = 0; i < shard_count_; ++i) {
    Shard& shard = shards_[i];
    shard.chunks = std::make_unique<std::byte*[]>(chunks);
    shard.slots = slots.subspan(i * pages_per_shard_, pages_per_shard_);
    shard.spent.reserve(pages_per_shard_);
    shard.buckets = chains.subspan(i * buckets, buckets);
  }
  return {};
}

uint64_t PageCache::hash(uint64_t file_id, uint64_t page) {
  uint64_t x = file_id * 0x9e3779b97f4a7c15u ^ page * 0xc2b2ae3d27d4eb4fu;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ (x >> 29);
}

PageCache::Shard& PageCache::shard_of(uint64_t file_id, uint64_t page) {
  return shards_[hash(file_id, page / kGroupPages) & (shard_count_ - 1)];
}

// A group's buckets are side by side: one miss of the processor's caches finds them all. Bits that did
// not choose the shard choose them.
PageCache::Bucket& PageCache::bucket_of(Shard& shard, uint64_t file_id, uint64_t page) {
  const uint64_t group = hash(file_id, page / kGroupPages) / kMaxShards;
  return shard.buckets[(group * kGroupPages + page % kGroupPages) & (shard.buckets.size() - 1)];
}

uint32_t PageCache::find(Shard& shard, uint64_t file_id, uint64_t page, uint32_t most_steps) {
  uint32_t slot = bucket_of(shard, file_id, page).load(kRelaxed);
  for (; slot != kNone && most_steps != 0; --most_steps) {
    const Slot& candidate = shard.slots[slot];
    if (candidate.holds(file_id, page)) return slot;
    slot = candidate.next.load(kRelaxed);
  }
  return kNone;
}

std::byte* PageCache::memory_of(const Shard& shard, uint32_t slot) {
  return shard.chunks[slot / kChunkPages] + uint64_t{slot % kChunkPages} * kPageBytes;
}

// All of them before the first is copied, so that the processor waits for their slots together.
PageCache::Found PageCache::look_up(Shard& shard, uint64_t file_id, uint64_t offset, size_t bytes) {
  Found found;
  const uint64_t first = offset / kPageBytes;
  const uint64_t group_end = (first / kGroupPages + 1) * kGroupPages;
  for (uint64_t page = first; page < group_end && found.bytes < bytes; ++page) {
    const uint32_t slot = find(shard, file_id, page, kMostSteps);
    const uint32_t version = slot == kNone ? 0 : shard.slots[slot].version.load(kAcquire);
    // Again, now that the version is known.
    if (slot == kNone || !shard.slots[slot].holds(file_id, page)) {
      found.all = false;
      break;
    }
    const uint64_t skip = (offset + found.bytes) % kPageBytes;
    const size_t count = std::min<uint64_t>(bytes - found.bytes, kPageBytes - skip);
    found.copies[found.count++] = {slot, version, memory_of(shard, slot), skip, count};
    found.bytes += count;
  }
  return found;
}

void PageCache::copy_out(const Found& found, std::byte* out) {
  for (const Copy& copy : found.pages()) {
    copy_from_shared<kAcquire>(out, copy.memory + copy.skip, copy.count);
    out += copy.count;
  }
}

size_t PageCache::read(uint64_t file_id, uint64_t offset, std::span<std::byte> out, Touch touch) {
  size_t done = 0;
  for (bool found_all = true; found_all && done < out.size();) {
    Shard& shard = shard_of(file_id, (offset + done) / kPageBytes);
    Found found = look_up(shard, file_id, offset + done, out.size() - done);
    // A locked instruction waits for all stores before it, so those that count come before the copy.
    if (found.count != 0) shard.hits.fetch_add(found.count, kRelaxed);
    if (!found.all) shard.misses.fetch_add(1, kRelaxed);
    copy_out(found, out.data() + done);
    for (size_t i = 0; i < found.count; ++i) {
      if (is_there(shard, found.copies[i])) continue;
      if (found.all) shard.misses.fetch_add(1, kRelaxed);
      found.cut(i);
    }
    if (touch == Touch::reuse) give_credit(shard, found);
    if (touch == Touch::last) take_credit(shard, found);
    if (touch != Touch::reuse) mark_spent(shard, found);
    done += found.bytes;
    found_all = found.all;
  }
  return done;
}

bool PageCache::is_there(const Shard& shard, const Copy& copy) {
  return shard.slots[copy.slot].version.load(kRelaxed) == copy.version;
}

// Two at once may give one credit, or give it to the slot's next page: it is a hint.
void PageCache::give_credit(Shard& shard, const Found& found) {
  for (const Copy& copy : found.pages()) {
    Slot& slot = shard.slots[copy.slot];
    const uint8_t credit = slot.credit.load(kRelaxed);
    if (credit < kMaxCredit) slot.credit.store(credit + 1, kRelaxed);
  }
}

void PageCache::take_credit(Shard& shard, const Found& found) {
  for (const Copy& copy : found.pages()) {
    if (copy.reads_to_end()) shard.slots[copy.slot].credit.store(0, kRelaxed);
  }
}

void PageCache::mark_spent(Shard& shard, const Found& found) {
  const auto becomes_spent = [&shard](const Copy& copy) {
    return copy.reads_to_end() && !shard.slots[copy.slot].spent.load(kRelaxed);
  };
  if (std::ranges::none_of(found.pages(), becomes_spent)) return;
  const MutexLock lock(shard.mutex);
  for (const Copy& copy : found.pages()) {
    if (!becomes_spent(copy) || !is_there(shard, copy)) continue;
    Slot& slot = shard.slots[copy.slot];
    slot.spent.store(true, kRelaxed);
    if (!std::exchange(slot.listed, true)) shard.spent.push_back(copy.slot);
  }
}

bool PageCache::contains(uint64_t file_id, uint64_t page) {
  if (!enabled()) return false;
  return find(shard_of(file_id, page), file_id, page, kMostSteps) != kNone;
}

// Who has seen the version this leaves sees that the slot is in no chain, or what link() made of it since; who has
// copied any of what is put into it next sees that version (racing_copy.h).
void PageCache::unlink(Shard& shard, uint32_t slot) {
  Slot& leaving = shard.slots[slot];
  std::atomic<uint32_t>* link =
      &bucket_of(shard, leaving.file_id.load(kRelaxed), leaving.page.load(kRelaxed));
  while (link->load(kRelaxed) != slot) link = &shard.slots[link->load(kRelaxed)].next;
  link->store(leaving.next.load(kRelaxed), kRelaxed);
  leaving.file_id.store(0, kRelaxed);
  leaving.version.store(leaving.version.load(kRelaxed) + 1, kRelease);
}

// Puts a slot that is in no chain, and holds the page's bytes, into its chain. Who sees the new file or the new page
// sees the version they came with, so that a mixture of two pages does not pass the last look.
void PageCache::link(Shard& shard, uint32_t slot, uint64_t file_id, uint64_t page) {
  Bucket& bucket = bucket_of(shard, file_id, page);
  Slot& coming = shard.slots[slot];
  coming.page.store(page, kRelease);
  coming.next.store(bucket.load(kRelaxed), kRelaxed);
  coming.file_id.store(file_id, kRelease);
  bucket.store(slot, kRelaxed);
}

uint32_t PageCache::take_spent(Shard& shard) {
  while (!shard.spent.empty()) {
    const uint32_t slot = shard.spent.back();
    shard.spent.pop_back();
    Slot& candidate = shard.slots[slot];
    candidate.listed = false;
    const bool goes = candidate.spent.load(kRelaxed) && candidate.credit.load(kRelaxed) == 0 &&
                      candidate.file_id.load(kRelaxed) != 0;
    candidate.spent.store(false, kRelaxed);
    if (goes) return slot;
  }
  return kNone;
}

uint32_t PageCache::take_fresh(Shard& shard) {
  if (shard.fresh == pages_per_shard_) return kNone;
  const uint32_t slot = shard.fresh++;
  if (slot % kChunkPages == 0) shard.chunks[slot / kChunkPages] = memory_.take();
  return slot;
}

uint32_t PageCache::take_slot(Shard& shard) {
  if (shard.free != kNone) {
    const uint32_t slot = shard.free;
    shard.free = shard.slots[slot].next.load(kRelaxed);
    return slot;
  }
  uint32_t slot = take_fresh(shard);
  if (slot != kNone) return slot;
  slot = take_spent(shard);
  // Round often enough for the credit of all to be gone.
  for (uint64_t left = uint64_t{pages_per_shard_} * (kMaxCredit + 1); slot == kNone; --left) {
    if (left == 0) return kNone;
    Slot& candidate = shard.slots[shard.hand];
    if (const uint8_t credit = candidate.credit.load(kRelaxed); credit != 0)
      candidate.credit.store(credit - 1, kRelaxed);
    else if (!candidate.filling)
      slot = shard.hand;
    shard.hand = shard.hand + 1 == pages_per_shard_ ? 0 : shard.hand + 1;
  }
  unlink(shard, slot);
  return slot;
}

void PageCache::insert(uint64_t file_id, uint64_t page, std::span<const std::byte> bytes,
                       const std::atomic<uint64_t>& generation, uint64_t expected) {
  if (!enabled()) return;
  memory_.back_ahead();
  while (bytes.size() >= kPageBytes) {
    const uint64_t group_end = (page / kGroupPages + 1) * kGroupPages;
    const uint64_t wanted = std::min<uint64_t>(group_end - page, bytes.size() / kPageBytes);
    Shard& shard = shard_of(file_id, page);
    std::array<Copy, kGroupPages> copies;
    size_t count = 0;
    {
      const MutexLock lock(shard.mutex);
      if (generation.load(kAcquire) != expected) return;
      for (; count < wanted; ++count) {
        const uint32_t slot = take_slot(shard);
        if (slot == kNone) {  // it stays out
          erase_page(shard, file_id, page + count);
          break;
        }
        shard.slots[slot].filling = true;
        copies[count] = {slot, 0, memory_of(shard, slot), 0, kPageBytes};
      }
    }
    for (size_t i = 0; i < count; ++i) {
      copy_to_shared<kRelease>(copies[i].memory, bytes.data() + i * kPageBytes, kPageBytes);
    }
    {
      const MutexLock lock(shard.mutex);
      // Under the shard's lock: an erase() that follows the change of generation sees these pages, or this
      // sees the new generation.
      const bool valid = generation.load(kAcquire) == expected;
      for (size_t i = 0; i < count; ++i) {
        const uint32_t slot = copies[i].slot;
        Slot& entering = shard.slots[slot];
        entering.filling = false;
        if (!valid) {
          release(shard, slot);
          continue;
        }
        const uint32_t old = find(shard, file_id, page + i);
        entering.credit.store(old == kNone ? 0 : shard.slots[old].credit.load(kRelaxed), kRelaxed);
        entering.spent.store(false, kRelaxed);
        link(shard, slot, file_id, page + i);
        if (old != kNone) drop(shard, old);
      }
      if (!valid) return;
    }
    const size_t advance = std::max<size_t>(count, 1);
    page += advance;
    bytes = bytes.subspan(advance * kPageBytes);
  }
}

void PageCache::release(Shard& shard, uint32_t slot) {
  shard.slots[slot].next.store(shard.free, kRelaxed);
  shard.slots[slot].credit.store(0, kRelaxed);
  shard.free = slot;
}

void PageCache::drop(Shard& shard, uint32_t slot) {
  unlink(shard, slot);
  release(shard, slot);
}

void PageCache::erase_page(Shard& shard, uint64_t file_id, uint64_t page) {
  const uint32_t slot = find(shard, file_id, page);
  if (slot != kNone) drop(shard, slot);
}

void PageCache::erase(uint64_t file_id, uint64_t first, uint64_t count) {
  if (!enabled() || count == 0) return;
  // More pages asked than there are: look at what is there instead.
  if (count > capacity_pages()) {
    for (uint64_t i = 0; i < shard_count_; ++i) {
      const MutexLock lock(shards_[i].mutex);
      for (const Slot& slot : shards_[i].slots) {
        const uint64_t page = slot.page.load(kRelaxed);
        if (slot.holds(file_id, page) && page >= first && page - first < count) {
          erase_page(shards_[i], file_id, page);
        }
      }
    }
    return;
  }
  for (uint64_t page = first; page < first + count;) {
    const uint64_t group_end = std::min(first + count, (page / kGroupPages + 1) * kGroupPages);
    Shard& shard = shard_of(file_id, page);
    const MutexLock lock(shard.mutex);
    for (; page < group_end; ++page) erase_page(shard, file_id, page);
  }
}

uint64_t PageCache::hits() const {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < shard_count_; ++i)
    sum += shards_[i].hits.load(std::memory_order_relaxed);
  return sum;
}

uint64_t PageCache::misses() const {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < shard_count_; ++i)
    sum += shards_[i].misses.load(std::memory_order_relaxed);
  return sum;
}

bool PageCache::check_invariants() {
  for (uint64_t i = 0; i < shard_count_; ++i) {
    Shard& shard = shards_[i];
    const MutexLock lock(shard.mutex);
    uint32_t used = 0, free = 0;
    for (uint32_t slot = 0; slot < pages_per_shard_; ++slot) {
      const Slot& s = shard.slots[slot];
      const uint64_t file_id = s.file_id.load(kRelaxed), page = s.page.load(kRelaxed);
      if (file_id == 0) {
        used += s.filling;
        continue;
      }
      ++used;
      if (&shard_of(file_id, page) != &shard || find(shard, file_id, page) != slot) return false;
    }
    for (uint32_t slot = shard.free; slot != kNone; slot = shard.slots[slot].next.load(kRelaxed))
      if (++free > shard.fresh) return false;  // a circle
    if (used + free != shard.fresh) return false;
  }
  return true;
}

}  // namespace basalt::blobfs
