#include "blobfs/write_out.h"

#include "base/try.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/table_file.h"

#include <algorithm>
#include <array>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMaxPending = 8 * 1024 * 1024;  // pending bytes that make the appender write

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
    inode.take_role(lock);
    const Status status = write_out(core, inode, lock, inode.size.load(std::memory_order_relaxed),
                                    WriteMode::full_blocks);
    inode.drop_role();
    BASALT_TRY(status);
    if (try_shared()) return {};
  }
  inode.tail.add_piece(inode.size.load(std::memory_order_relaxed), AppendTail::Memory::any);
  return {};
}

void run_write_behind(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  inode.write_behind_posted = false;
  if (inode.writing || !inode.error.ok()) return;
  inode.writing = true;
  // Whole writes, if there is one: each costs a wake-up here and there, and the rest soon belongs to the next.
  uint64_t pending = inode.size.load(std::memory_order_relaxed) - inode.written;
  const uint64_t unit = write_unit(inode);
  if (pending > unit) pending = round_down(pending, unit);
  // An error is kept in the inode and met by whoever syncs or appends next.
  const Status status =
      write_out(core, inode, lock, inode.written + pending, WriteMode::full_blocks);
  inode.drop_role();
  if (!status.ok()) core.context.log().log(LogLevel::warning, "blobfs", status.to_string());
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
    const uint64_t pending = size - inode.written;
    if (pending >= kMaxPending) {
      inode.take_role(lock);
      const Status status = write_out(core, inode, lock, size, WriteMode::full_blocks);
      inode.drop_role();
      BASALT_TRY(status);
    } else if (pending >= write_unit(inode) && !inode.writing && !inode.write_behind_posted) {
      start_write_behind(core, inode);
    }
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
  if (!inode.write_behind.run) {
    inode.write_behind.run = [&core, &inode] { run_write_behind(core, inode); };
  }
  inode.write_behind_posted = true;
  core.context.executor().post(inode.write_behind);
}

}  // namespace basalt::blobfs
