// The end of a log after a crash: reading its blocks forward, and settling what was found
// (docs/format/log.md, "Finding the end"). Part of log_file.h.
#include "base/planted.h"
#include "base/try.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/log_writer.h"

#include <algorithm>

namespace basalt::blobfs {

namespace {

// Feeds every mapped block from the search's first on. Touches nothing but the device.
Status read_forward(Core& core, OpenInode& inode, LogEndSearch& search) {
  const uint64_t block_bytes = inode.shape.block_bytes;
  const auto extents = core.store.extents(*inode.blob, {0, uint64_t{1} << 50});
  const uint64_t limit = extents.empty() ? 0 : extents.back().end() * kBlock / block_bytes;
  const IoBuffers::Lease buffer = core.buffers.take(IoBuffers::kLargeBytes);
  const uint64_t blocks_per_read = IoBuffers::kLargeBytes / block_bytes;
  uint64_t block = search.first_block();
  while (block < limit) {
    const uint64_t count = std::min(limit - block, blocks_per_read);
    const auto bytes = buffer.first(count * block_bytes);
    BASALT_TRY(core.store.read(*inode.blob, block * block_bytes, bytes, blob::Unwritten::raw));
    // The last block of a piece is the first of the next: what follows it must be at hand.
    const bool last_piece = block + count == limit;
    const uint64_t take = last_piece ? count : count - 1;
    for (uint64_t i = 0; i < take; ++i) {
      const auto next = i + 1 < count ? bytes.subspan((i + 1) * block_bytes, block_bytes)
                                      : std::span<std::byte>{};
      search.take(bytes.subspan(i * block_bytes, block_bytes), next);
    }
    block += take;
  }
  return {};
}

Status missing_bytes(const OpenInode& inode, const LogEndSearch& search) {
  return {StatusCode::corruption,
          "log " + std::to_string(inode.id) + ": ends at byte " + std::to_string(search.end()) +
              ", but " + std::to_string(search.proven_durable()) +
              " bytes were durable (journaled length " + std::to_string(inode.record.length) +
              "); the block at byte " +
              std::to_string(inode.shape.blob_offset(inode.shape.block_of(search.end()))) +
              " of its blob is damaged"};
}

// Writes the newest version of the last block to its own place, so that reading finds it there.
Status replace_last_block(Core& core, OpenInode& inode, const LogEndSearch& search) {
  const uint64_t position = search.end() - search.last_payload().size();
  const IoBuffers::Lease buffer = core.buffers.take(inode.shape.block_bytes);
  const auto block = buffer.first(inode.shape.block_bytes);
  seal_block(inode.shape, {inode.id, inode.record.log_epoch, 0}, position, search.last_payload(),
             block);
  return core.store.write(*inode.blob, inode.shape.blob_offset(inode.shape.block_of(position)),
                          block, blob::Unwritten::raw);
}

// The record says the end, in a new epoch: nothing left beyond it can pass for later bytes.
Status journal_end(Core& core, OpenInode& inode) {
  const uint64_t size = inode.size.load();
  InodeRecord record = inode.current_record(size);
  record.open_log = false;
  if (!planted("log_epoch_kept")) ++record.log_epoch;
  blob::Transaction txn;
  txn.require_data_flush();  // what was found may be in the device's cache only
  if (!inode.unlinked) txn.catalog_put(inode_key(inode.id), encode(record));
  const uint64_t used = inode.shape.blob_offset(inode.shape.block_count(size));
  txn.set_size(BlobId{inode.id}, round_up(used, kBlock));
  BASALT_TRY_ASSIGN(const blob::BlockRange rest, free_beyond(core, inode, txn, used));
  BASALT_TRY_ASSIGN(inode.epoch_ticket, core.store.apply(txn));
  inode.meta_ticket = inode.epoch_ticket;
  inode.epoch_pending = true;
  inode.record = record;
  return free_rest(core, inode, rest);
}

Status accept_end(Core& core, OpenInode& inode, const LogEndSearch& search) {
  inode.size.store(search.end(), std::memory_order_release);
  inode.written = search.end();
  if (!core.read_only) {
    if (search.last_is_displaced() && !planted("log_displaced_left"))
      BASALT_TRY(replace_last_block(core, inode, search));
    BASALT_TRY(journal_end(core, inode));
  } else if (search.last_is_displaced()) {
    inode.tail.add_piece(search.end() - search.last_payload().size(), AppendTail::Memory::any);
    inode.tail.append(search.last_payload());
  }
  inode.publish_tail();
  return {};
}

}  // namespace

Status find_log_end(Core& core, OpenInode& inode) {
  MutexLock lock(inode.mutex);
  if (inode.end_known) return {};
  inode.take_role(lock);
  Status status;
  if (!inode.end_known) {
    status = inode.open_data(core);
    LogEndSearch search(log_identity(inode));
    if (status.ok()) {
      lock.unlock();
      status = read_forward(core, inode, search);
      lock.lock();
    }
    if (status.ok() && search.bytes_missing()) {
      // Kept as long as anything of it is there; reads of what is missing fail.
      inode.damage = missing_bytes(inode, search);
      core.context.log().log(LogLevel::error, "blobfs", inode.damage.to_string());
      const uint64_t size = std::max(search.highest_end(), search.proven_durable());
      inode.size.store(size, std::memory_order_release);
      inode.written = size;
      inode.publish_tail();
      inode.end_known = true;
    } else if (status.ok()) {
      status = accept_end(core, inode, search);
      inode.end_known = status.ok();
    }
  }
  inode.drop_role();
  return status;
}

}  // namespace basalt::blobfs
