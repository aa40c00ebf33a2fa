// Space: given to blobs and taken away, and when what was freed may be given out again (docs/format/store.md, "Space
// that is freed").
#include "base/planted.h"
#include "base/try.h"
#include "blob/store_impl.h"

#include <algorithm>

namespace basalt::blob {

// ---- Given and taken

Status BlobStore::allocate(Transaction& txn, BlobId id, BlockRange range) {
  Impl& s = *impl_;
  if (range.empty()) return {};
  if (!within_blob(range)) {
    return Status(StatusCode::out_of_range,
                  "blob " + std::to_string(id.value) + ": block " + std::to_string(range.first) +
                      " + " + std::to_string(range.count) + " is beyond what a blob can hold");
  }
  txn.keeper_ = &s;
  MutexLock lock(s.meta);
  while (true) {
    BASALT_TRY(s.failure);
    const uint64_t unit = s.state.cluster_blocks;
    const uint64_t first = range.first / unit * unit;
    const uint64_t end = (range.end() + unit - 1) / unit * unit;
    BASALT_TRY_ASSIGN(const auto present,
                      s.state.extents(id, {first == 0 ? 0 : first - 1, end - first + 1}));
    ExtentMap mapped;  // by earlier transactions and this one
    for (const Extent& extent : present) mapped.set(extent);
    for (const auto& [blob, extent] : txn.mapped_) {
      if (blob == id) mapped.set(extent);
    }
    std::vector<Extent> planned;
    std::vector<Transaction::Reservation> taken;
    Status status;
    for (uint64_t at = first; at < end && status.ok();) {
      if (const Extent* there = mapped.find(at)) {
        at = there->end();
        continue;
      }
      const auto after = mapped.lower(at);
      const uint64_t stop = after == mapped.end() ? end : std::min(end, after->logical);
      const Extent* before = at == 0 ? nullptr : mapped.find(at - 1);
      const uint64_t hint =
          before ? (before->physical + before->count) / unit : ~uint64_t{0} / unit;
      auto runs = s.state.space().reserve((stop - at) / unit, hint, s.clusters_kept());
      if (!runs) {
        status = runs.error();
        break;
      }
      for (const auto& run : *runs) {
        Extent extent{at, run.first_cluster * unit, run.count * unit, ExtentState::unwritten};
        if (planted("space_not_unwritten")) extent.state = ExtentState::written;
        planned.push_back(extent);
        mapped.set(extent);
        taken.push_back(run);
        at = extent.end();
      }
    }
    if (status.ok()) {
      for (const Extent& extent : planned) {
        txn.map(id, extent);
        txn.mapped_.emplace_back(id, extent);
      }
      txn.reservations_.insert(txn.reservations_.end(), taken.begin(), taken.end());
      s.pages.trim();
      return {};
    }
    for (const auto& run : taken) {
      s.state.space().excluded().remove(run.first_cluster, run.count);
    }
    // Space freed by transactions not yet durable, or being discarded, becomes usable soon.
    if (status.code() != StatusCode::no_space || !s.wait_for_space(lock)) {
      return status.with_context("blob " + std::to_string(id.value));
    }
  }
}

namespace {

// Where the first `most` groups of checksums that the extents have from block `first` on end.
uint64_t end_of_groups(std::span<const Extent> extents, uint64_t first, uint64_t most) {
  uint64_t left = most, counted = 0;  // groups below `counted` are accounted for
  for (const Extent& extent : extents) {
    const uint64_t from = std::max(counted, std::max(first, extent.logical) / kChecksumGroupBlocks);
    counted = std::max(counted, (extent.end() - 1) / kChecksumGroupBlocks + 1);
    if (counted - from > left) return (from + left) * kChecksumGroupBlocks;
    left -= counted - from;
  }
  return kMaxBlobBlocks;
}

}  // namespace

Result<BlockRange> BlobStore::free_range(Transaction& txn, BlobId id, BlockRange range) {
  Impl& s = *impl_;
  const MutexLock lock(s.meta);
  BASALT_TRY(s.failure);
  const uint64_t unit = s.state.cluster_blocks;
  if (range.empty()) return BlockRange{};
  if (!within_blob(range)) {
    return error(StatusCode::out_of_range,
                 "blob " + std::to_string(id.value) + ": block " + std::to_string(range.first) +
                     " + " + std::to_string(range.count) + " is beyond what a blob can hold");
  }
  const uint64_t first = (range.first + unit - 1) / unit * unit;
  const uint64_t end = range.end() / unit * unit;
  if (first >= end) return BlockRange{};
  BASALT_TRY_ASSIGN(const BlobRecord record, s.state.record(id));
  BASALT_TRY_ASSIGN(const auto present, s.state.extents(id, {first, end - first}));
  s.pages.trim();
  if (present.empty()) return BlockRange{};
  const bool has_checksums = (record.flags & kBlobChecksums) != 0;
  // As many as one transaction may free; where metadata pages are short, as many as they allow, with
  // some left for what else the transaction does (the deletion itself, a name).
  uint64_t most = kMaxExtentsPerFree;
  const auto most_groups = [&] {
    return has_checksums ? most * (kMaxChecksumGroupsPerFree / kMaxExtentsPerFree) : 0;
  };
  const auto too_many = [&] {
    Footprint footprint = State::footprint_of_unmap(most, most_groups());
    footprint.places += 16;
    return s.state.pages_needed(footprint) > s.pages.map().free_count();
  };
  while (most > 1 && too_many()) most /= 2;
  uint64_t stop = end;
  if (present.size() > most) {
    const uint64_t cut = present[most - 1].end() / unit * unit;
    stop = std::min(end, std::max(cut, first + unit));
  }
  if (has_checksums) {
    const uint64_t cut = end_of_groups(present, first, most_groups()) / unit * unit;
    stop = std::min(stop, std::max(cut, first + unit));
  }
  txn.unmap(id, {first, stop - first});
  return stop == end ? BlockRange{} : BlockRange{stop, end - stop};
}

Status BlobStore::delete_blob(BlobId id) {
  BlockRange left{0, kMaxBlobBlocks};
  while (true) {
    Transaction txn;
    BASALT_TRY_ASSIGN(left, free_range(txn, id, left));
    if (left.empty()) txn.delete_blob(id);
    BASALT_TRY_ASSIGN([[maybe_unused]] const Ticket ticket, apply(txn));
    if (left.empty()) return {};
  }
}

Status BlobStore::resume_orphans() {
  std::vector<BlobId> ids;
  {
    const MutexLock lock(impl_->meta);
    BASALT_TRY_ASSIGN(ids, impl_->state.orphans());
  }
  for (const BlobId id : ids) BASALT_TRY(delete_blob(id));
  return {};
}

// Adds to `txn` the exchange of the clusters at `range` for free ones; `planned` says for which. Once it has
// succeeded, end_replacement() follows when the transaction is applied or dropped.
Status BlobStore::plan_replacement(Transaction& txn, Blob& blob, BlockRange range,
                                   std::vector<Extent>& planned) {
  Impl& s = *impl_;
  const uint64_t unit = s.state.cluster_blocks;
  txn.keeper_ = &s;
  MutexLock lock(s.meta);
  while (true) {
    BASALT_TRY(s.failure);
    const auto runs = s.state.space().reserve(range.count / unit, ~uint64_t{0} / unit);
    s.pages.trim();
    if (runs) {
      txn.unmap(blob.id(), range);
      uint64_t at = range.first;
      for (const Transaction::Reservation& run : *runs) {
        planned.push_back({at, run.first_cluster * unit, run.count * unit, {}});
        txn.map(blob.id(), planned.back());
        txn.reservations_.push_back(run);
        at = planned.back().end();
      }
      ++s.exchanges;
      return {};
    }
    // Space freed by transactions not yet durable, or being discarded, becomes usable soon.
    if (runs.error().code() != StatusCode::no_space || !s.wait_for_space(lock)) {
      return runs.error().with_context("blob " + std::to_string(blob.id().value) +
                                       ": overwriting, for new clusters");
    }
  }
}

void BlobStore::end_replacement() {
  const MutexLock lock(impl_->meta);
  --impl_->exchanges;
}

// ---- Freed: durable, perhaps discarded, then free again

void BlobStore::Impl::release_range(uint64_t first_cluster, uint64_t count) {
  if (options.discard && device.info().native.has(Op::discard)) {
    if (to_discard.empty()) context.executor().post(discard_task, DiscardQueue::kGatherTime);
    to_discard.add(first_cluster, count);
  } else {
    state.space().excluded().remove(first_cluster, count);
  }
}

void BlobStore::Impl::release_durable(Ticket ticket) {
  std::erase_if(freed, [&](const Freed& range) {
    if (range.ticket > ticket) return false;
    release_range(range.first_cluster, range.count);
    return true;
  });
}

void BlobStore::Impl::discard_released() {
  const uint64_t scale = uint64_t{state.cluster_blocks} * kBlockBytes / device.info().block_size;
  MutexLock lock(meta);
  while (const auto range = to_discard.take(context.clock().now())) {
    discarding = true;
    lock.unlock();
    if (auto lease = pool.lease()) {
      Io io;
      io.op = Op::discard;
      io.lba = Lba{range->first * scale};
      io.block_count = BlockCount{range->count * scale};
      (void)run(**lease, io);  // a hint: a device that refuses loses nothing
    }
    lock.lock();
    discarding = false;
    state.space().excluded().remove(range->first, range->count);
  }
  if (to_discard.empty()) return;
  context.executor().post(discard_task, to_discard.wait_time(context.clock().now()));
}

// Waits for one of the things that give space back; false when nothing is under way.
bool BlobStore::Impl::wait_for_space(MutexLock& lock) {
  if (!to_discard.empty()) {  // a discard is only a hint: the space may be used without it
    while (const auto range = to_discard.give_up()) {
      state.space().excluded().remove(range->first, range->count);
    }
    return true;
  }
  if (freed.empty() && !discarding && exchanges == 0) return false;
  const Ticket last = last_ticket;
  const bool for_others = freed.empty();  // who have not come so far
  lock.unlock();
  if (for_others) {
    sleep_for(std::chrono::microseconds(100));
  } else if (!journal->wait(last).ok()) {
    lock.lock();
    return false;
  }
  lock.lock();
  release_durable(journal->durable());
  return true;
}

void BlobStore::Impl::give_back(std::span<const Transaction::Reservation> reservations) {
  const MutexLock lock(meta);
  for (const auto& piece : reservations) {
    state.space().excluded().remove(piece.first_cluster, piece.count);
  }
}

}  // namespace basalt::blob
