// PageCache: 4 KiB pages of table files in memory, bounded, shared by all files of a mount.
//
// The memory is divided into shards; a file's pages go to shards in groups of 16 KiB, so that a read
// mostly meets one shard, and each shard has its own lock. A read needs no lock: it finds the page, copies
// it and then looks whether the slot's version is what it was before (a sequence lock, whose read side
// writes nothing). Only a scan or a compaction that is the first to read a page to its end takes the shard's lock, to mark it
// spent. Filling takes the lock before and after the copy, which goes to a slot that is in no chain
// meanwhile: such a thread may be taken off its core at any time, and others must not wait until it has it back.
// Replacement is a generalised clock: a page comes in with no credit, a hit gives it credit (up to 3), the
// hand takes credit away and evicts what has none. A scan passes through without pushing out what is read
// again: a page without credit whose last byte a scan has read is spent, and spent pages are replaced
// before the hand moves. What compaction has read loses its credit and is spent too: it will be deleted, and of the
// outputs, which nobody reads yet, nothing would be left otherwise. Who still reads it gives it credit again.
// Shards take their memory in chunks as they fill (cache_memory.h). What finds a page, its bucket and its slot, lies in
// large pages too: a hit meets both at random.
//
// Consistency. Whoever changes bytes on the device that may be cached raises the file's generation and
// calls erase() before and after the change; what makes the file shorter, or its tail begin earlier, is
// published before that. A reader notes the generation before he looks at the file's size and where its
// tail begins, then reads the device, and insert() refuses the page if the generation has changed. File ids are never reused, so a page left behind by a
// deleted file is only garbage.
// Threads: any.
#pragma once

#include <basalt/status.h>

#include "base/sync.h"
#include "blobfs/cache_memory.h"
#include "blobfs/large_pages.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace basalt::blobfs {

class PageCache {
 public:
  static constexpr uint64_t kPageBytes = CacheMemory::kPageBytes;

  PageCache() = default;  // disabled
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;

  // Sets the size, once, before use; 0: stays disabled. invalid_argument when the machine has not so much
  // memory, no_space when the process may not have it.
  Status reserve(uint64_t bytes);
  bool enabled() const { return shard_count_ != 0; }
  uint64_t capacity_pages() const { return shard_count_ * uint64_t{pages_per_shard_}; }

  enum class Touch : uint8_t {
    reuse,  // a read that may come again
    scan,   // part of a scan: no credit
    last,   // by compaction, after which the file goes: the credit goes too
  };
  // Copies cached bytes from `offset` on, as far as pages are there without a gap; returns the count. What
  // lies behind it in `out` may have been written to. A page may be missed while its
  // bucket changes.
  size_t read(uint64_t file_id, uint64_t offset, std::span<std::byte> out, Touch touch);
  // May miss it while its bucket changes.
  bool contains(uint64_t file_id, uint64_t page);
  // Puts whole pages, from `page` on, unless `generation` is no longer `expected`. Pages already there
  // are overwritten.
  void insert(uint64_t file_id, uint64_t page, std::span<const std::byte> bytes,
              const std::atomic<uint64_t>& generation, uint64_t expected);
  // Drops pages [first, first + count).
  void erase(uint64_t file_id, uint64_t first, uint64_t count);

  // Pages copied, and reads that ended before a page that is not here. A page that leaves while it is
  // copied counts as both.
  uint64_t hits() const;
  uint64_t misses() const;
  // Every page is findable, in its shard, once; for tests.
  bool check_invariants();

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  // Written under the shard's lock; the atomic ones are read, and credit is given, without. They begin as zeros, by
  // no constructor. Two lie in a line of the processor's caches.
  struct Slot {
    std::atomic<uint64_t> file_id{0};  // 0: free
    std::atomic<uint64_t> page{0};
    std::atomic<uint32_t> next{0};     // in the bucket's chain, or in the free list
    std::atomic<uint32_t> version{0};  // counts the pages that have left it
    std::atomic<uint8_t> credit{0};
    std::atomic<bool> spent{false};  // a scan has read it to its end
    bool listed = false;             // in the shard's list of spent pages
    bool filling = false;            // a page is being copied to it: neither in a chain nor free

