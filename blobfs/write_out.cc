#include "blobfs/write_out.h"

#include "base/try.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/log_writeback.h"
#include "blobfs/table_file.h"

#include <algorithm>
#include <array>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMaxPending =
    8 * 1024 * 1024;  // pending bytes from which the appender may have to write

uint64_t block_payload(const OpenInode& inode) {
  return inode.kind == InodeKind::log ? inode.shape.payload() : kBlock;
}

// What one write to the device holds: pending bytes that start the background task.
uint64_t write_unit(const OpenInode& inode) {
  return inode.kind == InodeKind::log ? log_write_bytes(inode) : kTableWriteBytes;
}

// Makes room for at least one byte behind the tail.
Status add_piece(Core& core, OpenInode& inode, MutexLock& lock) {
  const auto try_shared = [&] {
    return inode.tail.add_piece(inode.size.load(std::memory_order_relaxed),
                                AppendTail::Memory::shared);
  };
  if (core.tail != nullptr) {
    if (try_shared()) return {};
    // All chunks are taken: give ours back by writing, and if others hold them, do without.
    if (core.logs != nullptr) core.logs->make_room();
    inode.take_role(lock);
    const uint64_t target =
        std::min(inode.size.load(std::memory_order_relaxed), inode.written + kMaxPending);
    const Status status = write_out(core, inode, lock, target, WriteMode::full_blocks);
    inode.drop_role();
    BASALT_TRY(status);
    if (try_shared()) return {};
  }
  inode.tail.add_piece(inode.size.load(std::memory_order_relaxed), AppendTail::Memory::any);
  return {};
}

// Up to where the background task is to write now.
uint64_t write_behind_target(const Core& core, const OpenInode& inode) {
  const uint64_t size = inode.size.load(std::memory_order_relaxed);
  const uint64_t pending = size - inode.written;
  const uint64_t unit = write_unit(inode);
  // Whole writes: each costs a wake-up here and there, and the rest soon belongs to the next.
  uint64_t due = round_down(pending, unit);
  if (keeps_unsynced(core, inode)) {
    due = core.tail->is_crowded() ? std::min(due, round_up(pending / 8, unit)) : 0;
  }
  return std::max(inode.written + due, std::min(inode.write_behind_to, size));
}

void run_write_behind(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  inode.write_behind_posted = false;
  if (inode.writing || !inode.error.ok()) return;
  inode.writing = true;
  // An error is kept in the inode and met by whoever syncs or appends next.
  const Status status =
      write_out(core, inode, lock, write_behind_target(core, inode), WriteMode::full_blocks);
  inode.drop_role();
  if (!status.ok()) core.context.log().log(LogLevel::warning, "blobfs", status.to_string());
}

void post_write_behind(Core& core, OpenInode& inode) {
  if (inode.writing || inode.write_behind_posted) return;
  if (!inode.write_behind.run) {
    inode.write_behind.run = [&core, &inode] { run_write_behind(core, inode); };
  }
  inode.write_behind_posted = true;
  core.context.executor().post(inode.write_behind);
}

// Whether the appender has to wait until some of what is pending is written. A table's bytes may wait in shared memory for
// as long as there is room; a log is synced again soon, and that should not take long.
bool must_write_now(const Core& core, const OpenInode& inode, uint64_t pending) {
  if (pending < kMaxPending) return false;
  const bool has_room = core.tail != nullptr && !core.tail->is_crowded();
  return inode.kind == InodeKind::log || !has_room || inode.tail.has_private();
}

// Keeps what is pending within bounds, after an append.
Status bound_pending(Core& core, OpenInode& inode, MutexLock& lock) {
  const uint64_t size = inode.size.load(std::memory_order_relaxed);
  const uint64_t pending = size - inode.written;
  if (inode.kind == InodeKind::log && core.logs != nullptr) core.logs->arm();
  if (pending < write_unit(inode)) return {};
  if (keeps_unsynced(core, inode)) {
    if (!core.tail->is_crowded()) return {};
    core.logs->make_room();
  } else if (must_write_now(core, inode, pending)) {
    inode.take_role(lock);
    const Status status = write_out(core, inode, lock, size, WriteMode::full_blocks);
    inode.drop_role();
    return status;
  }
  post_write_behind(core, inode);
  return {};
}

}  // namespace

