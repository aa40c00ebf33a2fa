// Making and mounting a file system: opening the store, replaying a killed process's tail, unmounting.
//
// Order of a mount: the store recovers its journal; the tail of the last opening, if it was of this boot and
// did not end cleanly, is read; a tail of our own is made; the store is taken over; the kept transactions
// and the kept bytes are replayed, and only when they are durable, or in our own tail, is the old one
// removed. Killed at any point, the next mount finds what it needs: before the store is taken over the old
// tail, after it ours, which names the old one as its predecessor.
#include "base/check.h"
#include "base/planted.h"
#include "base/try.h"
#include "blobfs/file_space.h"
#include "blobfs/file_system_impl.h"

#include <unistd.h>

#include <algorithm>

namespace basalt::blobfs {

namespace {

// A chain of tails is as long as mounts were killed while replaying; more is nonsense.
constexpr size_t kMaxTailChain = 64;

}  // namespace

void FileSystemImpl::note(std::string sentence) {
  context_.log().log(LogLevel::warning, "blobfs", sentence);
  notes_.push_back(std::move(sentence));
}

Result<std::unique_ptr<FileSystemImpl>> FileSystemImpl::mount(Context& context,
                                                              std::unique_ptr<Device> device,
                                                              const MountOptions& options) {
  std::unique_ptr<FileSystemImpl> impl(new FileSystemImpl(context, std::move(device), options));
  Status status = impl->bring_up();
  if (impl->tail_refused_) {
    // Its transactions are no continuation of this store: recover as after power loss.
    std::vector<std::string> notes = std::move(impl->notes_);
    const std::vector<std::string> useless = std::move(impl->kept_paths_);
    if (impl->tail_) impl->tail_->remove();
    device = impl->give_up();
    impl.reset(new FileSystemImpl(context, std::move(device), options));
    impl->notes_ = std::move(notes);
    impl->tail_refused_ = true;
    status = impl->bring_up();
    if (status.ok()) {
      for (const std::string& path : useless) ::unlink(path.c_str());
    }
  }
  if (status.ok()) return impl;
  impl->give_up();
  return error(std::move(status));
}

std::unique_ptr<Device> FileSystemImpl::give_up() {
  if (tail_) tail_->leave();
  log_writeback_.reset();
  names_.reset();
  inodes_.reset();
  reads_.reset();
  core_.reset();
  // Nothing more is written, above all no clean end: what was kept stays for the next attempt, and so
  // does our own tail, which holds what was replayed so far.
  if (store_) store_->abandon();
  store_.reset();
  tail_.reset();
  claim_ = Claim();
  return std::move(device_);
}

Status FileSystemImpl::bring_up() {
  BASALT_TRY(cache_.reserve(options_.cache_bytes));  // before the store is taken over
  BASALT_TRY(open_store());
  const bool writer = options_.mode == OpenMode::read_write;
  core_ = std::make_unique<Core>(context_, *store_, cache_, options_);
  core_->tail = keeps_in_memory() ? tail_.get() : nullptr;
  reads_ = std::make_unique<AsyncReads>(*core_);
  core_->reads = reads_.get();
  inodes_ = std::make_unique<InodeTable>(*core_);
  names_ = std::make_unique<NameSpace>(*core_, *inodes_);
  store_->set_keeper(core_->tail);
  if (writer) BASALT_TRY(replay_transactions());
  BASALT_TRY(names_->check_root());
  if (writer) {
    if (!planted("orphans_forgotten")) BASALT_TRY(store_->resume_orphans());
    if (core_->tail != nullptr) {
      log_writeback_ = std::make_unique<LogWriteback>(*core_);
      core_->logs = log_writeback_.get();
    }
    BASALT_TRY(replay_chunks());
    BASALT_TRY(finish_recovery());
  }
  mounted_.store(true);
  if (options_.scrub_bytes_per_second > 0) {
    background_scrub_ = std::make_unique<BackgroundScrub>(context_, *this, *store_,
                                                          options_.scrub_bytes_per_second);
    background_scrub_->start();
  }
  return {};
}

Status FileSystemImpl::open_store() {
  const bool writer = options_.mode == OpenMode::read_write;
  BASALT_TRY_ASSIGN(claim_,
                    device_->claim(writer ? ClaimMode::exclusive_writer : ClaimMode::read_only,
                                   "Basalt file system"));
  blob::StoreOptions options;
  options.mode = options_.mode;
  options.metadata_cache_bytes = options_.metadata_cache_bytes;
  options.discard = options_.discard;
  options.has_tail = keeps_in_memory();
  options.discard_bytes_per_second = options_.discard_bytes_per_second;
  options.before_takeover = [this](const blob::StoreIdentity& identity) -> Status {
    if (!tail_refused_) BASALT_TRY(find_tails(identity));
    // What is to be replayed must be found again if this mount dies in it: a tail of our own leads to
    // it, also where nothing will be kept in that.
    if (keeps_in_memory() || !kept_.empty()) return start_tail(identity);
    if (tail_) tail_->remove();  // of an attempt with the other superblock
    tail_.reset();
    return {};
  };
  auto store = blob::BlobStore::open(context_, *device_, options);
  if (!store) {
    // Taken over or not, a tail that holds nothing yet is of no use, unless it leads to another.
    if (tail_ && kept_.empty()) tail_->remove();
    return store.error();
  }
  store_ = std::move(*store);
  const std::vector<std::string>& notes = store_->recovery_notes();
  notes_.insert(notes_.begin(), notes.begin(), notes.end());
  const blob::StoreIdentity& identity = store_->identity();
  if (!writer && identity.previous_open_has_tail &&
      identity.previous_boot_id == context_.boot_id()) {
    note(
        "the store was not closed: what its last process kept in shared memory is not seen by a "
        "read-only mount");
  }
  return {};
}

Result<TailImage> FileSystemImpl::load_tail(const TailBinding& binding) {
  // A killed process lets go of its files one after another: the tail perhaps after the device.
  for (int attempt = 0;; ++attempt) {
    Result<TailImage> image = TailImage::load(context_.shared_memory_dir(), binding);
    if (image || image.error().code() != StatusCode::busy || attempt == 200) return image;
    sleep_for(std::chrono::milliseconds(10));
  }
}

Status FileSystemImpl::find_tails(const blob::StoreIdentity& identity) {
  kept_.clear();
  kept_paths_.clear();
  if (!identity.previous_open_was_writer && !planted("tail_after_clean_end")) return {};
  TailBinding binding{identity.uuid, identity.previous_open_id, {}, context_.boot_id()};
  useless_ = binding;
  if (identity.previous_boot_id != context_.boot_id() && !planted("tail_of_another_boot"))
    return {};
  while (true) {
    if (kept_.size() == kMaxTailChain) {
      return {StatusCode::too_large,
              "each of the last " + std::to_string(kMaxTailChain) +
                  " mounts was ended while it replayed what an earlier process had kept in shared "
                  "memory, and more than that is not followed; to go on without what was never "
                  "synced, remove the files " +
                  context_.shared_memory_dir() + "/basalt-… of this store"};
    }
    Result<TailImage> image = load_tail(binding);
    if (!image) {
      const bool none_was_needed = kept_.empty() && !identity.previous_open_has_tail &&
                                   image.error().code() == StatusCode::not_found &&
                                   !planted("tail_after_clean_end");
      if (none_was_needed) break;
      note(
          "the store was not closed, on this boot, and no shared-memory tail of it can be replayed "
          "(" +
          image.error().to_string() + "); recovered as after power loss");
      break;
    }
    if (kept_.empty()) predecessor_ = binding.open_id;
    for (const std::string& sentence : image->notes()) note(sentence);
    kept_paths_.push_back(tail_path(context_.shared_memory_dir(), binding));
    kept_.push_back(std::move(*image));
    if (!kept_.back().predecessor()) break;
    binding.open_id = *kept_.back().predecessor();
  }
  std::reverse(kept_.begin(), kept_.end());
  return {};
}

Status FileSystemImpl::start_tail(const blob::StoreIdentity& identity) {
  if (tail_) tail_->remove();  // of an attempt with the other superblock
  TailBinding binding{identity.uuid, identity.open_id, predecessor_, context_.boot_id()};
  if (planted("tail_predecessor_unnamed")) binding.predecessor = {};
  BASALT_TRY_ASSIGN(tail_,
                    SharedTail::create(context_.shared_memory_dir(), binding, options_.tail_bytes,
                                       &context_.log(), &context_.executor()));
  return {};
}

Status FileSystemImpl::replay_transactions() {
  for (const TailImage& image : kept_) {
    for (const KeptTransaction& kept : image.transactions()) {
      const uint64_t last = store_->last_ticket().value;
      if (kept.ticket <= last && !planted("tail_ticket_repeated"))
        continue;  // in the journal already
      if (kept.ticket != last + 1 && !planted("tail_ticket_skipped")) {
        note("shared-memory tail: transaction " + std::to_string(kept.ticket) +
             " does not follow " + std::to_string(last) + "; it and those after it were left out");
        return {};
      }
      const Status status = store_->replay_kept(blob::Ticket{kept.ticket}, kept.bytes);
      if (status.code() == StatusCode::corruption ||
          status.code() == StatusCode::invalid_argument) {
        note("shared-memory tail: transaction " + std::to_string(kept.ticket) + " was refused (" +
             status.to_string() + "); recovered as after power loss");
        tail_refused_ = true;
      }
      BASALT_TRY(status);
    }
  }
  return {};
}

Status FileSystemImpl::replay_chunks() {
  for (const TailImage& image : kept_) {
    const std::vector<KeptChunk>& chunks = image.chunks();
    for (size_t first = 0; first < chunks.size();) {
      size_t end = first;
      while (end < chunks.size() && chunks[end].file_id == chunks[first].file_id) ++end;
      BASALT_TRY(replay_file(std::span(chunks).subspan(first, end - first)));
      first = end;
    }
  }
  return {};
}

Status FileSystemImpl::replay_file(std::span<const KeptChunk> chunks) {
  const uint64_t id = chunks.front().file_id;
  Result<InodeRef> inode = inodes_->acquire(id);
  // Without a name there is no file any more; and ids that are no file's come from damage.
  if (!inode && (inode.error().code() == StatusCode::not_found ||
                 inode.error().code() == StatusCode::is_a_directory)) {
    return {};
  }
  if (!inode) return inode.error();
  FileHandle file(*core_, handles_, std::move(*inode), OpenMode::read_write);
  const Status begun = file.begin(FileHandle::Origin::opened);
  if (begun.code() == StatusCode::corruption) {
    note("file " + std::to_string(id) +
         " is damaged; bytes kept for it in shared memory were left out: " + begun.to_string());
    return {};
  }
  BASALT_TRY(begun);
  for (KeptChunk chunk : chunks) {
    const uint64_t size = file.size();
    if (chunk.offset > size) {
      note("shared-memory tail: file " + std::to_string(id) + " ends at byte " +
           std::to_string(size) + ", but kept bytes begin at " + std::to_string(chunk.offset) +
           "; they were left out");
      break;
    }
    if (file.kind() == FileKind::table) {
      BASALT_TRY(file.write(chunk.offset, chunk.bytes));
      continue;
    }
    if (chunk.offset + chunk.bytes.size() <= size) continue;
    const uint64_t known = planted("tail_bytes_twice") ? 0 : size - chunk.offset;
    BASALT_TRY(file.append(chunk.bytes.subspan(known)));
  }
  return file.close();
}

Status FileSystemImpl::finish_recovery() {
  const blob::StoreIdentity& identity = store_->identity();
  if (kept_.empty()) {
    // Damaged, or of a boot that is over: nobody will ever want it.
    if (useless_) TailImage::remove_dead(context_.shared_memory_dir(), *useless_);
    TailImage::remove_abandoned(context_.shared_memory_dir(), identity.uuid, context_.boot_id());
    return {};
  }
  // What was replayed is durable before the old tail goes, but for logs that are in ours now.
  if (!planted("tail_removed_early")) {
    BASALT_TRY(store_->flush());
    BASALT_TRY(store_->wait_durable(store_->last_ticket()));
  }
  for (const std::string& path : kept_paths_) ::unlink(path.c_str());
  kept_.clear();
  TailImage::remove_abandoned(context_.shared_memory_dir(), identity.uuid, context_.boot_id());
  if (tail_) tail_->forget_predecessor();
  if (tail_ && !keeps_in_memory()) {
    tail_->remove();
    tail_.reset();
  }
  return {};
}

Status FileSystemImpl::unmount() {
  BASALT_TRY(check_mounted());
  if (background_scrub_) background_scrub_->stop();  // it may hold a file
  if (const size_t open = handles_.open.load(); open != 0) {
    if (background_scrub_) background_scrub_->start();
    return {StatusCode::busy, std::to_string(open) + " files are still open"};
  }
  mounted_.store(false);
  // A log that cannot be closed stays in the tail: that is found only if the store does not end cleanly.
  Status status = log_writeback_ ? log_writeback_->finish() : Status{};
  if (status.ok()) {
    status = store_->close();
  } else {
    tail_->leave();
    store_->abandon();
  }
  // Closed cleanly, nothing is kept that is not on the device; else it stays for the next mount. Unless the
  // device was away: kept transactions may speak of bytes that went with its cache.
  if (tail_ && (status.ok() || store_->device_was_away())) tail_->remove();
  store_->set_keeper(nullptr);
  return status;
}

FileSystemImpl::~FileSystemImpl() {
  if (background_scrub_) background_scrub_->stop();
  if (mounted_.load()) {
    BASALT_CHECK(handles_.open.load() == 0, "every File is closed before its FileSystem goes");
    if (const Status status = unmount(); !status.ok()) {
      context_.log().log(LogLevel::error, "blobfs", "unmount: " + status.to_string());
    }
  }
  // Not mounted to the end, or not closed cleanly: what was kept must be found by the next mount.
  if (store_) store_->abandon();
  // Inodes hold blobs, reads hold channels: before the store; the store before the device.
  log_writeback_.reset();
  names_.reset();
  inodes_.reset();
  reads_.reset();
  core_.reset();
  store_.reset();
  tail_.reset();
}

}  // namespace basalt::blobfs

namespace basalt {

Status FileSystem::format(Context& context, Device& device, const FormatOptions& options) {
  BASALT_TRY_ASSIGN(const Claim claim, device.claim(ClaimMode::exclusive_writer, "Basalt format"));
  blob::FormatOptions store_options;
  store_options.cluster_bytes = options.cluster_bytes;
  store_options.journal_bytes = options.journal_bytes;
  store_options.metadata_bytes = options.metadata_bytes;
  store_options.label = options.label;
  store_options.force = options.force;
  store_options.data_checksums = options.data_checksums;
  BASALT_TRY(blob::BlobStore::format(context, device, store_options));
  BASALT_TRY_ASSIGN(const auto store, blob::BlobStore::open(context, device, {}));
  const auto now =
      std::chrono::duration_cast<std::chrono::microseconds>(context.clock().wall_now());
  BASALT_TRY(blobfs::NameSpace::format(*store, static_cast<uint64_t>(now.count())));
  return store->close();
}

Result<std::unique_ptr<FileSystem>> FileSystem::mount(Context& context,
                                                      std::unique_ptr<Device> device,
                                                      const MountOptions& options) {
  return blobfs::FileSystemImpl::mount(context, std::move(device), options);
}

}  // namespace basalt