    bool holds(uint64_t file, uint64_t number) const {
      return file_id.load(std::memory_order_acquire) == file &&
             page.load(std::memory_order_acquire) == number;
    }
  };
  static_assert(sizeof(Slot) == 32);
  using Bucket = std::atomic<uint32_t>;
  static constexpr uint8_t kMaxCredit = 3;
  static constexpr uint32_t kNoBound = ~uint32_t{0};
  static constexpr uint64_t kGroupPages = 4;
  // A page's part in a copy.
  struct Copy {
    uint32_t slot;
    uint32_t version;
    std::byte* memory;
    uint64_t skip;
    size_t count;

    bool reads_to_end() const { return skip + count == kPageBytes; }
  };
  // Pages of one group, without a gap.
  struct Found {
    std::array<Copy, kGroupPages> copies;
    size_t count = 0;
    size_t bytes = 0;
    bool all = true;  // what was asked of the group

    std::span<const Copy> pages() const { return {copies.data(), count}; }
    // The first `pages` are left.
    void cut(size_t pages) {
      while (count > pages) bytes -= copies[--count].count;
      all = false;
    }
  };
  struct alignas(64) Shard {
    // Set once; a chunk before a slot of it is linked.
    std::span<Slot> slots;
    std::span<Bucket> buckets;
    std::unique_ptr<std::byte*[]> chunks;  // where the memory of slots is; of those used so far
    alignas(64) Mutex mutex;
    uint32_t free = kNone;  // slots used before
    uint32_t fresh = 0;     // slots from here on were never used
    uint32_t hand = 0;
    std::vector<uint32_t> spent;  // slots; one that was hit since, or has gone, does not count
    alignas(64) std::atomic<uint64_t> hits{0};
    std::atomic<uint64_t> misses{0};
  };

  Status reserve_pages(uint64_t pages);
  static uint64_t hash(uint64_t file_id, uint64_t page);
  Shard& shard_of(uint64_t file_id, uint64_t page);
  Bucket& bucket_of(Shard& shard, uint64_t file_id, uint64_t page);
  // Without the lock, when slots go to other chains meanwhile, it may miss a page; `most_steps` bounds
  // how far it strays.
  uint32_t find(Shard& shard, uint64_t file_id, uint64_t page, uint32_t most_steps = kNoBound);
  void unlink(Shard& shard, uint32_t slot);
  void link(Shard& shard, uint32_t slot, uint64_t file_id, uint64_t page);
  static std::byte* memory_of(const Shard& shard, uint32_t slot);
  static void release(Shard& shard, uint32_t slot);
  void drop(Shard& shard, uint32_t slot);
  // As far as the group of `offset` goes. What it finds may leave at any time.
  Found look_up(Shard& shard, uint64_t file_id, uint64_t offset, size_t bytes);
  static void copy_out(const Found& found, std::byte* out);
  // Whether the page has stayed since it was found.
  static bool is_there(const Shard& shard, const Copy& copy);
  static void give_credit(Shard& shard, const Found& found);
  // From pages read to their end.
  static void take_credit(Shard& shard, const Found& found);
  static void mark_spent(Shard& shard, const Found& found);
  // kNone: all are being filled, or get credit as fast as it is taken.
  uint32_t take_slot(Shard& shard);
  // The newest spent page's slot; kNone: there is none.
  static uint32_t take_spent(Shard& shard);
  uint32_t take_fresh(Shard& shard);
  void erase_page(Shard& shard, uint64_t file_id, uint64_t page);

  uint64_t shard_count_ = 0;
  uint32_t pages_per_shard_ = 0;
  std::unique_ptr<Shard[]> shards_;
  LargePages index_;  // the shards' buckets, then their slots
  CacheMemory memory_;
};

}  // namespace basalt::blobfs
