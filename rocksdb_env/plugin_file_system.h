// rocksdb::FileSystem over basalt::FileSystem: names and directories; files are made here and live
// in read_files.h and write_files.h.
//
// Not a FileSystemWrapper: a call that Basalt cannot do says so instead of reaching the kernel's
// file system. Holds a reference to the store, as does every file it makes. Any thread.
#pragma once

#include <basalt/file_system.h>

#include <memory>
#include <string>
#include <vector>

#include "rocksdb_env/compat.h"
#include "rocksdb_env/read_files.h"

namespace basalt::rocksdb_env {

class PluginFileSystem final : public rocksdb::FileSystem {
 public:
  // `id` is what GetId() answers: the URI that makes the same again.
  PluginFileSystem(std::shared_ptr<basalt::FileSystem> store, std::string id);

  static const char* kClassName() { return "BasaltFileSystem"; }
  const char* Name() const override { return kClassName(); }
  const char* NickName() const override { return "basalt"; }
  std::string GetId() const override { return id_; }

  rocksdb::IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                      rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                        rocksdb::IODebugContext* dbg) override;
  // A new file takes the name; hard links of an old one and its open handles keep its contents.
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* dbg) override;
  // Appends to the file, which is made if missing.
  rocksdb::IOStatus ReopenWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                       std::unique_ptr<rocksdb::FSWritableFile>* result,
                                       rocksdb::IODebugContext* dbg) override;
  // The old name goes and the new one gets an empty file: space taken from the free pool costs no
  // more here than space taken over, and nothing of the old log can be mistaken for the new one.
  rocksdb::IOStatus ReuseWritableFile(const std::string& name, const std::string& old_name,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* dbg) override;
  // Existing files only, as from RocksDB 9.0 on the header says and POSIX always did.
  rocksdb::IOStatus NewRandomRWFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSRandomRWFile>* result,
                                    rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* dbg) override;

  rocksdb::IOStatus FileExists(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetChildren(const std::string& directory, const rocksdb::IOOptions& options,
                                std::vector<std::string>* result,
                                rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetChildrenFileAttributes(const std::string& directory,
                                              const rocksdb::IOOptions& options,
                                              std::vector<rocksdb::FileAttributes>* result,
                                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus Truncate(const std::string& name, size_t size,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  // Both make missing parents: an empty store has only "/", and no tool of RocksDB's makes more
  // than the last directory of a path.
  rocksdb::IOStatus CreateDir(const std::string& name, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus CreateDirIfMissing(const std::string& name, const rocksdb::IOOptions& options,
                                       rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus DeleteDir(const std::string& name, const rocksdb::IOOptions& options,
                              rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileSize(const std::string& name, const rocksdb::IOOptions& options,
                                uint64_t* size, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFileModificationTime(const std::string& name,
                                            const rocksdb::IOOptions& options, uint64_t* seconds,
                                            rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus LinkFile(const std::string& existing, const std::string& created,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus NumFileLinks(const std::string& name, const rocksdb::IOOptions& options,
                                 uint64_t* count, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus AreFilesSame(const std::string& first, const std::string& second,
                                 const rocksdb::IOOptions& options, bool* same,
                                 rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus IsDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                bool* is_directory, rocksdb::IODebugContext* dbg) override;

  // Exclusive among everything mounted through this process; other processes cannot open the store.
  rocksdb::IOStatus LockFile(const std::string& name, const rocksdb::IOOptions& options,
                             rocksdb::FileLock** lock, rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus UnlockFile(rocksdb::FileLock* lock, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* dbg) override;

  rocksdb::IOStatus GetTestDirectory(const rocksdb::IOOptions& options, std::string* path,
                                     rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetAbsolutePath(const std::string& path, const rocksdb::IOOptions& options,
                                    std::string* output_path,
                                    rocksdb::IODebugContext* dbg) override;
  rocksdb::IOStatus GetFreeSpace(const std::string& path, const rocksdb::IOOptions& options,
                                 uint64_t* free_bytes, rocksdb::IODebugContext* dbg) override;
  rocksdb::FileOptions OptimizeForLogWrite(const rocksdb::FileOptions& options,
                                           const rocksdb::DBOptions& db_options) const override;
  rocksdb::FileOptions OptimizeForManifestWrite(const rocksdb::FileOptions& options) const override;

  rocksdb::IOStatus Poll(std::vector<void*>& io_handles, size_t min_completions) override;
  rocksdb::IOStatus AbortIO(std::vector<void*>& io_handles) override;
#if BASALT_ROCKSDB >= 804
  void SupportedOps(int64_t& supported_ops) override;
#elif BASALT_ROCKSDB >= 801
  bool use_async_io() override { return true; }
#endif

 protected:
  // Option strings take a '=' for an option's, and a URI has one before every key; so the id is named
  // there, "id=basalt://…", and what ToString() answers makes the same file system again.
  std::string SerializeOptions(const rocksdb::ConfigOptions& options,
                               const std::string& prefix) const override;

 private:
  Result<OpenFile> open_file(const std::string& name, OpenMode mode, bool direct) const;
  Result<OpenFile> create_file(const std::string& name, const rocksdb::FileOptions& options) const;
  Status make_directory_and_parents(const std::string& path) const;
  rocksdb::IOStatus read_attributes(const std::string& name, FileInfo* info) const;

  const std::shared_ptr<basalt::FileSystem> store_;
  const std::string id_;
  const uint64_t store_tag_;
};

}  // namespace basalt::rocksdb_env
