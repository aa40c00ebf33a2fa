// rocksdb::FSWritableFile, FSRandomRWFile and FSDirectory over File and FileSystem.
//
// One thread appends to a writable file at a time; Sync() and Fsync() may run beside it. None of
// them claims direct I/O: RocksDB never calls Sync() on a file that does.
#pragma once

#include <basalt/file_system.h>

#include <memory>
#include <string>

#include "rocksdb_env/compat.h"
#include "rocksdb_env/read_files.h"

namespace basalt::rocksdb_env {

class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(OpenFile open, const rocksdb::FileOptions& options);

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* dbg) override;
  // Compares the checksum handed over (checksum_handoff_file_types) before anything is written.
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& verification,
                           rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Truncate(uint64_t size, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  // Survives the death of the process.
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  // Survives power loss, with the size and the name.
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus RangeSync(uint64_t offset, uint64_t length, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Allocate(uint64_t offset, uint64_t length, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  size_t GetUniqueId(char* id, size_t max_size) const override;
  rocksdb::IOStatus InvalidateCache(size_t offset, size_t length) override;

 private:
  OpenFile open_;
  const bool allocate_ahead_;
  const bool verify_checksums_;
  bool closed_ = false;
};

class RandomRwFile final : public rocksdb::FSRandomRWFile {
 public:
  explicit RandomRwFile(OpenFile open);

  rocksdb::IOStatus Write(uint64_t offset, const rocksdb::Slice& data,
                          const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Read(uint64_t offset, size_t n, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* dbg) const override;
  rocksdb::IOStatus Flush(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;

 private:
  OpenFile open_;
  bool closed_ = false;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(std::shared_ptr<FileSystem> store, std::string path);

  // What was created, renamed, linked or deleted here is durable. The reason RocksDB gives is not
  // looked at: one commit covers them all.
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options, rocksdb::IODebugContext* dbg) override;

 private:
  std::shared_ptr<FileSystem> store_;
  std::string path_;
};

}  // namespace basalt::rocksdb_env
