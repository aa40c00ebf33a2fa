#include "blobfs/log_writeback.h"

#include "base/try.h"
#include "blobfs/log_file.h"
#include "blobfs/write_out.h"

#include <algorithm>
#include <utility>

namespace basalt::blobfs {

LogWriteback::LogWriteback(Core& core) : core_(core) {
  task_.run = [this] { run(); };
}

LogWriteback::~LogWriteback() { core_.context.executor().cancel(task_); }

void LogWriteback::add(const InodeRef& log) {
  auto reference = std::make_shared<const InodeRef>(log);  // released after the lock
  const MutexLock lock(mutex_);
  const auto is_log = [&](const Log& known) { return known->get() == log.get(); };
  if (std::none_of(logs_.begin(), logs_.end(), is_log)) logs_.push_back(std::move(reference));
}

void LogWriteback::forget(OpenInode& log) {
  Log reference;  // released after the locks
  const MutexLock inode_lock(log.mutex);
  if (log.writers > 0 || (log.close_deferred && !log.unlinked)) return;
  end_deferral(log);
  const MutexLock lock(mutex_);
  const auto found = std::find_if(logs_.begin(), logs_.end(),
                                  [&](const Log& known) { return known->get() == &log; });
  if (found == logs_.end()) return;
  reference = std::move(*found);
  logs_.erase(found);
}

void LogWriteback::make_room() {
  if (deferred_.load(std::memory_order_relaxed) == 0 || hurried_.exchange(true)) return;
  armed_.store(true);
  core_.context.executor().post(task_);
}

void LogWriteback::start() {
  if (!armed_.exchange(true)) core_.context.executor().post(task_, kTick);
}

bool LogWriteback::may_defer(const OpenInode& log) const {
  return keeps_unsynced(core_, log) && log.error.ok() && !log.unlinked &&
         log.size.load(std::memory_order_relaxed) > log.written;
}

Status LogWriteback::defer_close(OpenInode& log) {
  BASALT_TRY(trim_log(core_, log));
  log.close_deferred = true;
  deferred_.fetch_add(1, std::memory_order_relaxed);
  arm();
  return {};
}

void LogWriteback::end_deferral(OpenInode& log) {
  if (std::exchange(log.close_deferred, false)) deferred_.fetch_sub(1, std::memory_order_relaxed);
}

Status LogWriteback::close_deferred(OpenInode& log, MutexLock& lock) {
  if (!log.close_deferred) return {};
  BASALT_TRY(close_file(core_, log, lock));
  end_deferral(log);
  return {};
}

std::vector<LogWriteback::Log> LogWriteback::all() {
  const MutexLock lock(mutex_);
  return logs_;
}

bool LogWriteback::tend(OpenInode& log, bool hurried) {
  MutexLock lock(log.mutex);
  if (log.unlinked || !log.error.ok()) return false;
  if (log.writing) return true;
  const uint64_t size = log.size.load(std::memory_order_relaxed);
  const uint64_t old = std::min(std::exchange(log.aged, size), size);  // it may have been truncated
  log.writing = true;
  Status status;
  if (log.close_deferred && (hurried || old >= size)) {
    status = close_deferred(log, lock);
  } else if (old > log.written) {
    status = write_out(core_, log, lock, old, WriteMode::full_blocks);
  }
  log.drop_role();
  if (!status.ok()) {
    core_.context.log().log(LogLevel::error, "blobfs",
                            "write back log " + std::to_string(log.id) + ": " + status.to_string());
    return false;
  }
  return log.close_deferred || log.has_whole_block();
}

void LogWriteback::run() {
  const bool hurried = hurried_.exchange(false);
  armed_.store(false);
  bool again = false;
  for (const Log& log : all()) {
    again |= tend(**log, hurried);
    forget(**log);
  }
  if (again) start();
}

Status LogWriteback::finish() {
  core_.context.executor().cancel(task_);
  Status first;
  for (const Log& reference : all()) {
    OpenInode& log = **reference;
    {
      MutexLock lock(log.mutex);
      log.take_role(lock);
      const Status status = close_deferred(log, lock);
      log.drop_role();
      if (first.ok()) first = status;
    }
    forget(log);
  }
  return first;
}

}  // namespace basalt::blobfs
