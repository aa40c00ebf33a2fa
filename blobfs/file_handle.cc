#include "blobfs/file_handle.h"

#include "base/try.h"
#include "blobfs/file_read.h"
#include "blobfs/file_space.h"
#include "blobfs/log_file.h"
#include "blobfs/log_writeback.h"
#include "blobfs/table_file.h"
#include "blobfs/write_out.h"

#include <algorithm>
#include <array>

namespace basalt::blobfs {

namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 56;

Status check_range(uint64_t offset, uint64_t length) {
  if (offset <= kMaxFileBytes && length <= kMaxFileBytes - offset) return {};
  return {StatusCode::invalid_argument, "range [" + std::to_string(offset) + ", +" +
                                            std::to_string(length) + "): a file ends below 2^56"};
}

Status extend_log(Core& core, OpenInode& inode, MutexLock& lock, uint64_t length) {
  BASALT_TRY(reserve_log(core, inode, length));
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (inode.size.load() < length) {
    const uint64_t count = std::min<uint64_t>(length - inode.size.load(), kZeros.size());
    BASALT_TRY(append_bytes(core, inode, lock, std::span(kZeros).first(count)));
  }
  return {};
}

}  // namespace

Status sync_file(Core& core, OpenInode& inode) {
  return inode.kind == InodeKind::log ? sync_log(core, inode) : sync_table(core, inode);
}

Status truncate_file(Core& core, OpenInode& inode, uint64_t size_bytes) {
  BASALT_TRY(check_range(0, size_bytes));
  blob::Ticket ticket;
  {
    MutexLock lock(inode.mutex);
    BASALT_TRY(inode.error);
    const bool grows_log = inode.kind == InodeKind::log && size_bytes > inode.size.load();
    inode.take_role(lock);
    inode.touch(core);
    Status status = inode.open_data(core);
    if (status.ok() && grows_log) {
      status = load_partial_block(core, inode, lock);
    } else if (status.ok() && size_bytes != inode.size.load()) {
      status = inode.kind == InodeKind::log ? truncate_log(core, inode, lock, size_bytes)
                                            : truncate_table(core, inode, lock, size_bytes);
    }
    inode.drop_role();
    if (status.ok() && grows_log) status = extend_log(core, inode, lock, size_bytes);
    BASALT_TRY(status);
    ticket = inode.meta_ticket;
  }
  return core.survive_process(ticket);
}

FileHandle::FileHandle(Core& core, HandleCount& count, InodeRef inode, OpenMode mode)
    : core_(core),
      count_(count),
      inode_(std::move(inode)),
      mode_(mode),
      kind_(to_file_kind(inode_->kind)),
      id_(inode_->id) {
  count_.open.fetch_add(1);
}

FileHandle::~FileHandle() {
  if (!closed_.load()) {
    LogSink& log = core_.context.log();
    if (const Status status = close(); !status.ok()) {
      log.log(LogLevel::error, "blobfs",
              "close file " + std::to_string(id_) + ": " + status.to_string());
    }
  }
  let_go();
}

void FileHandle::let_go() {
  if (!inode_) return;
  final_size_ = inode_->size.load();
  if (kind_ == FileKind::table) core_.reads->finish_fills(&readahead_);
  inode_.reset();
  count_.open.fetch_sub(1);  // from here on the file system may be gone
}

Status FileHandle::begin(Origin origin) {
  // Until this succeeds, destruction has nothing to finish.
  closed_.store(true);
  BASALT_TRY(find_log_end(core_, *inode_));
  if (mode_ == OpenMode::read_write) {
    // Under the writing role: a last close that is under way ends first.
    MutexLock lock(inode_->mutex);
    inode_->take_role(lock);
    const Status status = begin_writing(origin, lock);
    inode_->drop_role();
    BASALT_TRY(status);
    lock.unlock();
    if (kind_ == FileKind::log && core_.logs != nullptr) core_.logs->add(inode_);
  }
  closed_.store(false);
  return {};
}

Status FileHandle::begin_writing(Origin origin, MutexLock& lock) {
  BASALT_TRY(inode_->damage);
  BASALT_TRY(inode_->error);
  BASALT_TRY(inode_->open_data(core_));
  if (core_.logs != nullptr) BASALT_TRY(core_.logs->close_deferred(*inode_, lock));
  if (inode_->writers == 0 && kind_ == FileKind::log && origin == Origin::opened) {
    BASALT_TRY(begin_log_epoch(core_, *inode_));
  }
  ++inode_->writers;
  writer_ = true;
  return {};
}

Status FileHandle::check_open() const {
  if (!closed_.load(std::memory_order_relaxed)) return {};
  return {StatusCode::invalid_argument, "file " + std::to_string(id_) + ": this handle is closed"};
}

Status FileHandle::check_writable() const {
  BASALT_TRY(check_open());
  if (mode_ == OpenMode::read_write) return {};
  return {StatusCode::read_only,
          "file " + std::to_string(id_) + ": this handle was opened for reading"};
}

Result<size_t> FileHandle::read(uint64_t offset, std::span<std::byte> buffer, Caching caching) {
  BASALT_TRY(check_open());
  return read_file(core_, *inode_, readahead_, offset, buffer, caching);
}

