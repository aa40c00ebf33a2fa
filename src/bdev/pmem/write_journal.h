// WriteJournal: makes writes to persistent memory all or nothing.
//
// The hardware stores eight bytes at a time whole; a block torn by a power failure is half old,
// half new. So each write of up to 64 KiB goes to a lane of the journal first, becomes durable
// there, is then copied to its place, and leaves the lane. After a crash recover() repeats what is
// complete in a lane: if the lane is not complete, the place was not touched yet. A lane is empty
// again before its write is reported done, so that a lane never holds something older than what its
// place holds. Thread rules: write() from any thread, one at a time per lane (locked here); the
// rest alone.
#pragma once

#include <basalt/status.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/sync.h"
#include "bdev/io_cursor.h"
#include "bdev/pmem/format.h"

namespace basalt {

// Stores to the mapping. What was stored before a drain() is durable after it; what was not may be
// there in any 8-byte pieces after a crash.
class PmemStores {
 public:
  virtual ~PmemStores() = default;
  virtual void copy(std::byte* to, const std::byte* from, size_t bytes) noexcept = 0;
  virtual void drain() noexcept = 0;
};

class WriteJournal {
 public:
  static constexpr size_t kAtomicBytes = pmem_format::kLanePayloadBytes;

  // `file` is the whole mapping; its last kJournalBytes are the journal's.
  WriteJournal(std::span<std::byte> file, PmemStores& stores);

  // The part of a file of this size that is the device's; 0 when it is too small.
  static uint64_t device_bytes(uint64_t file_bytes);

  // Writes an empty journal.
  void format();
  // corruption when there is no journal this code knows; `name` is for messages.
  Status check(const std::string& name) const;
  // How many writes a crash has interrupted.
  unsigned pending() const;
  // Completes them; answers how many.
  unsigned recover();

  // Writes the next `bytes` bytes of the vectors to `offset_bytes`, in pieces of up to
  // kAtomicBytes, each all or nothing and durable on return. `lane` spreads callers over the lanes.
  void write(unsigned lane, uint64_t offset_bytes, std::span<const iovec> vectors, size_t bytes);

 private:
  struct Lane {
    Mutex mutex;  // protects the lane's memory and sequence
    uint64_t sequence = 0;
  };

  std::byte* lane_base(unsigned lane) const;
  bool read_lane(unsigned lane, pmem_format::LaneHeader& header) const;
  void write_piece(unsigned lane, uint64_t offset_bytes, std::span<const iovec> vectors,
                   IoCursor from, size_t bytes);
  void empty(unsigned lane);

  const std::span<std::byte> device_;
  std::byte* const journal_;
  PmemStores& stores_;
  std::array<Lane, pmem_format::kLaneCount> lanes_;
};

}  // namespace basalt
