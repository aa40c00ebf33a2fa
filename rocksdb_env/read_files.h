// rocksdb::FSSequentialFile and FSRandomAccessFile over File.
//
// Each object owns its open File and a reference to the store, so that RocksDB may destroy files
// and the FileSystem in any order. FSRandomAccessFile is used by many threads at once;
// FSSequentialFile by one at a time, its position is its own.
#pragma once

#include <basalt/file_system.h>

#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "rocksdb_env/compat.h"

namespace basalt::rocksdb_env {

// An open file and what keeps it valid; the file goes first.
struct OpenFile {
  std::shared_ptr<FileSystem> store;
  std::unique_ptr<File> file;
  std::string path;  // as opened, for messages
  Caching caching = Caching::normal;
  uint64_t store_tag = 0;  // tells files of different stores apart in unique ids
};

// Writes an id of `file` that no other file of any store has; its length, 0 if `max_size` is too
// small.
size_t write_unique_id(const OpenFile& file, char* id, size_t max_size);

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(OpenFile open);

  // Short only at the end of the file as it is now; a later call sees what was appended meanwhile.
  rocksdb::IOStatus Read(size_t n, const rocksdb::IOOptions& options, rocksdb::Slice* result,
                         char* scratch, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Skip(uint64_t n) override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;

 private:
  OpenFile open_;
  uint64_t position_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(OpenFile open);

  // Without `scratch`, as tables that were promised a memory map (allow_mmap_reads) read themselves,
  // the bytes go into memory that lives as long as this object.
  rocksdb::IOStatus Read(uint64_t offset, size_t n, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) const override;
  rocksdb::IOStatus MultiRead(rocksdb::FSReadRequest* requests, size_t request_count,
                              const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Prefetch(uint64_t offset, size_t n, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus ReadAsync(rocksdb::FSReadRequest& request, const rocksdb::IOOptions& options,
                              AsyncReadCallback callback, void* callback_argument, void** io_handle,
                              rocksdb::IOHandleDeleter* deleter,
                              rocksdb::IODebugContext* dbg) override;
  void Hint(AccessPattern pattern) override;
  size_t GetUniqueId(char* id, size_t max_size) const override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;
#if BASALT_ROCKSDB >= 1005
  rocksdb::IOStatus GetFileSize(uint64_t* result) override;
#endif

 private:
  char* keep_memory(size_t n) const;

  OpenFile open_;
  mutable Mutex kept_mutex_;  // protects kept_
  mutable std::vector<std::unique_ptr<char[]>> kept_;
};

}  // namespace basalt::rocksdb_env
