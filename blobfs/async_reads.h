// AsyncReads: reads that are started now and finished by whoever waits for them.
//
// start() serves what is in memory at once and puts the rest on a channel of its own; the result is handed
// over only inside wait() or cancel(), in the calling thread. Any thread may wait for any read: channels
// are shared, and a channel is used by one thread at a time, who completes what he finds for everybody
// and wakes those who wait. Reads hold their inode, so that its blob stays, and its I/O gate, so that freed
// space is not reused under them.
// What is not a plain read of a table on the device (logs, reads beside a truncation) is done in start().
// Threads: any. `mutex_` guards the channels' roles and every Pending's completion.
#pragma once

#include "base/sync.h"
#include "blobfs/open_inode.h"

#include <array>
#include <memory>
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
  // Waits until no read of this inode is in flight. Its results stay for their owners.
  void drain(OpenInode& inode);
  ChannelStats stats();

 private:
  struct Lane;
  struct Pending;
  static void on_done(Io& io);
  bool submit(Pending& pending, blob::Blob& blob, uint64_t offset, size_t length);
  Lane* lane_for_submit(MutexLock& lock);
  // One round of completing: as the user of `lane`, or by waiting for him.
  void progress(MutexLock& lock, Lane& lane);
  void hand_over(AsyncRead& read);
  Pending* take_pending();
  void give_back(Pending* pending);

  static constexpr unsigned kMaxLanes = 16;
  Core& core_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::unique_ptr<Pending>> free_;
};

}  // namespace basalt::blobfs
