#include "blobfs/table_file.h"

#include "base/planted.h"
#include "base/try.h"
#include "blobfs/async_reads.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMinStep = 64 * 1024;

// Reads left in flight end, and no others begin until `no_async` is cleared: the store waits for reads
// that use space it is about to free, and whoever polls them may be waiting for us.
void wait_for_reads(Core& core, OpenInode& inode, MutexLock& lock) {
  inode.no_async = true;
  lock.unlock();
  core.reads->drain(inode);
  lock.lock();
}

// Writes whole blocks at `offset`; the mutex is released meanwhile. Fresh bytes stay in the page cache.
Status write_blocks(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset,
                    std::span<const std::byte> bytes) {
  const blob::Ticket cut = std::exchange(inode.cut_ticket, {});
  const bool had_no_async = inode.no_async;
  if (core.store.overwrites_recorded(*inode.blob, offset, bytes.size())) {
    wait_for_reads(core, inode, lock);
  }
  lock.unlock();
  // The last block of a shortened file still holds what was cut off. Should the power go before the
  // truncation is durable, the old size is back, and so must be the old bytes.
  Status status;
  if (cut.value != 0 && !planted("table_cut_not_awaited")) status = core.store.wait_durable(cut);
  if (status.ok()) status = core.store.write(*inode.blob, offset, bytes, blob::Unwritten::zeros);
  if (status.ok()) {
    core.cache.insert(inode.id, offset / kBlock, bytes, inode.cache_generation,
                      inode.cache_generation.load(std::memory_order_acquire));
  }
  lock.lock();
  inode.no_async = had_no_async;
  if (status.ok()) return {};
  return inode.fail(status.with_context("table " + std::to_string(inode.id) + ": write bytes [" +
                                        std::to_string(offset) + ", " +
                                        std::to_string(offset + bytes.size()) + ")"));
}

// Everything in memory goes to the device and into the record; the tail is empty afterwards.
Status drain_tail(Core& core, OpenInode& inode, MutexLock& lock) {
  while (!inode.tail.empty()) {
    BASALT_TRY(write_table(core, inode, lock, inode.size.load(), WriteMode::all));
    if (inode.written < inode.size.load()) continue;  // appended meanwhile
    BASALT_TRY(record_table(core, inode, TrimSpace::no));
    inode.tail.release_all();
    inode.publish_tail();
  }
  return {};
}

// Rewrites the block at `offset` with bytes [begin, begin + bytes.size()) replaced; what the block
// holds beyond the file's end is zero.
Status modify_block(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset, uint64_t begin,
                    std::span<const std::byte> bytes) {
  const IoBuffers::Lease buffer = core.buffers.take(kBlock);
  const auto block = buffer.first(kBlock);
  const uint64_t size = inode.size.load();
  std::memset(block.data(), 0, block.size());
  if (offset < size) {
    lock.unlock();
    const Status status = core.store.read(*inode.blob, offset, block, blob::Unwritten::zeros);
    lock.lock();
    BASALT_TRY(status);
    const uint64_t valid = std::min(kBlock, size - offset);
    std::memset(block.data() + valid, 0, kBlock - valid);
  }
  std::memcpy(block.data() + begin, bytes.data(), bytes.size());
  return write_blocks(core, inode, lock, offset, block);
}

constexpr std::array<std::byte, kBlock> kZeroBlock{};
std::span<const std::byte> zeros(uint64_t count) { return std::span(kZeroBlock).first(count); }

bool is_mapped(Core& core, OpenInode& inode, uint64_t offset) {
  return !core.store.extents(*inode.blob, {offset / kBlock, 1}).empty();
}

// The file gets longer without data: what lies between reads as zeros.
Status extend_with_zeros(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length) {
  BASALT_TRY(inode.open_data(core));
  const uint64_t size = inode.size.load();
  const uint64_t last_block = round_down(size, kBlock);
  invalidate_pages(core, inode, last_block, round_up(length, kBlock) - last_block);
  if (last_block != size && is_mapped(core, inode, last_block)) {
    BASALT_TRY(modify_block(core, inode, lock, last_block, size - last_block,
                            zeros(kBlock - (size - last_block))));
  }
  const uint64_t first = round_up(size, kBlock) / kBlock, end = round_up(length, kBlock) / kBlock;
  if (end > first) {
    blob::Transaction txn;
    core.store.mark_unwritten(txn, *inode.blob, {first, end - first});
    if (!txn.empty()) {
      BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
    }
  }
  invalidate_pages(core, inode, last_block, round_up(length, kBlock) - last_block);
  inode.size.store(length, std::memory_order_release);
  inode.written = length;
  inode.publish_tail();
  return {};
}

}  // namespace

