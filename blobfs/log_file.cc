#include "blobfs/log_file.h"

#include "base/planted.h"
#include "base/try.h"
#include "blobfs/file_space.h"
#include "blobfs/log_writer.h"

#include <algorithm>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMinStep = uint64_t{1} << 20;
constexpr uint64_t kMaxWriteBytes = IoBuffers::kLargeBytes;

enum class Durably : bool { no, yes };

// A block larger than what the device writes in one piece: the acknowledged partial block is never the
// one overwritten.
bool alternates(const Core& core, const OpenInode& inode) {
  return inode.shape.block_bytes > core.atomic_bytes && !planted("partial_block_in_place");
}

Status flush_log(Core& core, OpenInode& inode, MutexLock& lock) {
  if (!inode.unflushed) return {};
  lock.unlock();
  Status status = planted("log_not_flushed") ? Status{} : core.store.flush();
  lock.lock();
  if (!status.ok()) return inode.fail(status.with_context("log " + std::to_string(inode.id)));
  inode.unflushed = false;
  return {};
}

// Seals the bytes [from, to), `from` at a block's beginning, and writes them from block `place` on.
Status write_blocks(Core& core, OpenInode& inode, MutexLock& lock, uint64_t from, uint64_t to,
                    uint64_t place, Durably durably) {
  const uint64_t blocks = inode.shape.block_count(to) - inode.shape.block_of(from);
  const bool fua = durably == Durably::yes && core.volatile_cache &&
                   (!inode.unflushed || planted("log_fua_after_unflushed"));
  const SealOptions seal{inode.id, inode.record.log_epoch, inode.durable};
  inode.tail.gather(from, to, inode.spans);
  lock.unlock();
  const IoBuffers::Lease buffer = core.buffers.take(blocks * inode.shape.block_bytes);
  const size_t used = seal_blocks(inode.shape, seal, from, inode.spans, buffer.span());
  Status status = core.store.write(*inode.blob, inode.shape.blob_offset(place), buffer.first(used),
                                   blob::Unwritten::raw, IoFlags{.fua = fua});
  core.log_blocks_written.fetch_add(blocks, std::memory_order_relaxed);
  lock.lock();
  if (!status.ok()) {
    return inode.fail(status.with_context("log " + std::to_string(inode.id) + ": write bytes [" +
                                          std::to_string(from) + ", " + std::to_string(to) + ")"));
  }
  if (!fua && core.volatile_cache) inode.unflushed = true;
  if (fua && planted("log_fua_after_unflushed")) inode.unflushed = false;
  return durably == Durably::yes ? flush_log(core, inode, lock) : Status{};
}

void wrote_up_to(OpenInode& inode, uint64_t end) {
  inode.written = end;
  inode.tail.release_below(round_down(end, inode.shape.payload()));
  inode.publish_tail();
}

// The partial block on the device, of which a version is acknowledged, gets a newer version or becomes
// full, as docs/format/log.md ("The partial tail") says.
Status rewrite_alternating(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target) {
  const uint64_t block = inode.shape.block_of(inode.written);
  const uint64_t from = inode.shape.position_of(block);
  const uint64_t full = inode.shape.position_of(block + 1);
  if (target < full) {
    const uint64_t place = inode.displaced ? block : block + 1;
    BASALT_TRY(write_blocks(core, inode, lock, from, target, place, Durably::yes));
    inode.displaced = !inode.displaced;
    wrote_up_to(inode, target);
    return {};
  }
  if (!inode.displaced && !planted("log_full_over_partial")) {
    BASALT_TRY(write_blocks(core, inode, lock, from, full, block + 1, Durably::yes));
    inode.displaced = true;
  }
  BASALT_TRY(write_blocks(core, inode, lock, from, full, block, Durably::yes));
  inode.displaced = false;
  wrote_up_to(inode, full);
  return {};
}

