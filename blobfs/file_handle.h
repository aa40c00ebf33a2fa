// FileHandle: what a caller holds of a file; checks what may be asked of it and hands on.
//
// Handles of one file share its OpenInode. The last handle open for writing that closes writes what is in
// memory, makes the record exact and gives preallocated space back; for a log that nobody synced that is
// done later (log_writeback.h).
// Threads: any, as in <basalt/file_system.h>.
#pragma once

#include "blobfs/async_reads.h"
#include "blobfs/open_inode.h"
#include "blobfs/readahead.h"

#include <atomic>

namespace basalt::blobfs {

// Counts the open handles of a mount; unmounting needs none.
struct HandleCount {
  std::atomic<size_t> open{0};
};

class FileHandle final : public File {
 public:
  // begin() must succeed before the handle is used.
  FileHandle(Core& core, HandleCount& count, InodeRef inode, OpenMode mode);
  ~FileHandle() override;
  enum class Origin : uint8_t { created, opened };
  Status begin(Origin origin);

  Result<size_t> read(uint64_t offset, std::span<std::byte> buffer, Caching caching) override;
  void read_batch(std::span<ReadRequest> requests, Caching caching) override;
  void start_read(AsyncRead& read) override;
  Status prefetch(uint64_t offset, size_t length) override;
  void advise(Access access) override { readahead_.advise(access); }
  Status append(std::span<const std::byte> bytes) override;
  Status write(uint64_t offset, std::span<const std::byte> bytes) override;
  Status flush() override;
  Status sync() override;
  Status start_writeback(uint64_t offset, uint64_t length) override;
  Status truncate(uint64_t size_bytes) override;
  Status allocate(uint64_t offset, uint64_t length) override;
  Status punch(uint64_t offset, uint64_t length) override;
  uint64_t size() override;
  FileKind kind() const override { return kind_; }
  uint64_t file_id() const override { return id_; }
  Status close() override;

 private:
  // The inode's mutex (by `lock`) and writing role are held.
  Status begin_writing(Origin origin, MutexLock& lock);
  Status end_writing();
  // Gives the inode back; after it nothing of the file system is touched.
  void let_go();
  Status check_open() const;
  Status check_writable() const;

  Core& core_;
  HandleCount& count_;
  InodeRef inode_;
  const OpenMode mode_;
  const FileKind kind_;
  const uint64_t id_;
  bool writer_ = false;  // counted among the inode's writers
  std::atomic<bool> closed_{false};
  uint64_t final_size_ = 0;
  Readahead readahead_;
};

// Makes everything appended to this file durable, for sync() and sync_all().
Status sync_file(Core& core, OpenInode& inode);
// Changes the size of a file of either kind.
Status truncate_file(Core& core, OpenInode& inode, uint64_t size_bytes);

}  // namespace basalt::blobfs