void invalidate_pages(Core& core, OpenInode& inode, uint64_t offset, uint64_t length) {
  if (inode.kind != InodeKind::table) return;
  inode.cache_generation.fetch_add(1, std::memory_order_acq_rel);
  const uint64_t first = offset / kBlock;
  core.cache.erase(inode.id, first, round_up(offset + length, kBlock) / kBlock - first);
}

Status reserve_table(Core& core, OpenInode& inode, uint64_t length) {
  return reserve_space(core, inode, inode.size.load(), round_up(length, kBlock), kMinStep);
}

Status write_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode) {
  BASALT_TRY(inode.error);
  while (inode.written < target) {
    const uint64_t from = round_down(inode.written, kBlock);
    const bool with_rest = mode != WriteMode::full_blocks && target % kBlock != 0;
    if (with_rest && target - from <= IoBuffers::kSmallBytes) {
      // One write for the last blocks and the partial one, from a copy: bytes may be appended meanwhile.
      const IoBuffers::Lease buffer = core.buffers.take(round_up(target - from, kBlock));
      const auto bytes = buffer.first(round_up(target - from, kBlock));
      inode.tail.copy_out(from, bytes.first(target - from));
      std::memset(bytes.data() + (target - from), 0, bytes.size() - (target - from));
      BASALT_TRY(write_blocks(core, inode, lock, from, bytes));
      inode.written = std::max(inode.written, target);
      continue;
    }
    const uint64_t end = round_down(std::min(target, from + kTableWriteBytes), kBlock);
    if (end <= from) return {};  // a partial block that is to stay
    inode.tail.gather(from, end, inode.spans);
    const std::span<const std::byte> bytes = inode.spans.front();
    BASALT_TRY(write_blocks(core, inode, lock, from, bytes));
    inode.written = std::max(inode.written, from + bytes.size());
  }
  return {};
}

Status record_table(Core& core, OpenInode& inode, TrimSpace trim) {
  if (inode.unlinked) {
    inode.record = inode.current_record(inode.written);  // nobody will look for it on the device
  } else {
    BASALT_TRY(inode.open_data(core));
    bool more = true;
    while (more) {
      blob::Transaction txn;
      more = core.store.mark_written(txn, *inode.blob);
      const InodeRecord record = inode.current_record(inode.written);
      blob::BlockRange rest;
      if (!more) {
        txn.require_data_flush();
        txn.catalog_put(inode_key(inode.id), encode(record));
        txn.set_size(BlobId{inode.id}, round_up(record.length, kBlock));
        if (trim == TrimSpace::yes) {
          BASALT_TRY_ASSIGN(rest, free_beyond(core, inode, txn, record.length));
        }
      }
      BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
      if (more) continue;
      inode.record = record;
      BASALT_TRY(free_rest(core, inode, rest));
    }
  }
  inode.recorded = inode.changes;
  inode.record_on_flush = false;
  inode.tail.release_below(inode.written);
  inode.publish_tail();
  return {};
}

Status sync_table(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  const uint64_t wanted_changes = inode.changes, wanted_length = inode.size.load();
  const auto is_recorded = [&] {  // a truncation meanwhile makes less of it
    return inode.recorded >= wanted_changes &&
           inode.record.length >= std::min(wanted_length, inode.size.load());
  };
  while (inode.error.ok() && !is_recorded()) {
    if (inode.writing) {
      inode.changed.wait(lock);
      continue;
    }
    inode.writing = true;
    Status status = write_table(core, inode, lock, inode.size.load(), WriteMode::all);
    if (status.ok()) status = record_table(core, inode, TrimSpace::no);
    inode.drop_role();
    BASALT_TRY(status);
  }
  BASALT_TRY(inode.error);
  const blob::Ticket ticket = inode.meta_ticket;
  lock.unlock();
  return core.sync_metadata(ticket);
}

Status close_table(Core& core, OpenInode& inode, MutexLock& lock) {
  BASALT_TRY(inode.error);
  BASALT_TRY(write_table(core, inode, lock, inode.size.load(), WriteMode::all));
  const uint64_t size = inode.size.load();
  const bool trim = inode.blob && !inode.unlinked && has_space_beyond(core, inode, size);
  if (inode.recorded == inode.changes && inode.record.length == size && !trim) return {};
  if (!trim) return record_table(core, inode, TrimSpace::no);
  wait_for_reads(core, inode, lock);
  const Status status = record_table(core, inode, TrimSpace::yes);
  inode.no_async = false;
  return status;
}

