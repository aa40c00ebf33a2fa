// BlobStore: transactions and lookup. Opening is in open.cc, space in space.cc, data transfers in data_io.cc, verification in verify.cc.
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
    s.superblock.open_for_writing = kNotOpen;
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
bool BlobStore::has_data_checksums() const { return impl_->state.data_checksums; }
ChannelPool& BlobStore::channels() { return impl_->pool; }
Status BlobStore::health() { return impl_->health(); }
bool BlobStore::device_was_away() const { return impl_->device_lost.load(); }

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

// While the device is away nothing succeeds. So a flush that could miss what was lost was submitted after the
// return, and completes after this.
void BlobStore::Impl::on_event(Device&, DeviceEvent event) {
  if (event == DeviceEvent::removed) device_lost.store(true);
}

StatusCode BlobStore::Impl::judge(StatusCode code) {
  if (code == StatusCode::device_removed) device_lost.store(true);
  if (device_lost.load() && !planted("absence_forgotten")) return StatusCode::device_removed;
  return code;
}

Status BlobStore::Impl::check_device() {
  if (judge(StatusCode::ok) == StatusCode::ok) return {};
  return Status(StatusCode::device_removed,
                device.info().uri + ": the device has been away; what it had not written is lost");
}

StoreSpace BlobStore::space() {
  const MutexLock lock(impl_->meta);
  StoreSpace space;
  space.cluster_bytes = impl_->superblock.cluster_bytes;
  space.cluster_count = impl_->state.cluster_count;
  space.free_clusters = impl_->state.space().free_clusters();
  space.kept_clusters = std::min(space.free_clusters, impl_->clusters_kept());
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
  if (const Status there = check_device(); !there.ok()) poison(there);
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
    s.note_unwritten(ticket, effects);
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

void BlobStore::Impl::note_unwritten(Ticket ticket, const std::vector<Effect>& effects) {
  for (const Effect& effect : effects) {
    const bool makes_unwritten =
        effect.kind == Effect::Kind::set_state && effect.extent.state == ExtentState::unwritten;
    if (makes_unwritten) unwritten_ticket.store(ticket.value);
  }
}

// Tells open blobs and the allocator. Meta held. What a transaction does to a blob, it does at once: clusters that are
// exchanged are never seen to be missing.
void BlobStore::Impl::publish(Ticket, const std::vector<Effect>& effects,
                              std::vector<Blob*>& to_drain) {
  std::unique_lock<SharedMutex> map;
  for (const Effect& effect : effects) {
    if (effect.kind == Effect::Kind::freed) {
      state.space().excluded().add(effect.extent.physical / state.cluster_blocks,
                                   effect.extent.count / state.cluster_blocks);
      continue;
    }
    const auto found = open_blobs.find(effect.blob);
    if (found == open_blobs.end()) continue;
    Blob& blob = *found->second;
    if (map.mutex() != &blob.map_lock_) map = std::unique_lock(blob.map_lock_);
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

void BlobStore::Impl::on_durable(Ticket ticket) {
  const MutexLock lock(meta);
  if (!freed.empty()) release_durable(ticket);
  if (keeper != nullptr) keeper->durable(ticket);
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
  s.note_unwritten(ticket, effects);
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
    BASALT_TRY_ASSIGN(const BlobRecord record, s.state.record(id));
    BASALT_TRY_ASSIGN(const auto extents, s.state.extents(id, {0, kMaxBlobBlocks}));
    auto blob = std::make_unique<Blob>();
    blob->id_ = id;
    blob->has_checksums_ = (record.flags & kBlobChecksums) != 0;
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
  constexpr uint64_t kMaxChecksums = 8192;  // half of what a transaction may hold
  blob.map_lock_.lock_shared();
  unsigned ranges = 0;
  uint64_t checksums = 0;
  bool more = false;
  for (const Extent& extent : blob.extents_.all()) {
    if (extent.state != ExtentState::pending) continue;
    if (ranges++ == kMaxRanges || checksums == kMaxChecksums) {
      more = true;
      break;
    }
    BlockRange range{extent.logical, extent.count};
    if (blob.has_checksums_) {
      range.count = std::min(range.count, kMaxChecksums - checksums);
      checksums += range.count;
      more |= range.count < extent.count;
      record_checksums(txn, blob, range);
    }
    txn.set_state(blob.id(), range, ExtentState::written);
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
