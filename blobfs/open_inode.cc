#include "blobfs/open_inode.h"

#include "base/check.h"
#include "base/planted.h"
#include "base/try.h"
#include "blobfs/file_space.h"

namespace basalt::blobfs {

namespace {

// Bytes per piece of the tail: whole blocks of the file.
uint64_t piece_capacity(const InodeRecord& record) {
  if (record.kind != InodeKind::log) return kTailChunkBytes;
  const uint64_t payload = LogShape{record.sealed_bytes}.payload();
  return kTailChunkBytes / payload * payload;
}

}  // namespace

OpenInode::OpenInode(Core& core, uint64_t id_in, const InodeRecord& record_in)
    : id(id_in),
      kind(record_in.kind),
      shape{record_in.sealed_bytes},
      size(record_in.length),
      tail_begin(record_in.length),
      modified_us(record_in.modified_us),
      record(record_in),
      tail(core.tail, id_in, piece_capacity(record_in)),
      written(record_in.length),
      end_known(!record_in.open_log),
      core_(core) {}

OpenInode::~OpenInode() {
  if (write_behind.run) core_.context.executor().cancel(write_behind);
}

Status OpenInode::open_data(Core& core) {
  if (blob) return {};
  BASALT_TRY_ASSIGN(blob, core.store.open_blob(BlobId{id}));
  data.store(&*blob, std::memory_order_release);
  return {};
}

void OpenInode::publish_tail() {
  if (tail.empty()) {
    tail_begin.store(size.load(std::memory_order_relaxed), std::memory_order_release);
  } else {
    tail_begin.store(tail.begin(), std::memory_order_release);
  }
}

void OpenInode::take_role(MutexLock& lock) {
  while (writing) changed.wait(lock);
  writing = true;
}

void OpenInode::drop_role() {
  writing = false;
  changed.notify_all();
}

InodeRecord OpenInode::current_record(uint64_t length) const {
  InodeRecord now = record;
  now.length = length;
  now.modified_us = modified_us.load(std::memory_order_relaxed);
  return now;
}

Status OpenInode::fail(Status status) {
  if (error.ok()) error = status;
  return status;
}

bool OpenInode::check_invariants() {
  const MutexLock lock(mutex);
  const uint64_t end = size.load();
  if (written > end) return false;
  if (tail.empty()) return tail_begin.load() == end && written == end;
  return tail.end() == end && tail.begin() <= written && tail_begin.load() == tail.begin();
}

InodeRef::InodeRef(const InodeRef& other) : table_(other.table_), inode_(other.inode_) {
  if (inode_ != nullptr) table_->add_reference(inode_);
}

void InodeRef::reset() {
  if (OpenInode* inode = std::exchange(inode_, nullptr)) table_->release(inode);
}

InodeTable::~InodeTable() {
  BASALT_CHECK(inodes_.empty(), "every file is closed before its file system goes");
}

Result<InodeRef> InodeTable::acquire(uint64_t id) {
  const MutexLock lock(mutex_);
  auto found = inodes_.find(id);
  if (found == inodes_.end()) {
    BASALT_TRY_ASSIGN(const std::string value, core_.store.catalog_get(inode_key(id)));
    BASALT_TRY_ASSIGN(const InodeRecord record, decode_inode(id, value));
    if (record.kind == InodeKind::directory) {
      return error(StatusCode::is_a_directory, "inode " + std::to_string(id) + " is a directory");
    }
    found = inodes_.emplace(id, std::make_unique<OpenInode>(core_, id, record)).first;
    // What the record says may not be durable yet.
    OpenInode& inode = *found->second;
    inode.meta_ticket = inode.epoch_ticket = core_.store.last_ticket();
    inode.epoch_pending = true;
    if (core_.store.durable_ticket() < inode.meta_ticket && !planted("table_cut_forgotten")) {
      inode.cut_ticket = inode.meta_ticket;
    }
  }
  ++found->second->references_;
  return InodeRef(this, found->second.get());
}

InodeRef InodeTable::adopt(uint64_t id, const InodeRecord& record, blob::Ticket made_by) {
  const MutexLock lock(mutex_);
  const auto made = inodes_.emplace(id, std::make_unique<OpenInode>(core_, id, record)).first;
  made->second->end_known = true;  // of an empty file
  made->second->meta_ticket = made_by;
  ++made->second->references_;
  return InodeRef(this, made->second.get());
}

std::vector<InodeRef> InodeTable::all() {
  const MutexLock lock(mutex_);
  std::vector<InodeRef> list;
  for (auto& [id, inode] : inodes_) {
    ++inode->references_;
    list.push_back(InodeRef(this, inode.get()));
  }
  return list;
}

size_t InodeTable::size() {
  const MutexLock lock(mutex_);
  return inodes_.size();
}

void InodeTable::add_reference(OpenInode* inode) {
  const MutexLock lock(mutex_);
  ++inode->references_;
}

void InodeTable::release(OpenInode* inode) {
  std::unique_ptr<OpenInode> last;
  {
    const MutexLock lock(mutex_);
    if (--inode->references_ > 0) return;
    const auto found = inodes_.find(inode->id);
    last = std::move(found->second);
    inodes_.erase(found);
  }
  const uint64_t id = last->id;
  const bool unlinked = last->unlinked;
  const uint64_t cached_pages =
      last->kind == InodeKind::table ? round_up(last->size.load(), kBlock) / kBlock : 0;
  last.reset();  // closes the blob
  if (!unlinked || core_.read_only) return;
  core_.cache.erase(id, 0, cached_pages);
  // Interrupted or failed, it is taken up again at the next mount: the blob is on the orphan list.
  if (Status status = core_.store.delete_blob(BlobId{id}); !status.ok()) {
    core_.context.log().log(LogLevel::error, "blobfs",
                            "delete file " + std::to_string(id) + ": " + status.to_string());
  }
}

}  // namespace basalt::blobfs
