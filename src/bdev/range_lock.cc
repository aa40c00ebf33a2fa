#include "bdev/range_lock.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"

namespace basalt {
namespace {

bool overlap(const RangeLock& a, const RangeLock& b) {
  return a.first < b.first + b.count && b.first < a.first + a.count;
}

bool conflict(const RangeLock& a, const RangeLock& b) {
  const bool exclusive =
      a.kind == RangeLock::Kind::exclusive || b.kind == RangeLock::Kind::exclusive;
  return exclusive && overlap(a, b);
}

}  // namespace

RangeUser::~RangeUser() {
  const int fd = wake_fd_.load(std::memory_order_relaxed);
  if (fd >= 0) close(fd);
}

int RangeUser::wake_fd() noexcept {
  int fd = wake_fd_.load(std::memory_order_relaxed);
  if (fd < 0) {
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    wake_fd_.store(fd, std::memory_order_release);
  }
  return fd;
}

void RangeUser::clear_wake() noexcept {
  if (!woken_.load(std::memory_order_relaxed) || !woken_.exchange(false)) return;
  uint64_t count = 0;
  if (read(wake_fd_.load(std::memory_order_relaxed), &count, sizeof count) < 0)
    return;  // was clear
}

void RangeUser::wake() noexcept {
  const uint64_t one = 1;
  const int fd = wake_fd_.load(std::memory_order_acquire);
  if (fd < 0) return;
  if (write(fd, &one, sizeof one) == sizeof one) woken_.store(true);
}

RangeLocks::~RangeLocks() {
  BASALT_CHECK(users_.empty(), "channels must be closed before their device");
}

void RangeLocks::add_user(RangeUser& user) {
  MutexLock lock(mutex_);
  users_.push_back(&user);
}

void RangeLocks::remove_user(RangeUser& user) {
  MutexLock lock(mutex_);
  std::erase(users_, &user);
}

void RangeLocks::enqueue(RangeLock& range) noexcept {
  MutexLock lock(mutex_);
  BASALT_CHECK(!range.queued, "a range lock is taken twice");
  range.queued = true;
  range.next = nullptr;
  (head_ == nullptr ? head_ : tail_->next) = &range;
  tail_ = &range;
  if (range.kind == RangeLock::Kind::exclusive) {
    exclusive_.fetch_add(1, std::memory_order_seq_cst);
  }
}

bool RangeLocks::granted(const RangeLock& range) noexcept {
  MutexLock lock(mutex_);
  for (const RangeLock* earlier = head_; earlier != &range; earlier = earlier->next) {
    if (conflict(*earlier, range)) return false;
  }
  if (range.kind == RangeLock::Kind::write) return true;
  // Writes that came before exclusive_ was raised are counted here; later ones are in the table.
  return std::all_of(users_.begin(), users_.end(), [](const RangeUser* user) {
    return user->writes_.load(std::memory_order_seq_cst) == 0;
  });
}

void RangeLocks::release(RangeLock& range) noexcept {
  {
    MutexLock lock(mutex_);
    RangeLock* before = nullptr;
    RangeLock* at = head_;
    for (; at != &range; at = at->next) before = at;
    (before == nullptr ? head_ : before->next) = range.next;
    if (tail_ == &range) tail_ = before;
    range.queued = false;
    if (range.kind == RangeLock::Kind::exclusive) {
      exclusive_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }
  wake_waiters(*range.user);
}

void RangeLocks::wake_waiters(const RangeUser& except) noexcept {
  MutexLock lock(mutex_);
  for (const RangeLock* range = head_; range != nullptr; range = range->next) {
    if (range->user != &except) range->user->wake();
  }
}

}  // namespace basalt