Status write_out(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode) {
  if (inode.kind == InodeKind::log) return write_log(core, inode, lock, target, mode);
  BASALT_TRY(write_table(core, inode, lock, target, mode));
  if (mode == WriteMode::full_blocks) {
    const bool frees_memory =
        !inode.tail.empty() && inode.tail.begin() + inode.tail.capacity() <= inode.written;
    if (!frees_memory) return {};
  }
  return record_table(core, inode, TrimSpace::no);
}

Status append_bytes(Core& core, OpenInode& inode, MutexLock& lock,
                    std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!inode.tail.has_room()) {
      BASALT_TRY(add_piece(core, inode, lock));
      continue;  // the mutex may have been released
    }
    const size_t count = inode.tail.append(bytes);
    bytes = bytes.subspan(count);
    const uint64_t size = inode.size.load(std::memory_order_relaxed) + count;
    inode.size.store(size, std::memory_order_release);
    inode.publish_tail();
    BASALT_TRY(bound_pending(core, inode, lock));
  }
  inode.touch(core);
  return {};
}

Status load_partial_block(Core& core, OpenInode& inode, MutexLock& lock) {
  const uint64_t size = inode.size.load(std::memory_order_relaxed);
  const uint64_t begin = round_down(size, block_payload(inode));
  if (!inode.tail.empty() || begin == size) return {};
  std::array<std::byte, kBlock> block;
  const auto bytes = std::span(block).first(size - begin);
  lock.unlock();
  const Status status = read_device(core, inode, begin, bytes);
  lock.lock();
  BASALT_TRY(status);
  inode.tail.add_piece(begin, AppendTail::Memory::any);
  inode.tail.append(bytes);
  inode.publish_tail();
  // From here on readers take the block from memory; a cached copy would soon be old.
  invalidate_pages(core, inode, begin, kBlock);
  return {};
}

Status append_to_file(Core& core, OpenInode& inode, std::span<const std::byte> bytes) {
  MutexLock lock(inode.mutex);
  BASALT_TRY(inode.error);
  BASALT_TRY(inode.damage);
  if (inode.tail.empty() && inode.size.load() % block_payload(inode) != 0) {
    inode.take_role(lock);
    const Status status = load_partial_block(core, inode, lock);
    inode.drop_role();
    BASALT_TRY(status);
  }
  const uint64_t size = inode.size.load(std::memory_order_relaxed);
  BASALT_TRY(inode.kind == InodeKind::log ? reserve_log(core, inode, size + bytes.size())
                                          : reserve_table(core, inode, size + bytes.size()));
  return append_bytes(core, inode, lock, bytes);
}

Status flush_file(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  BASALT_TRY(inode.error);
  if (!inode.record_on_flush && !inode.tail.has_private()) return {};
  inode.take_role(lock);
  const Status status = write_out(core, inode, lock, inode.size.load(), WriteMode::all);
  inode.drop_role();
  const blob::Ticket ticket = inode.meta_ticket;
  lock.unlock();
  BASALT_TRY(status);
  return core.survive_process(ticket);
}

void start_write_behind(Core& core, OpenInode& inode) {
  inode.write_behind_to = inode.size.load(std::memory_order_relaxed);
  if (inode.write_behind_to > inode.written) post_write_behind(core, inode);
}

Status close_file(Core& core, OpenInode& inode, MutexLock& lock) {
  BASALT_TRY(inode.kind == InodeKind::log ? close_log(core, inode, lock)
                                          : close_table(core, inode, lock));
  // Other handles go on reading a file without names from memory.
  if (inode.unlinked) return {};
  inode.tail.release_all();
  inode.publish_tail();
  return {};
}

bool keeps_unsynced(const Core& core, const OpenInode& inode) {
  return inode.kind == InodeKind::log && core.logs != nullptr && core.tail != nullptr &&
         !inode.synced && !inode.tail.has_private();
}

}  // namespace basalt::blobfs
