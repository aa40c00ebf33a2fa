// Opening a store: choose a superblock, load what it points to, replay the journal, take it over.
//
// Nothing is written before recovery has succeeded. Taking over gives the store a new epoch, recorded
// in both superblocks before the first journal record of that epoch, so that nothing written before can
// pass for something written after, and neither superblock alone is needed to know the epoch.
#include "base/try.h"
#include "base/planted.h"
#include "blob/block_io.h"
#include "blob/store_impl.h"

#include <algorithm>
#include <cstring>

namespace basalt::blob {
namespace {

Status no_store(const SuperblockPair& pair) {
  const bool nothing = pair.problems[0].code() != StatusCode::corruption &&
                       pair.problems[1].code() != StatusCode::corruption;
  return Status(
      nothing ? pair.problems[0].code() : StatusCode::corruption,
      std::string(pair.problems[0].message()) + "; " + std::string(pair.problems[1].message()));
}

}  // namespace

Status check_features(const Superblock& sb, OpenMode mode) {
  if (const uint64_t unknown = sb.incompatible_features & ~kKnownIncompatible;
      unknown != 0 && !planted("features_incompatible")) {
    return Status(StatusCode::unsupported, "the store uses incompatible features " +
                                               std::to_string(unknown) +
                                               " unknown to this version; use a newer one");
  }
  const uint64_t unknown = sb.read_only_features & ~kKnownReadOnlyCompatible;
  if (unknown != 0 && mode == OpenMode::read_write && !planted("features_read_only")) {
    return Status(StatusCode::unsupported, "the store uses features " + std::to_string(unknown) +
                                               " that this version can only read; open read-only");
  }
  return {};
}

BlobStore::Impl::Impl(Context& ctx, Device& dev, const StoreOptions& opts, const Superblock& sb)
    : context(ctx),
      device(dev),
      options(opts),
      pool(dev, opts.max_channels),
      superblock(sb),
      pages(ctx, pool, sb.uuid, opts.metadata_cache_bytes),
      state(pages),
      to_discard(sb.cluster_bytes, opts.discard_bytes_per_second) {
  std::vector<MetadataRun> runs(sb.metadata_runs, sb.metadata_runs + sb.metadata_run_count);
  pages.set_runs(std::move(runs));
  pages.set_building(sb.checkpoint_generation + 1);
  state.cluster_blocks = sb.cluster_bytes / kBlockBytes;
  state.cluster_count = sb.cluster_count;
  state.data_checksums = (sb.incompatible_features & kFeatureDataChecksums) != 0;
  state.next_blob_id = std::max<uint64_t>(sb.next_blob_id, kFirstBlobId);
  state.blob_count = sb.blob_count;
  state.space().set_free_clusters(sb.free_clusters);
  state.objects().root = sb.trees[static_cast<unsigned>(TreeId::objects)];
  state.catalog().root = sb.trees[static_cast<unsigned>(TreeId::catalog)];
  state.space().tree().root = sb.trees[static_cast<unsigned>(TreeId::space)];
  state.references().root = sb.trees[static_cast<unsigned>(TreeId::references)];
  last_ticket = Ticket{sb.transaction_sequence};
  older_journal_position = sb.journal_position;
  checkpoint_task.run = [this] { (void)checkpoint(); };
  discard_task.run = [this] { discard_released(); };
  device.add_listener(*this);
}

BlobStore::Impl::~Impl() {
  device.remove_listener(*this);
  context.executor().cancel(checkpoint_task);
  context.executor().cancel(discard_task);
}

Status BlobStore::Impl::load() {
  return pages.load_page_map(superblock.page_map, pages.page_count());
}

Status BlobStore::Impl::replay(Channel& channel) {
  const JournalGeometry geometry{superblock.journal_first_block, superblock.journal_blocks};
  JournalCursor cursor{superblock.journal_position, superblock.journal_sequence};
  std::vector<Effect> effects;
  BASALT_TRY(recover_journal(channel, device.info(), superblock.uuid, geometry, superblock.epoch,
                             cursor, last_ticket,
                             [&](Ticket, std::span<const std::byte> operations) {
                               effects.clear();
                               pages.trim();
                               return state.apply(operations, effects);
                             }));
  superblock.journal_position = cursor.position;
  superblock.journal_sequence = cursor.sequence;
  return {};
}

Status BlobStore::Impl::become_writer(Channel& channel, bool replayed) {
  // What was accepted may still sit in a volatile cache; make it durable before building on it.
  if (!planted("recovery_not_flushed")) BASALT_TRY(flush_device(channel, "recovery"));
  BASALT_TRY(check_device());
  if (!planted("epoch_kept")) superblock.epoch = superblock.epoch + 1;
  if (!planted("open_id_kept")) context.random().fill(identity.open_id);
  superblock.open_id = identity.open_id;
  std::memset(superblock.boot_id, 0, sizeof superblock.boot_id);
  const std::string& boot_id = context.boot_id();
  std::memcpy(superblock.boot_id, boot_id.data(),
              std::min(boot_id.size(), sizeof superblock.boot_id - 1));
  superblock.open_for_writing = options.has_tail ? kOpenWithTail : kOpenWithoutTail;
  if (planted("open_not_recorded")) superblock.open_for_writing = kNotOpen;
  identity.epoch = superblock.epoch;
  if (options.before_takeover) BASALT_TRY(options.before_takeover(identity));
  const JournalGeometry geometry{superblock.journal_first_block, superblock.journal_blocks};
  journal = std::make_unique<Journal>(context, device, superblock.uuid, geometry, *this);
  const JournalCursor cursor{superblock.journal_position, superblock.journal_sequence};
  BASALT_TRY(journal->start(superblock.epoch, cursor, cursor.position, last_ticket));
  if (replayed) {
    BASALT_TRY(checkpoint());
  } else {
    BASALT_TRY(flip_again(channel));
  }
  owner_recorded = true;
  if (!planted("old_superblock_kept")) BASALT_TRY(flip_again(channel));
  pages.mend_copies([this] { return may_mend(); });
  return {};
}

// Meta held: the store is healthy and still ours.
bool BlobStore::Impl::may_mend() {
  if (!failure.ok()) return false;
  const auto lease = pool.lease();
  return lease && check_owner(**lease).ok();
}

Result<std::unique_ptr<BlobStore::Impl>> open_impl(Context& context, Device& device,
                                                   const StoreOptions& options) {
  BASALT_TRY_ASSIGN(auto channel, device.open_channel());
  BASALT_TRY_ASSIGN(const SuperblockPair pair, read_superblocks(*channel, device.info()));
  const auto newest = pair.newest();
  if (!newest) return error(no_store(pair));
  std::vector<std::string> notes;
  for (unsigned slot = 0; slot < 2; ++slot) {
    if (!pair.slots[slot]) {
      notes.push_back(std::string(pair.problems[slot].message()) +
                      "; the other superblock is good and was used");
    }
  }
  // The newest first; the older describes a complete starting point too.
  Status first_problem;
  for (const unsigned slot : {*newest, 1 - *newest}) {
    if (!pair.slots[slot]) continue;
    const Superblock& sb = *pair.slots[slot];
    BASALT_TRY(check_features(sb, options.mode));
    auto impl = std::make_unique<BlobStore::Impl>(context, device, options, sb);
    impl->notes = notes;
    Status status = impl->load();
    if (status.ok()) status = impl->replay(*channel);
    if (status.ok()) {
      impl->identity.uuid = sb.uuid;
      impl->identity.previous_open_id = sb.open_id;
      impl->identity.previous_boot_id.assign(sb.boot_id, strnlen(sb.boot_id, sizeof sb.boot_id));
      impl->identity.previous_open_was_writer = sb.open_for_writing != kNotOpen;
      impl->identity.previous_open_has_tail = sb.open_for_writing == kOpenWithTail;
      impl->identity.epoch = sb.epoch;
      const bool replayed = impl->last_ticket.value != sb.transaction_sequence;
      if (options.mode == OpenMode::read_write) {
        const bool checkpoints = replayed && !planted("replay_not_checkpointed");
        BASALT_TRY(impl->become_writer(*channel, checkpoints));
      }
      for (const std::string& note : impl->notes)
        context.log().log(LogLevel::warning, "blob", note);
      const std::vector<std::string>& damage = impl->pages.notes();  // logged when it was met
      impl->notes.insert(impl->notes.end(), damage.begin(), damage.end());
      return impl;
    }
    if (first_problem.ok()) first_problem = status;
    notes.push_back("starting from superblock " + std::to_string(slot) +
                    " failed: " + std::string(status.message()));
  }
  return error(first_problem);
}

Result<std::unique_ptr<BlobStore>> BlobStore::open(Context& context, Device& device,
                                                   const StoreOptions& options) {
  if (device.info().block_size > kBlockBytes) {
    return error(StatusCode::unsupported, "the device's block size of " +
                                              std::to_string(device.info().block_size) +
                                              " B is larger than 4096 B");
  }
  if (options.mode == OpenMode::read_write && device.info().read_only) {
    return error(StatusCode::read_only, device.info().uri + " is read-only; open it read-only");
  }
  BASALT_TRY_ASSIGN(auto impl, open_impl(context, device, options));
  return std::unique_ptr<BlobStore>(new BlobStore(std::move(impl)));
}

}  // namespace basalt::blob
