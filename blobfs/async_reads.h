// AsyncReads: reads that are started now and finished by whoever waits for them.
//
// start() serves what is in memory at once and puts the rest on a channel of its own; the result is handed
// over only inside wait() or cancel(), in the calling thread. Any thread may wait for any read: channels
// are shared, and a channel is used by one thread at a time, who completes what he finds for everybody
// and wakes those who wait. Reads hold their inode, so that its blob stays, and its I/O gate, so that freed
// space is not reused under them.
// What is not a plain read of a table on the device (logs, reads beside a truncation) is done in start().
//
// Fills are reads nobody asked for yet: readahead and prefetch. They go into the page cache by whoever
// finds them complete; a read that misses a page looks here before it goes to the device. A fill belongs
// to an open handle, which waits for its fills before it lets the inode go. There is a bound on fills
// under way; beyond it, and beside a truncation, there is no reading ahead.
// Threads: any. `mutex_` guards the channels' roles, the list of fills and every Pending's completion.
#pragma once

#include "base/sync.h"
#include "blobfs/open_inode.h"

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace basalt::blobfs {

class AsyncReads {
 public:
  explicit AsyncReads(Core& core);
  ~AsyncReads();

  void start(const InodeRef& inode, AsyncRead& read);
  Status wait(std::span<AsyncRead* const> reads, size_t min_done);
  void cancel(AsyncRead& read);
  // Starts reading [offset, end) into the page cache for the handle that `owner` stands for. What is
  // cached or under way already is left out.
  // Returns how far that went: `end`, or where the bound or a truncation stopped it.
  uint64_t start_fill(OpenInode& inode, const void* owner, uint64_t offset, uint64_t end);
  // Waits for a fill under way that covers the byte at `offset`; false when there is none.
  bool wait_for_fill(OpenInode& inode, uint64_t offset);
  // Waits for every fill of `owner`, who starts no more.
  void finish_fills(const void* owner);
  // Waits until no read of this inode is in flight. Its results stay for their owners.
  void drain(OpenInode& inode);
  ChannelStats stats();

 private:
  struct Lane;
  struct Pending;
  class InFlight;
  struct GiveBack {
    AsyncReads* reads;
    void operator()(Pending* pending) const;
  };
  using PendingPtr = std::unique_ptr<Pending, GiveBack>;
  static void on_done(Io& io);
  enum class Submitted : uint8_t { sent, nothing_to_send, refused };
  // Reads [begin, begin + length) of the blob into the Pending's buffer.
  Submitted submit(Pending& pending, blob::Blob& blob);
  void make_parts(Pending& pending, blob::Blob& blob);
  void add_part(Pending& pending, uint64_t device_byte, std::span<std::byte> memory);
  Submitted send(Pending& pending);
  // What start() does after the read is known: sets its length, and what of it is still to come.
  void start_rest(Pending& pending, AsyncRead& read);
  // Whether the blob's checksums, where it has them, fit what was read.
  bool verify(const Pending& pending);
  void keep_pages(const Pending& pending);
  bool may_fill();
  bool start_one_fill(OpenInode& inode, const void* owner, uint64_t page, uint64_t count);
  // The first page in [page, last) that neither the cache nor a fill has; and the end of the gap there.
  uint64_t skip_present(OpenInode& inode, uint64_t page, uint64_t last);
  uint64_t end_of_gap(OpenInode& inode, uint64_t page, uint64_t last);
  // The fill under way that covers the page, or none. The mutex is held.
  Pending* find_fill(const OpenInode& inode, uint64_t page);
  Lane* lane_for_submit(MutexLock& lock);
  // One round of completing: as the user of `lane`, or by waiting for him.
  void progress(MutexLock& lock, Lane& lane);
  void hand_over(AsyncRead& read);
  PendingPtr take_pending();
  void give_back(Pending* pending);

  static constexpr unsigned kMaxLanes = 16;
  static constexpr size_t kMaxFills = 16;
  Core& core_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Pending>> free_;
  size_t made_ = 0;
  std::vector<Pending*> fills_;  // under way
};

}  // namespace basalt::blobfs