// Nothing is written in an epoch, and nothing counts as durable in it, before it is durable itself.
Status settle_epoch(Core& core, OpenInode& inode, MutexLock& lock) {
  if (!inode.epoch_pending || planted("log_epoch_not_awaited")) return {};
  const blob::Ticket ticket = inode.epoch_ticket;
  const uint64_t length = inode.record.length;
  lock.unlock();
  const Status status = core.store.wait_durable(ticket);
  lock.lock();
  if (!status.ok()) return inode.fail(status);
  inode.epoch_pending = false;
  inode.durable = std::max(inode.durable, length);
  return {};
}

// Brings the newest version of the last block into its own place.
Status undo_displacement(Core& core, OpenInode& inode, MutexLock& lock) {
  if (!inode.displaced || planted("log_displaced_left")) return {};
  const uint64_t block = inode.shape.block_of(inode.written);
  BASALT_TRY(write_blocks(core, inode, lock, inode.shape.position_of(block), inode.written, block,
                          Durably::no));
  inode.displaced = false;
  return {};
}

}  // namespace

uint64_t log_write_bytes(const OpenInode& inode) {
  return kMaxWriteBytes / inode.shape.block_bytes * inode.shape.payload();
}

InodeRecord new_log_record(Core& core) {
  InodeRecord record;
  record.kind = InodeKind::log;
  record.open_log = true;
  record.sealed_bytes =
      core.atomic_bytes >= kBlock ? kBlock : std::max(core.device_block_bytes, 512u);
  // Not 1: a creation lost with the power may leave blocks behind, and its id be given again.
  record.log_epoch = std::max<uint32_t>(1, static_cast<uint32_t>(core.store.identity().epoch));
  if (planted("log_first_epoch")) record.log_epoch = 1;
  return record;
}

LogIdentity log_identity(const OpenInode& inode) {
  return {inode.id, inode.record.log_epoch, inode.record.length, inode.shape};
}

Status reserve_log(Core& core, OpenInode& inode, uint64_t length) {
  // One block more for the displaced version of the last.
  const uint64_t end = inode.shape.blob_offset(inode.shape.block_count(length) + 1);
  const uint64_t from = inode.shape.blob_offset(inode.shape.block_of(inode.size.load()));
  return reserve_space(core, inode, from, end, kMinStep);
}

Status write_log(Core& core, OpenInode& inode, MutexLock& lock, uint64_t target, WriteMode mode) {
  BASALT_TRY(inode.error);
  BASALT_TRY(settle_epoch(core, inode, lock));
  const uint64_t payload = inode.shape.payload();
  const bool alternating = alternates(core, inode);
  if (mode == WriteMode::full_blocks) target = round_down(target, payload);
  if (alternating && inode.written < target && inode.written % payload != 0) {
    BASALT_TRY(rewrite_alternating(core, inode, lock, target));
  }
  // The order of versions must survive power loss, not only the newest.
  const bool durably = mode == WriteMode::durable || (alternating && mode == WriteMode::all);
  const uint64_t step = log_write_bytes(inode);
  while (inode.written < target) {
    const uint64_t from = round_down(inode.written, payload);
    const uint64_t end = std::min(target, from + step);
    const Durably last = durably && end == target ? Durably::yes : Durably::no;
    BASALT_TRY(write_blocks(core, inode, lock, from, end, inode.shape.block_of(from), last));
    wrote_up_to(inode, end);
  }
  if (!durably) return {};
  BASALT_TRY(flush_log(core, inode, lock));
  inode.durable = std::max(inode.durable, inode.written);
  return {};
}

Status sync_log(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  const uint64_t target = inode.size.load(std::memory_order_relaxed);
  inode.synced = true;
  BASALT_TRY(inode.damage);
  // A truncation meanwhile leaves less to wait for.
  while (inode.error.ok() && inode.durable < std::min(target, inode.size.load())) {
    if (inode.writing) {
      inode.changed.wait(lock);
      continue;
    }
    inode.writing = true;
    const Status status = write_log(core, inode, lock, inode.size.load(), WriteMode::durable);
    inode.drop_role();
    BASALT_TRY(status);
  }
  BASALT_TRY(inode.error);
  const blob::Ticket ticket = inode.meta_ticket;
  lock.unlock();
  core.log_syncs.fetch_add(1, std::memory_order_relaxed);
  return core.sync_metadata(ticket);
}

