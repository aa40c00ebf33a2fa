// BlobStore: transactions, space, lookup. Opening is in open.cc, data transfers in data_io.cc.
#include "blob/blob_store.h"

#include "base/check.h"
#include "base/planted.h"
#include "base/try.h"
#include "blob/store_impl.h"

#include <algorithm>

namespace basalt::blob {

BlobStore::BlobStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

BlobStore::~BlobStore() {
  if (impl_ == nullptr || impl_->closing) return;
  if (const Status status = close(); !status.ok()) {
    impl_->context.log().log(LogLevel::error, "blob", "close: " + status.to_string());
  }
}

Status BlobStore::close() {
  Impl& s = *impl_;
  if (s.closing) return {};
  s.closing = true;
  set_keeper(nullptr);
  if (s.journal == nullptr) return {};
  s.context.executor().cancel(s.checkpoint_task);
  s.context.executor().cancel(s.discard_task);
  s.journal->quiesce();
  {
    const MutexLock lock(s.meta);
    s.superblock.open_for_writing = 0;
  }
  BASALT_TRY(s.checkpoint());
  BASALT_TRY_ASSIGN(auto lease, s.pool.lease());
  return s.flip_again(*lease);
}

void BlobStore::abandon() {
  Impl& s = *impl_;
  s.closing = true;
  if (s.journal == nullptr) return;
  {
    const MutexLock lock(s.meta);
    s.keeper = nullptr;
    s.poison(Status(StatusCode::canceled, "abandoned"));
  }
  s.context.executor().cancel(s.checkpoint_task);
  s.context.executor().cancel(s.discard_task);
  s.journal->quiesce();
}

const StoreIdentity& BlobStore::identity() const { return impl_->identity; }
const std::vector<std::string>& BlobStore::recovery_notes() const { return impl_->notes; }
Device& BlobStore::device() { return impl_->device; }
ChannelPool& BlobStore::channels() { return impl_->pool; }
Status BlobStore::health() { return impl_->health(); }

Status BlobStore::Impl::health() {
  const MutexLock lock(meta);
  return failure;
}

void BlobStore::Impl::poison(const Status& status) {
  if (!failure.ok()) return;
  failure = Status(StatusCode::read_only,
                   "the store is read-only after a failure: " + std::string(status.message()));
  const bool on_purpose = status.code() == StatusCode::canceled;
  context.log().log(on_purpose ? LogLevel::debug : LogLevel::error, "blob", failure.to_string());
  if (journal) journal->fail(failure);
}

void BlobStore::Impl::on_failure(const Status& status) {
  const MutexLock lock(meta);
  poison(status);
}

StoreSpace BlobStore::space() {
  const MutexLock lock(impl_->meta);
  StoreSpace space;
  space.cluster_bytes = impl_->superblock.cluster_bytes;
  space.cluster_count = impl_->state.cluster_count;
  space.free_clusters = impl_->state.space().free_clusters();
  space.metadata_pages = impl_->pages.page_count();
  space.free_metadata_pages = impl_->pages.map().free_count();
  return space;
}

StoreStats BlobStore::stats() {
  StoreStats stats;
  {
    const MutexLock lock(impl_->meta);
    stats.transactions = impl_->transactions;
    stats.checkpoints = impl_->checkpoints;
    stats.damaged_copies_used = impl_->pages.damaged_copies_used();
  }
  if (impl_->journal) {
    stats.commits = impl_->journal->records_written();
    stats.journal_bytes = impl_->journal->bytes_written();
  }
  return stats;
}

// ---- Transactions

BlobId BlobStore::new_blob_id() {
  const MutexLock lock(impl_->meta);
  return BlobId{impl_->state.next_blob_id++};
}

Ticket BlobStore::last_ticket() {
  const MutexLock lock(impl_->meta);
  return impl_->last_ticket;
}

Ticket BlobStore::durable_ticket() {
  return impl_->journal ? impl_->journal->durable() : last_ticket();
}

void BlobStore::set_keeper(TransactionKeeper* keeper) {
  const MutexLock lock(impl_->meta);
  impl_->keeper = keeper;
}

// A transaction must never find the metadata region full half-way: demand more than it can use. What
// only frees may go into the reserve, so that a full store can be emptied.
Status BlobStore::Impl::make_metadata_room(std::span<const std::byte> operations, bool only_frees,
                                           MutexLock& lock) {
  const uint64_t reserve = only_frees ? 0 : std::max<uint64_t>(64, pages.page_count() / 8);
  for (int checkpoints_made = 0;; ++checkpoints_made) {
    BASALT_TRY(failure);
    BASALT_TRY_ASSIGN(const Footprint footprint, state.check(operations));
    const uint64_t wanted = reserve + state.pages_needed(footprint);
    const uint64_t available = pages.map().free_count();
    if (available >= wanted) return {};
    if (checkpoints_made == 2) {
      return Status(StatusCode::no_space,
                    "the metadata region is full: " + std::to_string(available) + " of " +
                        std::to_string(pages.page_count()) + " pages free, " +
                        std::to_string(wanted) +
                        " wanted; delete files, or format with a larger metadata_bytes");
    }
    lock.unlock();
    BASALT_TRY(checkpoint());  // two flips let go of all superseded pages
    lock.lock();
  }
}

Result<Ticket> BlobStore::apply(Transaction& txn) {
  Impl& s = *impl_;
  if (s.journal == nullptr) return error(StatusCode::read_only, "the store was opened for reading");
  if (txn.oversized_ || txn.bytes_.size() > Transaction::kMaxBytes) {
    return error(StatusCode::too_large, "transaction of " + std::to_string(txn.bytes_.size()) +
                                            " bytes, or a key or value too long; the limits are " +
                                            std::to_string(Transaction::kMaxBytes) + ", " +
                                            std::to_string(kMaxKeyBytes) + " and " +
                                            std::to_string(kMaxValueBytes) + " bytes");
  }
  std::vector<Effect> effects;
  std::vector<Blob*> to_drain;
  bool kept = true;
  size_t queued_bytes = 0;
  Ticket ticket;
  {
    MutexLock lock(s.meta);
    BASALT_TRY(s.make_metadata_room(txn.bytes_, txn.only_frees_ && txn.any_frees_, lock));
    if (const Status status = s.state.apply(txn.bytes_, effects); !status.ok()) {
      s.poison(status);  // part of it may be applied: nothing more may be built on this state
      return error(status);
    }
    ticket = s.last_ticket = Ticket{s.last_ticket.value + 1};
    ++s.transactions;
    for (const auto& piece : txn.reservations_) {
      s.state.space().excluded().remove(piece.first_cluster, piece.count);
    }
    txn.reservations_.clear();
    if (s.keeper != nullptr) kept = s.keeper->keep(ticket, txn.bytes_);
    queued_bytes = s.journal->append(ticket, txn.bytes_, txn.op_count_, txn.needs_data_flush_);
    s.publish(ticket, effects, to_drain);
    s.pages.trim();
    s.post_checkpoint_if_due();
  }
  // I/O that looked the old extents up must have left before their space is used again.
  for (Blob* blob : to_drain) blob->gate_.drain();
  if (!to_drain.empty()) {
    const MutexLock lock(s.meta);
    for (Blob* blob : to_drain) {
      if (--blob->references_ == 0) s.open_blobs.erase(blob->id());
    }
  }
  bool any_freed = false;
  for (const Effect& effect : effects) any_freed |= effect.kind == Effect::Kind::freed;
  if (any_freed) {
    const MutexLock lock(s.meta);
    const uint64_t unit = s.state.cluster_blocks;
    for (const Effect& effect : effects) {
      if (effect.kind != Effect::Kind::freed) continue;
      if (planted("space_reused_early")) {
        s.release_range(effect.extent.physical / unit, effect.extent.count / unit);
        continue;
      }
      s.freed.push_back({ticket, effect.extent.physical / unit, effect.extent.count / unit});
    }
    s.release_durable(s.journal->durable());  // on_durable() may have come before the push
  }
  if (!kept || queued_bytes > Journal::kMaxQueuedBytes) BASALT_TRY(s.journal->wait(ticket));
  return ticket;
}

// Tells open blobs and the allocator. Meta held.
void BlobStore::Impl::publish(Ticket, const std::vector<Effect>& effects,
                              std::vector<Blob*>& to_drain) {
  for (const Effect& effect : effects) {
    if (effect.kind == Effect::Kind::freed) {
      state.space().excluded().add(effect.extent.physical / state.cluster_blocks,
                                   effect.extent.count / state.cluster_blocks);
      continue;
    }
    const auto found = open_blobs.find(effect.blob);
    if (found == open_blobs.end()) continue;
    Blob& blob = *found->second;
    const std::lock_guard map(blob.map_lock_);
    const BlockRange range{effect.extent.logical, effect.extent.count};
    switch (effect.kind) {
      case Effect::Kind::map: blob.extents_.set(effect.extent); break;
      case Effect::Kind::set_state: blob.extents_.set_state(range, effect.extent.state); break;
      case Effect::Kind::unmap:
        blob.extents_.erase(range);
        if (std::find(to_drain.begin(), to_drain.end(), &blob) == to_drain.end()) {
          ++blob.references_;
          to_drain.push_back(&blob);
        }
        break;
      case Effect::Kind::freed: break;
    }
  }
}

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

void BlobStore::Impl::on_durable(Ticket ticket) {
  const MutexLock lock(meta);
  if (!freed.empty()) release_durable(ticket);
  if (keeper != nullptr) keeper->durable(ticket);
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
  if (freed.empty() && !discarding) return false;
  const Ticket last = last_ticket;
  const bool for_discard = freed.empty();
  lock.unlock();
  if (for_discard) {
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

Status BlobStore::wait_durable(Ticket ticket) {
  if (impl_->journal == nullptr) return {};
  return impl_->journal->wait(ticket);
}

void BlobStore::when_durable(DurableWaiter& waiter) {
  BASALT_CHECK(impl_->journal != nullptr, "when_durable on a store opened for reading");
  impl_->journal->when_durable(waiter);
}

Status BlobStore::replay_kept(Ticket ticket, std::span<const std::byte> bytes) {
  Impl& s = *impl_;
  const MutexLock lock(s.meta);
  BASALT_TRY(s.failure);
  if (s.journal == nullptr)
    return Status(StatusCode::read_only, "the store was opened for reading");
  if (ticket.value != s.last_ticket.value + 1) {
    return Status(StatusCode::invalid_argument, "kept transaction " + std::to_string(ticket.value) +
                                                    " does not follow " +
                                                    std::to_string(s.last_ticket.value));
  }
  BASALT_TRY_ASSIGN([[maybe_unused]] const Footprint footprint, s.state.check(bytes));
  std::vector<Effect> effects;
  if (const Status status = s.state.apply(bytes, effects); !status.ok()) {
    s.poison(status);
    return status;
  }
  s.last_ticket = ticket;
  ++s.transactions;
  s.pages.trim();
  // Data the transaction speaks of was written by the process that died: flush before the record.
  s.journal->append(ticket, bytes, 0, true);
  for (const Effect& effect : effects) {
    if (effect.kind != Effect::Kind::freed) continue;
    const uint64_t unit = s.state.cluster_blocks;
    s.state.space().excluded().add(effect.extent.physical / unit, effect.extent.count / unit);
    s.freed.push_back({ticket, effect.extent.physical / unit, effect.extent.count / unit});
  }
  return {};
}

Status BlobStore::checkpoint() {
  if (impl_->journal == nullptr) {
    return Status(StatusCode::read_only, "the store was opened for reading");
  }
  return impl_->checkpoint();
}

// ---- Space

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
      auto runs = s.state.space().reserve((stop - at) / unit, hint);
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
  BASALT_TRY_ASSIGN(const auto present, s.state.extents(id, {first, end - first}));
  s.pages.trim();
  if (present.empty()) return BlockRange{};
  // As many as one transaction may free; where metadata pages are short, as many as they allow, with
  // some left for what else the transaction does (the deletion itself, a name).
  uint64_t most = kMaxExtentsPerFree;
  const auto too_many = [&] {
    Footprint footprint = State::footprint_of_unmap(most);
    footprint.places += 16;
    return s.state.pages_needed(footprint) > s.pages.map().free_count();
  };
  while (most > 1 && too_many()) most /= 2;
  uint64_t stop = end;
  if (present.size() > most) {
    const uint64_t cut = present[most - 1].end() / unit * unit;
    stop = std::min(end, std::max(cut, first + unit));
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

// ---- Lookup

Result<BlobInfo> BlobStore::info(BlobId id) {
  const MutexLock lock(impl_->meta);
  BASALT_TRY_ASSIGN(const BlobRecord record, impl_->state.record(id));
  impl_->pages.trim();
  return BlobInfo{record.size_bytes, record.allocated_blocks, record.flags, BlobId{record.parent}};
}

Result<std::string> BlobStore::attribute(BlobId id, std::string_view name) {
  const MutexLock lock(impl_->meta);
  BASALT_TRY_ASSIGN(auto value,
                    impl_->state.objects().get(object_key(id, ObjectKind::attribute, name)));
  impl_->pages.trim();
  if (!value) {
    return error(StatusCode::not_found, "blob " + std::to_string(id.value) + " has no attribute '" +
                                            std::string(name) + "'");
  }
  return std::move(*value);
}

Result<std::string> BlobStore::catalog_get(std::string_view key) {
  const MutexLock lock(impl_->meta);
  BASALT_TRY_ASSIGN(auto value, impl_->state.catalog().get(key));
  impl_->pages.trim();
  if (!value) return error(StatusCode::not_found, "no such catalog key");
  return std::move(*value);
}

Status BlobStore::catalog_scan(
    std::string_view from,
    const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  const MutexLock lock(impl_->meta);
  Tree::Cursor cursor(impl_->state.catalog());
  BASALT_TRY(cursor.seek(from));
  // Seek anew every so often, so that a long scan stays within the cache's bound.
  for (unsigned n = 1; cursor.valid() && visit(cursor.key(), cursor.value()); ++n) {
    if (n % 4096 != 0) {
      BASALT_TRY(cursor.next());
      continue;
    }
    std::string next(cursor.key());
    next.push_back('\0');
    impl_->pages.trim();
    BASALT_TRY(cursor.seek(next));
  }
  impl_->pages.trim();
  return {};
}

Status BlobStore::for_each_blob(const std::function<bool(BlobId id, const BlobInfo& info)>& visit) {
  const MutexLock lock(impl_->meta);
  const Status status = impl_->state.for_each_blob([&](BlobId id, const BlobRecord& record) {
    return visit(id, BlobInfo{record.size_bytes, record.allocated_blocks, record.flags,
                              BlobId{record.parent}});
  });
  impl_->pages.trim();
  return status;
}

// ---- Open blobs

Result<BlobRef> BlobStore::open_blob(BlobId id) {
  Impl& s = *impl_;
  const MutexLock lock(s.meta);
  auto found = s.open_blobs.find(id);
  if (found == s.open_blobs.end()) {
    BASALT_TRY_ASSIGN([[maybe_unused]] const BlobRecord record, s.state.record(id));
    BASALT_TRY_ASSIGN(const auto extents, s.state.extents(id, {0, kMaxBlobBlocks}));
    auto blob = std::make_unique<Blob>();
    blob->id_ = id;
    for (const Extent& extent : extents) blob->extents_.set(extent);
    s.pages.trim();
    found = s.open_blobs.emplace(id, std::move(blob)).first;
  }
  ++found->second->references_;
  return BlobRef(this, found->second.get());
}

void BlobStore::release(Blob* blob) {
  const MutexLock lock(impl_->meta);
  if (--blob->references_ == 0) impl_->open_blobs.erase(blob->id());
}

BlobRef::~BlobRef() {
  if (blob_ != nullptr) store_->release(blob_);
}

std::vector<Extent> BlobStore::extents(Blob& blob, BlockRange range) {
  blob.map_lock_.lock_shared();
  std::vector<Extent> found;
  for (auto at = blob.extents_.lower(range.first);
       at != blob.extents_.end() && at->logical < range.end(); ++at) {
    found.push_back(*at);
  }
  blob.map_lock_.unlock_shared();
  return found;
}

bool BlobStore::mark_written(Transaction& txn, Blob& blob) {
  constexpr unsigned kMaxRanges = 256;
  blob.map_lock_.lock_shared();
  unsigned ranges = 0;
  bool more = false;
  for (const Extent& extent : blob.extents_.all()) {
    if (extent.state != ExtentState::pending) continue;
    if (ranges++ == kMaxRanges) {
      more = true;
      break;
    }
    txn.set_state(blob.id(), {extent.logical, extent.count}, ExtentState::written);
  }
  blob.map_lock_.unlock_shared();
  if (ranges > 0) txn.require_data_flush();
  return more;
}

void BlobStore::mark_unwritten(Transaction& txn, Blob& blob, BlockRange range) {
  for (const Extent& extent : extents(blob, range)) {
    const uint64_t first = std::max(extent.logical, range.first);
    const uint64_t end = std::min(extent.end(), range.end());
    txn.set_state(blob.id(), {first, end - first}, ExtentState::unwritten);
  }
}

}  // namespace basalt::blob