void FileHandle::read_batch(std::span<ReadRequest> requests, Caching caching) {
  if (const Status status = check_open(); !status.ok()) {
    for (ReadRequest& request : requests) request.status = status;
    return;
  }
  read_file_batch(core_, *inode_, readahead_, requests, caching);
}

void FileHandle::start_read(AsyncRead& read) {
  if (const Status status = check_open(); !status.ok()) {
    read.status = status;
    read.length = 0;
    read.impl = nullptr;
    read.done = true;
    return;
  }
  core_.reads->start(inode_, read);
}

Status FileHandle::prefetch(uint64_t offset, size_t length) {
  BASALT_TRY(check_open());
  if (kind_ == FileKind::log || !core_.cache.enabled()) {
    return {StatusCode::unsupported, "prefetch: there is no page cache for this file"};
  }
  BASALT_TRY(check_range(offset, length));
  // More would push out what was asked for first.
  const uint64_t most = core_.cache.capacity_pages() / 2 * PageCache::kPageBytes;
  const uint64_t end = readahead_.note_prefetch(offset, offset + length);
  core_.reads->start_fill(*inode_, &readahead_, offset, std::min(end, offset + most));
  return {};
}

Status FileHandle::append(std::span<const std::byte> bytes) {
  BASALT_TRY(check_writable());
  BASALT_TRY(check_range(inode_->size.load(), bytes.size()));
  return append_to_file(core_, *inode_, bytes);
}

Status FileHandle::write(uint64_t offset, std::span<const std::byte> bytes) {
  BASALT_TRY(check_writable());
  if (kind_ == FileKind::log) {
    return {StatusCode::unsupported, "file " + std::to_string(id_) + ": a log takes appends only"};
  }
  BASALT_TRY(check_range(offset, bytes.size()));
  if (bytes.empty()) return {};
  if (offset == inode_->size.load()) return append_to_file(core_, *inode_, bytes);
  MutexLock lock(inode_->mutex);
  inode_->take_role(lock);
  const Status status = write_table_at(core_, *inode_, lock, offset, bytes);
  inode_->drop_role();
  return status;
}

Status FileHandle::flush() {
  BASALT_TRY(check_open());
  if (mode_ == OpenMode::read_only) return {};
  return flush_file(core_, *inode_);
}

Status FileHandle::sync() {
  BASALT_TRY(check_open());
  if (core_.read_only) return {};
  return sync_file(core_, *inode_);
}

Status FileHandle::start_writeback(uint64_t, uint64_t) {
  BASALT_TRY(check_writable());
  const MutexLock lock(inode_->mutex);
  BASALT_TRY(inode_->error);
  start_write_behind(core_, *inode_);
  return {};
}

Status FileHandle::truncate(uint64_t size_bytes) {
  BASALT_TRY(check_writable());
  return truncate_file(core_, *inode_, size_bytes);
}

Status FileHandle::allocate(uint64_t offset, uint64_t length) {
  BASALT_TRY(check_writable());
  BASALT_TRY(check_range(offset, length));
  const MutexLock lock(inode_->mutex);
  BASALT_TRY(inode_->error);
  if (length == 0) return {};
  if (kind_ == FileKind::table) return allocate_range(core_, *inode_, offset, offset + length);
  const LogShape& shape = inode_->shape;
  return allocate_range(core_, *inode_, shape.blob_offset(shape.block_of(offset)),
                        shape.blob_offset(shape.block_count(offset + length)));
}

Status FileHandle::punch(uint64_t offset, uint64_t length) {
  BASALT_TRY(check_writable());
  if (kind_ == FileKind::log) {
    return {StatusCode::unsupported, "file " + std::to_string(id_) + ": a log has no holes"};
  }
  BASALT_TRY(check_range(offset, length));
  MutexLock lock(inode_->mutex);
  inode_->take_role(lock);
  const Status status = punch_table(core_, *inode_, lock, offset, length);
  inode_->drop_role();
  return status;
}

uint64_t FileHandle::size() {
  return inode_ ? inode_->size.load(std::memory_order_acquire) : final_size_;
}

Status FileHandle::close() {
  if (closed_.exchange(true)) return check_open();
  const Status status = writer_ ? end_writing() : Status{};
  let_go();
  return status;
}

Status FileHandle::end_writing() {
  MutexLock lock(inode_->mutex);
  inode_->take_role(lock);
  Status status;
  if (--inode_->writers > 0) {
    if (inode_->tail.has_private() || inode_->record_on_flush) {
      status = write_out(core_, *inode_, lock, inode_->size.load(), WriteMode::all);
    }
  } else if (core_.logs != nullptr && core_.logs->may_defer(*inode_)) {
    status = core_.logs->defer_close(*inode_);
  } else {
    status = close_file(core_, *inode_, lock);
  }
  inode_->drop_role();
  const blob::Ticket ticket = inode_->meta_ticket;
  lock.unlock();
  if (kind_ == FileKind::log && core_.logs != nullptr) core_.logs->forget(*inode_);
  BASALT_TRY(status);
  return core_.survive_process(ticket);
}

}  // namespace basalt::blobfs
