// Range locks: what makes an emulated compare_and_write atomic against the other writes of a
// device.
//
// A compare_and_write that the core builds from a read and a write locks its blocks exclusively. As
// long as a device sees none, its writes cost one store and one load each, both in cache lines that
// nobody else writes: a channel counts the writes it has handed to the backend, and looks whether
// anybody holds or wants an exclusive lock. If so, the write takes a (shared) lock in the table as
// well. An exclusive lock is granted when no earlier lock overlaps it and every channel's writes
// from before it came have completed, so the threads that own those writes must go on polling.
// Locks are granted in the order they came; releasing one tells the channels that wait.
// Pairing: RangeUser::writes_ and RangeLocks::exclusive_ form a store/load pair each way
// (sequentially consistent): either the writer sees the exclusive lock, or the locker sees the
// write. Thread rules: RangeLocks any thread; a RangeUser belongs to one channel's thread.
#pragma once

#include <basalt/units.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/sync.h"

namespace basalt {

// One per channel.
class RangeUser {
 public:
  RangeUser() = default;
  ~RangeUser();
  RangeUser(const RangeUser&) = delete;
  RangeUser& operator=(const RangeUser&) = delete;

  // A descriptor that becomes readable when a lock this channel waits for may be free; -1 when the
  // system gave none. Made by the first call.
  int wake_fd() noexcept;
  // Cheap when there was no wake.
  void clear_wake() noexcept;

 private:
  friend class RangeLocks;
  void wake() noexcept;

  std::atomic<uint32_t> writes_{0};  // with the backend, without a lock in the table
  std::atomic<int> wake_fd_{-1};
  // Set after the descriptor was written: a wake may be cleared late, but is never lost.
  std::atomic<bool> woken_{false};
};

// Lives in the job that holds or wants it.
struct RangeLock {
  enum class Kind : uint8_t { write, exclusive };
  Kind kind = Kind::write;
  bool queued = false;  // in the table, granted or not
  Lba first;
  BlockCount count;
  RangeUser* user = nullptr;
  RangeLock* next = nullptr;
};

class RangeLocks {
 public:
  ~RangeLocks();
  void add_user(RangeUser& user);
  void remove_user(RangeUser& user);

  // False: somebody wants exclusiveness, so the write needs a lock of its own (nothing was
  // entered).
  bool enter_write(RangeUser& user) noexcept {
    const uint32_t writes = user.writes_.load(std::memory_order_relaxed);
    user.writes_.store(writes + 1, std::memory_order_seq_cst);
    if (exclusive_.load(std::memory_order_seq_cst) == 0) [[likely]]
      return true;
    leave_write(user);
    return false;
  }
  void leave_write(RangeUser& user) noexcept {
    const uint32_t writes = user.writes_.load(std::memory_order_relaxed);
    user.writes_.store(writes - 1, std::memory_order_seq_cst);
    if (exclusive_.load(std::memory_order_seq_cst) != 0) [[unlikely]]
      wake_waiters(user);
  }

  // Puts the lock in line.
  void enqueue(RangeLock& lock) noexcept;
  // True once it is granted; ask again after the user's wake, or now and then.
  bool granted(const RangeLock& lock) noexcept;
  // Takes it out, granted or not.
  void release(RangeLock& lock) noexcept;

 private:
  void wake_waiters(const RangeUser& except) noexcept;

  std::atomic<uint32_t> exclusive_{0};  // exclusive locks in the table
  Mutex mutex_;                         // protects what follows
  RangeLock* head_ = nullptr;           // in order of arrival
  RangeLock* tail_ = nullptr;
  std::vector<RangeUser*> users_;
};

}  // namespace basalt
