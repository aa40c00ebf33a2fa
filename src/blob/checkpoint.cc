// Checkpoints: write what changed to fresh pages, then flip a superblock to it.
//
// One function, in order: freeze the state under the metadata lock; write the frozen pages (both copies)
// while transactions go on; flush, which covers the pages and all data that recorded extents point to;
// write the older superblock slot with FUA; only then let the journal, freed pages and freed space go.
// Both slots are starting points at all times: where transactions became durable by the checkpoint alone
// and are in no journal record, the other slot, which would need that record, gets the same checkpoint.
#include "base/try.h"
#include "base/planted.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <algorithm>

namespace basalt::blob {

Status write_pages(PageStore& pages, ChannelPool& pool, std::vector<FrozenPage>& frozen) {
  constexpr size_t kMaxWriteBlocks = 64;
  std::sort(frozen.begin(), frozen.end(),
            [](const FrozenPage& a, const FrozenPage& b) { return a.page < b.page; });
  BASALT_TRY_ASSIGN(auto lease, pool.lease());
  AlignedBuffer joined(std::min<size_t>(frozen.size(), 32 * kMaxWriteBlocks) * kBlockBytes);
  for (unsigned copy = 0; copy < (planted("second_copy_unwritten") ? 1u : 2u); ++copy) {
    std::vector<BlockWrite> batch;
    size_t used = 0;
    const auto flush_batch = [&]() -> Status {
      const Status status = write_batch(*lease, pool.device().info(), batch, "checkpoint");
      batch.clear();
      used = 0;
      return status;
    };
    for (const FrozenPage& page : frozen) {
      const uint64_t block = pages.block_of(page.page, copy);
      std::byte* to = joined.data() + used * kBlockBytes;
      std::memcpy(to, page.bytes, kBlockBytes);
      ++used;
      const size_t last_blocks = batch.empty() ? 0 : batch.back().bytes.size() / kBlockBytes;
      if (!batch.empty() && batch.back().block + last_blocks == block &&
          last_blocks < kMaxWriteBlocks) {
        batch.back().bytes = {batch.back().bytes.data(), (last_blocks + 1) * kBlockBytes};
      } else {
        batch.push_back({block, {to, kBlockBytes}});
      }
      if (used == joined.size() / kBlockBytes) BASALT_TRY(flush_batch());
    }
    BASALT_TRY(flush_batch());
  }
  return {};
}

Result<Superblock> BlobStore::Impl::seal_state(std::vector<FrozenPage>& frozen) {
  Superblock next = superblock;
  PageRef roots[kTreeCount] = {state.objects().root, state.catalog().root,
                               state.space().tree().root, state.references().root};
  BASALT_TRY_ASSIGN(next.page_map, pages.freeze(roots, frozen));
  state.objects().root = roots[0];
  state.catalog().root = roots[1];
  state.space().tree().root = roots[2];
  state.references().root = roots[3];
  std::copy(std::begin(roots), std::end(roots), std::begin(next.trees));
  next.page_map_leaves = pages.map().leaf_count();
  next.checkpoint_generation = pages.building() - 1;
  next.transaction_sequence = last_ticket.value;
  next.next_blob_id = state.next_blob_id;
  next.free_clusters = state.space().free_clusters();
  next.blob_count = state.blob_count;
  next.cluster_count = state.cluster_count;
  return next;
}

Status BlobStore::Impl::checkpoint() {
  MutexLock one_at_a_time(checkpoint_mutex);
  MutexLock lock(meta);
  if (!failure.ok()) return failure;
  const Ticket covered = last_ticket;
  const JournalCursor cursor = journal->cursor();
  std::vector<FrozenPage> frozen;
  auto sealed = seal_state(frozen);
  if (!sealed) {
    poison(sealed.error());
    return sealed.error();
  }
  Superblock next = *sealed;
  next.generation = superblock.generation + 1;
  next.journal_position = cursor.position;
  next.journal_sequence = cursor.sequence;
  lock.unlock();

  bool both_slots = false;
  const auto write = [&]() -> Status {
    const bool late = planted("superblock_before_pages");
    if (!late) BASALT_TRY(write_pages(pages, pool, frozen));
    BASALT_TRY_ASSIGN(auto lease, pool.lease());
    if (!planted("superblock_before_flush")) BASALT_TRY(flush_device(*lease, "checkpoint"));
    BASALT_TRY(check_device());
    BASALT_TRY(check_owner(*lease));
    BASALT_TRY(write_superblock(*lease, device.info(), next));
    if (late) BASALT_TRY(write_pages(pages, pool, frozen));
    both_slots = journal->queues(covered) && !planted("one_slot_only");
    if (!both_slots) return {};
    next.generation = next.generation + 1;
    return write_superblock(*lease, device.info(), next);
  };
  const Status status = write();

  lock.lock();
  pages.written();
  if (!status.ok()) {
    poison(status);
    return status;
  }
  pages.map().flipped();
  if (both_slots || planted("pages_reused_early")) pages.map().flipped_again();
  older_journal_position = both_slots || planted("journal_reused_early")
                               ? next.journal_position
                               : superblock.journal_position;
  superblock = next;
  ++checkpoints;
  const uint64_t tail = older_journal_position;
  release_durable(covered);
  if (keeper != nullptr) keeper->durable(covered);
  pages.trim();
  lock.unlock();
  journal->checkpointed(covered, tail);
  return {};
}

// Before a flip: whether the slot that stays says that the store is still ours. A slot that cannot be read
// says nothing.
Status BlobStore::Impl::check_owner(Channel& channel) {
  if (!owner_recorded) return {};
  const unsigned slot = superblock.generation % 2;  // changes under checkpoint_mutex and meta
  AlignedBuffer bytes(kBlockBytes);
  const uint64_t block = kSuperblockOffset[slot] / kBlockBytes;
  if (!read_blocks(channel, device.info(), block, bytes.span(), "superblock").ok()) return {};
  const uint64_t device_bytes = device.info().block_count.value * device.info().block_size;
  const auto found = parse_superblock(bytes.span(), slot, device_bytes);
  if (!found || (found->uuid == superblock.uuid && found->open_id == identity.open_id)) return {};
  return Status(StatusCode::fenced, device.info().uri + ": another owner has taken the store over");
}

// The same checkpoint once more, into the other slot.
Status BlobStore::Impl::flip_again(Channel& channel) {
  MutexLock one_at_a_time(checkpoint_mutex);
  MutexLock lock(meta);
  if (!failure.ok()) return failure;
  Superblock next = superblock;
  next.generation = superblock.generation + 1;
  Status status = check_owner(channel);
  if (status.ok()) status = write_superblock(channel, device.info(), next);
  if (!status.ok()) {
    poison(status);
    return status;
  }
  pages.map().flipped_again();
  older_journal_position = superblock.journal_position;
  superblock = next;
  return {};
}

void BlobStore::Impl::post_checkpoint_if_due() {
  const bool journal_full =
      journal->blocks_since(superblock.journal_position) > journal->ring_blocks() / 4;
  const uint64_t dirty_bound = std::max<uint64_t>(
      64, std::min(pages.page_count() / 16, options.metadata_cache_bytes / kBlockBytes / 4));
  if (journal_full || pages.dirty_count() > dirty_bound) context.executor().post(checkpoint_task);
}

}  // namespace basalt::blob
