// LogWriteback: what becomes of log bytes that nobody syncs.
//
// A log whose bytes survive the process in the shared-memory tail, and that nobody has synced so far, is not written
// behind its writer: mostly it is deleted before anybody needs it on the device. This room bounds how long that may go
// on. Every kTick it writes the whole blocks that were there at the last tick, so that bytes reach the device after
// one to two ticks; when the tail is crowded, write-behind (write_out.h) writes such logs as all others.
//
// It also closes them. The last close of a log with such bytes is deferred: the log stays in memory, and is closed when
// its bytes are a tick old, when it is opened for writing again, or when the file system is unmounted; a log that has
// lost its last name meanwhile is let go unwritten.
//
// Threads: any; a function that takes an OpenInode wants its caller to hold a reference. `mutex_` is a leaf.
#pragma once

#include "blobfs/open_inode.h"

#include <atomic>
#include <memory>
#include <vector>

namespace basalt::blobfs {

class LogWriteback {
 public:
  static constexpr Duration kTick = std::chrono::seconds(5);

  // The file system keeps unsynced bytes in a tail, and is written.
  explicit LogWriteback(Core& core);
  ~LogWriteback();  // lets go of every log as it is

  // A log has become open for writing.
  void add(const InodeRef& log);
  // Unless the log is still open for writing, or to be closed: it was closed, or has lost its last name.
  void forget(OpenInode& log);

  // A log has bytes that are not on the device.
  void arm() {
    if (!armed_.load(std::memory_order_relaxed)) start();
  }
  // The tail is crowded: logs whose close was deferred are closed soon.
  void make_room();

  // ---- The inode's mutex and its writing role are held
  // Whether the log's last close is to be deferred: it has bytes nobody wants on the device yet.
  bool may_defer(const OpenInode& log) const;
  // Gives back the space beyond the end; the rest of the close comes later.
  Status defer_close(OpenInode& log);
  // Closes it, if that was deferred; `lock` holds the mutex.
  Status close_deferred(OpenInode& log, MutexLock& lock);

  // Closes all that were deferred, before an unmount; the first error. What could not be written is still in the tail.
  Status finish();

 private:
  // Shared, so that the list can be copied without the inode table's mutex.
  using Log = std::shared_ptr<const InodeRef>;

  void start();
  void run();
  // One log's turn; whether it is to have another.
  bool tend(OpenInode& log, bool hurried);
  void end_deferral(OpenInode& log);
  std::vector<Log> all();

  Core& core_;
  BackgroundTask task_;
  std::atomic<bool> armed_{false};    // the task is to run
  std::atomic<bool> hurried_{false};  // and is to close all that are deferred
  std::atomic<size_t> deferred_{0};   // how many
  Mutex mutex_;                       // guards what follows
  std::vector<Log> logs_;             // open for writing, or their close was deferred
};

}  // namespace basalt::blobfs
