// SharedTail: memory that outlives the process, for bytes and transactions not yet on the device.
//
// The live side of docs/format/tail.md: a file in shared memory, mapped, with a ring of transactions
// (the blob store's TransactionKeeper) and chunks that hold appended bytes. What is published here is
// found by the next mount on the same boot (tail_replay.h). Pages are reserved before they are used, so no
// store can fail: the first kFirstBytes at creation, more before chunks run out, by the executor. These are
// large pages where the kernel makes them: a device takes their bytes in larger and fewer requests. Who finds
// no chunk all the same reserves a few small pages. Nothing is ever read back from the mapping: bookkeeping
// is the process's own.
//
// Threads: any. `mutex_` guards the free chunks, `ring_mutex_` the ring; both are leaves, held for a few
// instructions (keep() also copies the transaction). `growth_mutex_`, taken before `mutex_`, is held while pages
// are reserved, some milliseconds. The bytes of a chunk belong to its holder.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include "base/sync.h"
#include "blob/blob_store.h"
#include "blobfs/tail_format.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace basalt::blobfs {

// What binds a tail to one opening of one store on one boot.
struct TailBinding {
  TailId store_uuid{};
  TailId open_id{};
  TailId predecessor{};  // the tail this opening replays; zero: none
  std::string boot_id;
};

// The header of a tail so bound and laid out, with its checksum.
TailHeader make_tail_header(const TailBinding& binding, const TailLayout& layout);

// "<directory>/basalt-<store uuid>-<open id>".
std::string tail_path(const std::string& directory, const TailBinding& binding);
// The store and the opening in a tail's file name; nothing when it is not one.
std::optional<TailBinding> parse_tail_name(std::string_view name);

class SharedTail final : public blob::BlobStore::TransactionKeeper {
 public:
  static constexpr uint64_t kFirstBytes = uint64_t{32} << 20;

  // `bytes`: of the file, when all of it is in use. Where shared memory ends before that, the tail stays as it is, which
  // `log` is told once. Without an executor nothing is reserved ahead. no_space, permission_denied, …, each naming the path and what to change.
  static Result<std::unique_ptr<SharedTail>> create(const std::string& directory,
                                                    const TailBinding& binding, uint64_t bytes,
                                                    LogSink* log = nullptr,
                                                    Executor* executor = nullptr);
  ~SharedTail() override;  // leaves the file

  using Slot = uint32_t;
  // A chunk for bytes of `file_id` from `offset` on, the one behind `after` in memory if that is free.
  // Nothing when all are taken.
  std::optional<Slot> acquire(uint64_t file_id, uint64_t offset, std::optional<Slot> after);
  std::byte* bytes(Slot slot) const {
    return map_ + layout_.chunks_offset + slot * kTailChunkBytes;
  }
  // Bytes of the file below `end` in this chunk survive the process from now on.
  void publish(Slot slot, uint64_t end);
  void release(Slot slot);
  uint64_t free_chunks() const { return free_.load(std::memory_order_relaxed); }
  uint64_t chunk_count() const { return layout_.chunk_count; }
  // Little is left for files that must go to the device anyway: three quarters are taken.
  bool is_crowded() const {
    return free_chunks() < chunk_limit_.load(std::memory_order_relaxed) / 4;
  }

  bool keep(blob::Ticket ticket, std::span<const std::byte> bytes) override;
  void durable(blob::Ticket ticket) override;

  const std::string& path() const { return path_; }
  // The predecessor was replayed and is gone.
  void forget_predecessor();
  // Takes the name away: nothing here is needed any more.
  void remove();
  // What is here is for the next mount: no chunk is given back from now on.
  void leave() { left_.store(true); }

 private:
  struct Kept {
    blob::Ticket ticket;
    uint64_t end;  // ring byte count behind it
  };
  SharedTail(std::string path, int fd, std::byte* map, const TailLayout& layout, LogSink* log,
             Executor* executor);
  // ---- `mutex_` is held
  // Chunks that have pages and nobody holds.
  uint64_t ready_chunks() const;
  // Whether the caller is to post `growth_`.
  bool wants_growth();
  Slot take_chunk(std::optional<Slot> after);

  // ---- `growth_mutex_` is held
  // Gives `count` more chunks their pages, large ones as far as may be; 0 or an errno.
  enum class Pages : uint8_t { small, large };
  int reserve_chunks(uint64_t count, Pages pages);

  // Reserves pages for a few more chunks, unless some have become ready; false: there are none.
  bool grow();
  void grow_ahead();
  TailChunkEntry& entry(Slot slot) const;
  void copy_to_ring(uint64_t at, std::span<const std::byte> bytes);
  void store_word(uint64_t offset, uint64_t value);

  const std::string path_;
  const int fd_;
  std::byte* const map_;
  const TailLayout layout_;
  LogSink* const log_;
  Executor* const executor_;
  BackgroundTask growth_;

  Mutex growth_mutex_;
  Mutex mutex_;
  std::vector<bool> taken_;
  Slot reserved_;         // chunks below have their pages; changes under both
  bool growing_ = false;  // the task is posted, or has failed
  Slot next_ = 0;         // where the search for a free chunk begins
  // Changed under `mutex_`; is_crowded() reads them without.
  std::atomic<uint64_t> free_;         // of chunk_limit_
  std::atomic<uint64_t> chunk_limit_;  // all; fewer once there was no memory for more

  std::atomic<bool> left_{false};

  Mutex ring_mutex_;
  std::deque<Kept> kept_;
  blob::Ticket
      refused_;  // found no room: until it is durable, what follows it would not be replayed
  uint64_t ring_head_ = 0, ring_tail_ = 0;  // bytes since creation
};

}  // namespace basalt::blobfs
