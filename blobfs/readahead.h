// Readahead: notices that a file is read from front to back and says how far to read ahead.
//
// RocksDB reads compaction inputs in pieces of about 4 KiB; what turns these into large reads is here. A
// few streams are followed per file, so that several scans of one file do not hide each other. A stream is
// believed after three reads that follow each other (at once where sequential access was announced); its
// window starts at 256 KiB and doubles to 2 MiB.
//
// Threads: any. The slots are guarded by a lock that is only tried: a contended note is left out.
#pragma once

#include <basalt/file_system.h>

#include "base/sync.h"
#include "blobfs/page_cache.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace basalt::blobfs {

class Readahead {
 public:
  static constexpr uint64_t kMinWindow = 256 * 1024;
  static constexpr uint64_t kMaxWindow = 2 * 1024 * 1024;

  void advise(File::Access access) { access_.store(access, std::memory_order_relaxed); }

  struct Advice {
    PageCache::Touch touch = PageCache::Touch::reuse;
    uint64_t begin = 0;  // read [begin, end) into the cache now; empty: nothing
    uint64_t end = 0;
  };
  // Notes a read of [offset, end).
  Advice note(uint64_t offset, uint64_t end);
  // Says that advice was followed up to `end` only; the rest is advised again.
  void reached(const Advice& advice, uint64_t end);
  // Notes that [offset, end) is wanted soon; returns how far to read. A caller who asks for the next
  // piece only when he has used up the last would wait for every one: the second of two neighbours
  // makes it a scan, and what follows is read as well.
  uint64_t note_prefetch(uint64_t offset, uint64_t end);

 private:
  struct Stream {
    uint64_t next = 0;   // where the following read is expected
    uint64_t ahead = 0;  // read ahead so far
    uint64_t window = 0;
    uint32_t count = 0;  // reads that followed each other
    uint64_t used = 0;   // for replacement
  };
  std::atomic<File::Access> access_{File::Access::normal};
  Mutex mutex_;
  // The stream that a request at `offset` goes on with; none: the one to forget, emptied.
  struct Found {
    Stream* stream;
    bool goes_on;
  };
  static Found find(std::span<Stream> streams, uint64_t offset);

  // The range prefetched last, roughly (the two change one after the other): reads there are part of a scan.
  std::atomic<uint64_t> prefetched_from_{0}, prefetched_to_{0};
  std::array<Stream, 4> streams_{};
  std::array<Stream, 4> prefetches_{};
  uint64_t clock_ = 0;
};

}  // namespace basalt::blobfs
