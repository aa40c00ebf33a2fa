// The calls of a mounted file system; see file_system_impl.h.
#include "base/try.h"
#include "blobfs/file_system_impl.h"
#include "blobfs/log_file.h"

namespace basalt::blobfs {

Status FileSystemImpl::check_mounted() {
  if (mounted_.load(std::memory_order_relaxed)) return {};
  return {StatusCode::invalid_argument, "the file system is unmounted"};
}

Status FileSystemImpl::check_writable() {
  BASALT_TRY(check_mounted());
  if (options_.mode == OpenMode::read_write) return {};
  return {StatusCode::read_only, "the file system is mounted read-only"};
}

Result<std::unique_ptr<File>> FileSystemImpl::make_handle(InodeRef inode, OpenMode mode,
                                                          FileHandle::Origin origin) {
  auto handle = std::make_unique<FileHandle>(*core_, handles_, std::move(inode), mode);
  BASALT_TRY(handle->begin(origin));
  return handle;
}

Result<std::unique_ptr<File>> FileSystemImpl::create(std::string_view path, FileKind kind,
                                                     const CreateOptions& options) {
  BASALT_TRY(check_writable());
  BASALT_TRY_ASSIGN(InodeRef inode, names_->create(path, kind, options));
  return make_handle(std::move(inode), OpenMode::read_write, FileHandle::Origin::created);
}

Result<std::unique_ptr<File>> FileSystemImpl::open(std::string_view path, OpenMode mode) {
  BASALT_TRY(mode == OpenMode::read_write ? check_writable() : check_mounted());
  BASALT_TRY_ASSIGN(InodeRef inode, names_->open(path));
  return make_handle(std::move(inode), mode, FileHandle::Origin::opened);
}

Status FileSystemImpl::remove(std::string_view path) {
  BASALT_TRY(check_writable());
  return names_->remove(path);
}

Status FileSystemImpl::rename(std::string_view from, std::string_view to) {
  BASALT_TRY(check_writable());
  return names_->rename(from, to);
}

Status FileSystemImpl::link(std::string_view existing, std::string_view created) {
  BASALT_TRY(check_writable());
  return names_->link(existing, created);
}

Status FileSystemImpl::make_directory(std::string_view path) {
  BASALT_TRY(check_writable());
  return names_->make_directory(path);
}

Status FileSystemImpl::remove_directory(std::string_view path) {
  BASALT_TRY(check_writable());
  return names_->remove_directory(path);
}

Result<std::vector<DirectoryEntry>> FileSystemImpl::list(std::string_view path) {
  BASALT_TRY(check_mounted());
  return names_->list(path);
}

Result<FileInfo> FileSystemImpl::stat(std::string_view path) {
  BASALT_TRY(check_mounted());
  BASALT_TRY_ASSIGN(const NameSpace::Found found, names_->find(path));
  FileInfo info;
  info.file_id = found.entry.id;
  if (found.entry.is_directory) {
    info.is_directory = true;
    info.link_count = found.directory.links;
    info.modified = modified_time(found.directory.modified_us);
    return info;
  }
  OpenInode& inode = *found.inode;
  BASALT_TRY(find_log_end(*core_, inode));
  info.size_bytes = inode.size.load(std::memory_order_acquire);
  info.kind = to_file_kind(inode.kind);
  info.modified = modified_time(inode.modified_us.load(std::memory_order_relaxed));
  {
    const MutexLock lock(inode.mutex);
    info.link_count = inode.unlinked ? 0 : inode.record.links;
  }
  BASALT_TRY_ASSIGN(const blob::BlobInfo blob, store_->info(BlobId{inode.id}));
  info.allocated_bytes = blob.allocated_blocks * blob::kBlockBytes;
  return info;
}

Status FileSystemImpl::truncate(std::string_view path, uint64_t size_bytes) {
  BASALT_TRY(check_writable());
  BASALT_TRY_ASSIGN(const std::unique_ptr<File> file, open(path, OpenMode::read_write));
  BASALT_TRY(file->truncate(size_bytes));
  return file->close();
}

Status FileSystemImpl::lock(std::string_view path) {
  BASALT_TRY(check_mounted());
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  std::string name = join_path(components);
  const MutexLock lock(locks_mutex_);
  if (locks_.insert(name).second) return {};
  return {StatusCode::busy, "\"" + name + "\": is locked by this process"};
}

Status FileSystemImpl::unlock(std::string_view path) {
  BASALT_TRY(check_mounted());
  BASALT_TRY_ASSIGN(const PathComponents components, split_path(path));
  const std::string name = join_path(components);
  const MutexLock lock(locks_mutex_);
  if (locks_.erase(name) != 0) return {};
  return {StatusCode::invalid_argument, "\"" + name + "\": is not locked"};
}

Status FileSystemImpl::sync_directory(std::string_view path) {
  BASALT_TRY(check_mounted());
  BASALT_TRY_ASSIGN(const NameSpace::Found found, names_->find(path));
  if (!found.entry.is_directory) {
    return {StatusCode::not_a_directory, "\"" + std::string(path) + "\": is a file"};
  }
  return options_.mode == OpenMode::read_only ? Status{} : core_->sync_metadata({});
}

Status FileSystemImpl::sync_open_files() {
  Status first;
  for (const InodeRef& inode : inodes_->all()) {
    const Status status = sync_file(*core_, *inode);
    if (first.ok()) first = status;
  }
  return first;
}

Status FileSystemImpl::sync_all() {
  BASALT_TRY(check_mounted());
  if (options_.mode == OpenMode::read_only) return {};
  const Status files = sync_open_files();
  BASALT_TRY(store_->wait_durable(store_->last_ticket()));
  return files;
}

Status FileSystemImpl::wait_reads(std::span<AsyncRead* const> reads, size_t min_done) {
  return reads_->wait(reads, min_done);
}

void FileSystemImpl::cancel_read(AsyncRead& read) { reads_->cancel(read); }

Result<ScrubReport> FileSystemImpl::scrub(const ScrubOptions& options) {
  BASALT_TRY(check_mounted());
  Scrubber scrubber(*this, *store_);
  const Duration begin = context_.clock().now();
  uint64_t bytes = 0;
  while (scrubber.step()) {
    bytes += scrubber.step_bytes();
    if (options.keep_going && !options.keep_going(scrubber.report())) break;
    if (options.bytes_per_second == 0) continue;
    const std::chrono::duration<double> due(static_cast<double>(bytes) /
                                            static_cast<double>(options.bytes_per_second));
    const std::chrono::duration<double> spent = context_.clock().now() - begin;
    if (due > spent) sleep_for(std::chrono::duration_cast<Duration>(due - spent));
  }
  return scrubber.report();
}

SpaceInfo FileSystemImpl::space() {
  const blob::StoreSpace space = store_->space();
  return {space.cluster_count * space.cluster_bytes,
          (space.free_clusters - space.kept_clusters) * space.cluster_bytes,
          space.metadata_pages * blob::kBlockBytes, space.free_metadata_pages * blob::kBlockBytes};
}

FileSystemStats FileSystemImpl::stats() {
  const auto index = [](Op op) { return static_cast<unsigned>(op); };
  const blob::ChannelTotals pool = store_->channels().totals();
  const ChannelStats async = reads_->stats();
  const blob::StoreStats store = store_->stats();
  FileSystemStats stats;
  stats.device_reads = pool.reads + async.ops[index(Op::read)];
  stats.device_writes = pool.writes;
  stats.device_flushes = pool.flushes;
  stats.device_read_bytes = pool.read_bytes + async.read_bytes;
  stats.device_written_bytes = pool.written_bytes;
  stats.journal_commits = store.commits;
  stats.journal_bytes = store.journal_bytes;
  stats.transactions = store.transactions;
  stats.checkpoints = store.checkpoints;
  stats.log_syncs = core_->log_syncs.load(std::memory_order_relaxed);
  stats.log_blocks_written = core_->log_blocks_written.load(std::memory_order_relaxed);
  stats.cache_hits = core_->cache.hits();
  stats.cache_misses = core_->cache.misses();
  stats.damaged_copies_used = store.damaged_copies_used;
  if (background_scrub_) {
    stats.scrubbed_bytes = background_scrub_->bytes();
    stats.scrub_damages = background_scrub_->damages();
  }
  return stats;
}

}  // namespace basalt::blobfs