Status begin_log_epoch(Core& core, OpenInode& inode) {
  BASALT_TRY(inode.damage);
  InodeRecord record = inode.current_record(inode.size.load());
  record.open_log = true;
  if (!planted("log_epoch_kept")) ++record.log_epoch;
  if (record.log_epoch == 0) {
    return {StatusCode::too_large,
            "log " + std::to_string(inode.id) + ": its epochs are used up; copy it"};
  }
  blob::Transaction txn;
  txn.require_data_flush();  // the length is claimed as durable
  if (!inode.unlinked) txn.catalog_put(inode_key(inode.id), encode(record));
  if (!txn.empty()) {
    BASALT_TRY_ASSIGN(inode.epoch_ticket, core.store.apply(txn));
    inode.meta_ticket = inode.epoch_ticket;
  }
  inode.record = record;
  inode.epoch_pending = true;
  return {};
}

Status trim_log(Core& core, OpenInode& inode) {
  // One block more, as in reserve_log().
  const uint64_t used = inode.shape.blob_offset(inode.shape.block_count(inode.size.load()) + 1);
  blob::Transaction txn;
  BASALT_TRY_ASSIGN(const blob::BlockRange rest, free_beyond(core, inode, txn, used));
  if (txn.empty()) return {};
  BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
  return free_rest(core, inode, rest);
}

Status close_log(Core& core, OpenInode& inode, MutexLock& lock) {
  BASALT_TRY(inode.error);
  if (inode.unlinked) return {};
  const uint64_t size = inode.size.load();
  BASALT_TRY(write_log(core, inode, lock, size, WriteMode::all));
  BASALT_TRY(undo_displacement(core, inode, lock));
  // The lock was let go while writing: the last name may have gone, and with it the record.
  if (inode.unlinked) return {};
  blob::Transaction txn;
  txn.require_data_flush();
  InodeRecord record = inode.current_record(size);
  record.open_log = false;
  const uint64_t used = inode.shape.blob_offset(inode.shape.block_count(size));
  txn.catalog_put(inode_key(inode.id), encode(record));
  txn.set_size(BlobId{inode.id}, round_up(used, kBlock));
  BASALT_TRY_ASSIGN(const blob::BlockRange rest, free_beyond(core, inode, txn, used));
  BASALT_TRY_ASSIGN(inode.meta_ticket, core.store.apply(txn));
  inode.record = record;
  return free_rest(core, inode, rest);
}

Status truncate_log(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length) {
  BASALT_TRY(inode.error);
  BASALT_TRY(inode.damage);
  BASALT_TRY(write_log(core, inode, lock, inode.size.load(), WriteMode::all));
  BASALT_TRY(undo_displacement(core, inode, lock));
  InodeRecord record = inode.current_record(length);
  if (!planted("log_epoch_kept_by_truncation")) ++record.log_epoch;
  record.open_log = inode.writers > 0;
  blob::Transaction txn;
  txn.require_data_flush();
  if (!inode.unlinked) txn.catalog_put(inode_key(inode.id), encode(record));
  blob::BlockRange rest;
  if (inode.writers == 0 && !inode.unlinked) {
    const uint64_t used = inode.shape.blob_offset(inode.shape.block_count(length));
    txn.set_size(BlobId{inode.id}, round_up(used, kBlock));
    BASALT_TRY_ASSIGN(rest, free_beyond(core, inode, txn, used));
  }
  // The chunks go first: replayed after this transaction they would bring the bytes back. Until it is
  // applied the bytes are on the device, where the search for the end finds them.
  inode.tail.release_all();
  inode.publish_tail();
  if (!txn.empty()) {
    BASALT_TRY_ASSIGN(inode.epoch_ticket, core.store.apply(txn));
    inode.meta_ticket = inode.epoch_ticket;
  }
  inode.epoch_pending = true;
  inode.record = record;
  inode.size.store(length, std::memory_order_release);
  inode.written = length;
  inode.durable = std::min(inode.durable, length);
  inode.publish_tail();
  return free_rest(core, inode, rest);
}

}  // namespace basalt::blobfs