namespace {

Status overwrite(Core& core, OpenInode& inode, MutexLock& lock, uint64_t at,
                 std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t block = round_down(at, kBlock);
    size_t count = 0;
    if (at != block || bytes.size() < kBlock) {
      count = std::min<uint64_t>(bytes.size(), block + kBlock - at);
      BASALT_TRY(modify_block(core, inode, lock, block, at - block, bytes.first(count)));
    } else {
      count = round_down(std::min<uint64_t>(bytes.size(), kTableWriteBytes), kBlock);
      BASALT_TRY(write_blocks(core, inode, lock, at, bytes.first(count)));
    }
    at += count;
    bytes = bytes.subspan(count);
    if (at > inode.size.load()) {
      inode.size.store(at, std::memory_order_release);
      inode.written = at;
      inode.publish_tail();
    }
  }
  return {};
}

}  // namespace

Status write_table_at(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset,
                      std::span<const std::byte> bytes) {
  BASALT_TRY(inode.error);
  BASALT_TRY(drain_tail(core, inode, lock));
  const uint64_t end = offset + bytes.size();
  const uint64_t first = round_down(offset, kBlock), last = round_up(end, kBlock);
  BASALT_TRY(allocate_range(core, inode, first, last));
  if (offset > inode.size.load()) BASALT_TRY(extend_with_zeros(core, inode, lock, offset));
  invalidate_pages(core, inode, first, last - first);
  const Status status = overwrite(core, inode, lock, offset, bytes);
  // Reads of the device that saw the old bytes do not bring them into the cache any more.
  invalidate_pages(core, inode, first, last - first);
  BASALT_TRY(status);
  ++inode.changes;
  inode.record_on_flush = true;
  inode.touch(core);
  return {};
}

Status truncate_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length) {
  BASALT_TRY(inode.error);
  BASALT_TRY(drain_tail(core, inode, lock));
  inode.touch(core);
  ++inode.changes;
  inode.record_on_flush = true;
  if (length >= inode.size.load()) {
    if (length > inode.size.load()) BASALT_TRY(extend_with_zeros(core, inode, lock, length));
    return record_table(core, inode, TrimSpace::no);
  }
  wait_for_reads(core, inode, lock);
  const uint64_t old_size = inode.size.load();
  inode.size.store(length, std::memory_order_release);
  inode.written = length;
  inode.allocated_known = false;  // the end may lie in a hole now
  inode.publish_tail();
  invalidate_pages(core, inode, length, old_size - length);
  const Status status = record_table(core, inode, TrimSpace::yes);
  inode.no_async = false;
  if (status.ok()) inode.cut_ticket = inode.meta_ticket;
  if (!status.ok() && inode.record.length != length) {
    inode.size.store(old_size, std::memory_order_release);
    inode.written = old_size;
    inode.publish_tail();
  }
  return status;
}

Status punch_table(Core& core, OpenInode& inode, MutexLock& lock, uint64_t offset,
                   uint64_t length) {
  BASALT_TRY(inode.error);
  BASALT_TRY(drain_tail(core, inode, lock));
  BASALT_TRY(inode.open_data(core));
  wait_for_reads(core, inode, lock);
  const uint64_t end = offset + length;
  const uint64_t first = round_up(offset, kBlock), last = round_down(end, kBlock);
  invalidate_pages(core, inode, offset, length);
  Status status;
  const auto zero_part = [&](uint64_t from, uint64_t to) {
    const uint64_t block = round_down(from, kBlock);
    if (!status.ok() || from >= to || from >= inode.size.load() || !is_mapped(core, inode, block))
      return;
    status = modify_block(core, inode, lock, block, from - block, zeros(to - from));
  };
  zero_part(offset, std::min(first, end));
  if (last >= first) zero_part(std::max(last, offset), end);
  if (status.ok() && last > first) {
    blob::Transaction txn;
    const blob::BlockRange range{first / kBlock, (last - first) / kBlock};
    core.store.mark_unwritten(txn, *inode.blob, range);
    Result<blob::BlockRange> rest = core.store.free_range(txn, BlobId{inode.id}, range);
    if (!rest) {
      status = rest.error();
    } else if (!txn.empty()) {
      Result<blob::Ticket> ticket = core.store.apply(txn);
      status = ticket ? free_rest(core, inode, *rest) : ticket.error();
      if (ticket) inode.meta_ticket = std::max(inode.meta_ticket, *ticket);
    }
  }
  invalidate_pages(core, inode, offset, length);
  inode.no_async = false;
  inode.allocated_known = false;
  inode.touch(core);
  ++inode.changes;
  inode.record_on_flush = true;
  return status;
}

}  // namespace basalt::blobfs
