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

// A chain is two or three slots long.
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
    shard.chunks.reserve(chunks);
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
PageCache::Found PageCache::look_up(Shard& shard, uint64_t file_id, uint64_t offset, size_t bytes,
                                    uint32_t most_steps) {
  Found found;
  const uint64_t first = offset / kPageBytes;
  const uint64_t group_end = (first / kGroupPages + 1) * kGroupPages;
  for (uint64_t page = first; page < group_end && found.bytes < bytes; ++page) {
    const uint32_t slot = find(shard, file_id, page, most_steps);
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
    copy_from_shared(out, copy.memory + copy.skip, copy.count);
    out += copy.count;
  }
}

size_t PageCache::read(uint64_t file_id, uint64_t offset, std::span<std::byte> out, Touch touch) {
  size_t done = 0;
  for (bool found_all = true; found_all && done < out.size();) {
    Shard& shard = shard_of(file_id, (offset + done) / kPageBytes);
    const std::span rest = out.subspan(done);
    const Found found = touch == Touch::reuse
                            ? read_group(shard, file_id, offset + done, rest)
                            : scan_group(shard, file_id, offset + done, rest, touch);
    if (!found.all) shard.misses.fetch_add(1, kRelaxed);
    done += found.bytes;
    found_all = found.all;
  }
  return done;
}

// A locked instruction waits for all stores before it, so the one that counts comes before the copy.
PageCache::Found PageCache::read_group(Shard& shard, uint64_t file_id, uint64_t offset,
                                       std::span<std::byte> out) {
  Found found = look_up(shard, file_id, offset, out.size(), kMostSteps);
  shard.hits.fetch_add(found.count, kRelaxed);
  copy_out(found, out.data());
  for (size_t i = 0; i < found.count; ++i) {
    Slot& slot = shard.slots[found.copies[i].slot];
    if (slot.version.load(kRelaxed) != found.copies[i].version) {
      shard.hits.fetch_sub(found.count - i, kRelaxed);
      found.cut(i);
      break;
    }
    // Two at once may give one credit, or give it to the slot's next page: it is a hint.
    const uint8_t credit = slot.credit.load(kRelaxed);
    if (credit < kMaxCredit) slot.credit.store(credit + 1, kRelaxed);
  }
  return found;
}

PageCache::Found PageCache::scan_group(Shard& shard, uint64_t file_id, uint64_t offset,
                                       std::span<std::byte> out, Touch touch) {
  Found found;
  {
    const MutexLock lock(shard.mutex);
    found = look_up(shard, file_id, offset, out.size(), kNone);
    for (const Copy& copy : found.pages()) ++shard.slots[copy.slot].pins;
  }
  shard.hits.fetch_add(found.count, kRelaxed);
  copy_out(found, out.data());
  const MutexLock lock(shard.mutex);
  for (const Copy& copy : found.pages()) {
    Slot& slot = shard.slots[copy.slot];
    --slot.pins;
    if (slot.file_id.load(kRelaxed) == 0) {  // dropped meanwhile
      if (slot.pins == 0) release(shard, copy.slot);
    } else if (touch == Touch::scan && copy.skip + copy.count == kPageBytes) {
      slot.spent = true;
      if (!std::exchange(slot.listed, true)) shard.spent.push_back(copy.slot);
    }
  }
  return found;
}

bool PageCache::contains(uint64_t file_id, uint64_t page) {
  if (!enabled()) return false;
  Shard& shard = shard_of(file_id, page);
  const MutexLock lock(shard.mutex);
  return find(shard, file_id, page) != kNone;
}

// Who has seen the version this leaves sees that the slot is free, or what link() made of it since; who has
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

// Puts a slot that is free, and holds the page's bytes, into its chain.
void PageCache::link(Shard& shard, uint32_t slot, uint64_t file_id, uint64_t page) {
  Bucket& bucket = bucket_of(shard, file_id, page);
  Slot& coming = shard.slots[slot];
  coming.page.store(page, kRelaxed);
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
    const bool goes = candidate.spent && candidate.credit.load(kRelaxed) == 0 &&
                      candidate.pins == 0 && candidate.file_id.load(kRelaxed) != 0;
    candidate.spent = false;
    if (goes) return slot;
  }
  return kNone;
}

uint32_t PageCache::take_fresh(Shard& shard) {
  if (shard.fresh == pages_per_shard_) return kNone;
  const uint32_t slot = shard.fresh++;
  if (slot % kChunkPages == 0) shard.chunks.push_back(memory_.take());
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
    else if (candidate.pins == 0)
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
        if (slot == kNone) break;
        shard.slots[slot].pins = 1;
        copies[count] = {slot, 0, memory_of(shard, slot), 0, kPageBytes};
      }
    }
    for (size_t i = 0; i < count; ++i) {
      copy_to_shared(copies[i].memory, bytes.data() + i * kPageBytes, kPageBytes);
    }
    {
      const MutexLock lock(shard.mutex);
      // Under the shard's lock: an erase() that follows the change of generation sees these pages, or this
      // sees the new generation.
      const bool valid = generation.load(kAcquire) == expected;
      for (size_t i = 0; i < count; ++i) {
        const uint32_t slot = copies[i].slot;
        Slot& entering = shard.slots[slot];
        entering.pins = 0;
        if (!valid) {
          release(shard, slot);
          continue;
        }
        uint8_t credit = 0;
        if (const uint32_t old = find(shard, file_id, page + i); old != kNone) {
          credit = shard.slots[old].credit.load(kRelaxed);
          drop(shard, old);
        }
        entering.credit.store(credit, kRelaxed);
        entering.spent = false;
        link(shard, slot, file_id, page + i);
      }
      if (!valid) return;
    }
    // Without a slot it stays out.
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

// Takes a page out of the index; whoever copies from it releases the slot.
void PageCache::drop(Shard& shard, uint32_t slot) {
  unlink(shard, slot);
  if (shard.slots[slot].pins == 0) release(shard, slot);
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
        used += s.pins != 0;
        continue;
      }
      ++used;
      if (&shard_of(file_id, page) != &shard || find(shard, file_id, page) != slot) return false;
    }
    for (uint32_t slot = shard.free; slot != kNone; slot = shard.slots[slot].next.load(kRelaxed))
      ++free;
    if (used + free != shard.fresh) return false;
  }
  return true;
}

}  // namespace basalt::blobfs
