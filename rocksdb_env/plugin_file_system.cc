// Each override is one call of basalt::FileSystem, its status mapped; what RocksDB expects beyond that
// (NotFound instead of PathNotFound, parents of directories, the LOCK file) is added here.
#include "rocksdb_env/plugin_file_system.h"

#include <rocksdb/convenience.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <utility>

#include "base/try.h"
#include "rocksdb_env/async_read.h"
#include "rocksdb_env/names.h"
#include "rocksdb_env/status_map.h"
#include "rocksdb_env/write_files.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;

class HeldLock final : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }

 private:
  const std::string path_;
};

// Makes a `Wrapped` of an opened file, or reports why there is none.
template <typename Wrapped, typename Base, typename... Arguments>
IOStatus wrap(Result<OpenFile> open, const std::string& name, std::unique_ptr<Base>* result,
              Arguments&&... arguments) {
  result->reset();
  if (!open) return to_io_status(open.error(), name);
  *result = std::make_unique<Wrapped>(std::move(*open), std::forward<Arguments>(arguments)...);
  return IOStatus::OK();
}

// Expected life times, 0 unknown … 5 longest, as RocksDB counts them.
uint8_t lifetime_of(const FileOptions& options, FileKind kind) {
#if BASALT_ROCKSDB >= 1001
  if (options.write_hint != rocksdb::Env::WLTH_NOT_SET) return options.write_hint;
#else
  static_cast<void>(options);  // told only after the file is made
#endif
  return kind == FileKind::log ? rocksdb::Env::WLTH_SHORT : rocksdb::Env::WLTH_NOT_SET;
}

}  // namespace

PluginFileSystem::PluginFileSystem(std::shared_ptr<basalt::FileSystem> store, std::string id)
    : store_(std::move(store)),
      id_(std::move(id)),
      store_tag_(std::hash<std::string>{}(store_->device_info().uri)) {}

Result<OpenFile> PluginFileSystem::open_file(const std::string& name, OpenMode mode,
                                             bool direct) const {
  std::string path = normalize_path(name);
  BASALT_TRY_ASSIGN(auto file, store_->open(path, mode));
  return OpenFile{store_, std::move(file), std::move(path),
                  direct ? Caching::uncached : Caching::normal, store_tag_};
}

Result<OpenFile> PluginFileSystem::create_file(const std::string& name,
                                               const FileOptions& options) const {
  std::string path = normalize_path(name);
  const FileKind kind = file_kind_of(path);
  CreateOptions create;
  create.lifetime = lifetime_of(options, kind);
  BASALT_TRY_ASSIGN(auto file, store_->create(path, kind, create));
  return OpenFile{store_, std::move(file), std::move(path), Caching::normal, store_tag_};
}

IOStatus PluginFileSystem::NewSequentialFile(const std::string& name, const FileOptions& options,
                                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                             IODebugContext*) {
  return guarded([&] {
    return wrap<SequentialFile>(open_file(name, OpenMode::read_only, options.use_direct_reads),
                                name, result);
  });
}

IOStatus PluginFileSystem::NewRandomAccessFile(const std::string& name, const FileOptions& options,
                                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                                               IODebugContext*) {
  return guarded([&] {
    return wrap<RandomAccessFile>(open_file(name, OpenMode::read_only, options.use_direct_reads),
                                  name, result);
  });
}

IOStatus PluginFileSystem::NewWritableFile(const std::string& name, const FileOptions& options,
                                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                                           IODebugContext*) {
  return guarded(
      [&] { return wrap<WritableFile>(create_file(name, options), name, result, options); });
}

IOStatus PluginFileSystem::ReopenWritableFile(const std::string& name, const FileOptions& options,
                                              std::unique_ptr<rocksdb::FSWritableFile>* result,
                                              IODebugContext*) {
  return guarded([&] {
    Result<OpenFile> open = open_file(name, OpenMode::read_write, false);
    if (!open && open.error().code() == StatusCode::not_found) open = create_file(name, options);
    return wrap<WritableFile>(std::move(open), name, result, options);
  });
}

IOStatus PluginFileSystem::ReuseWritableFile(const std::string& name, const std::string& old_name,
                                             const FileOptions& options,
                                             std::unique_ptr<rocksdb::FSWritableFile>* result,
                                             IODebugContext* dbg) {
  result->reset();
  IOStatus renamed = RenameFile(old_name, name, options.io_options, dbg);
  return renamed.ok() ? NewWritableFile(name, options, result, dbg) : renamed;
}

IOStatus PluginFileSystem::NewRandomRWFile(const std::string& name, const FileOptions&,
                                           std::unique_ptr<rocksdb::FSRandomRWFile>* result,
                                           IODebugContext*) {
  return guarded([&] {
    return wrap<RandomRwFile>(open_file(name, OpenMode::read_write, false), name, result);
  });
}

IOStatus PluginFileSystem::NewDirectory(const std::string& name, const IOOptions&,
                                        std::unique_ptr<rocksdb::FSDirectory>* result,
                                        IODebugContext*) {
  return guarded([&] {
    result->reset();
    FileInfo info;
    IOStatus status = read_attributes(name, &info);
    if (!status.ok()) return status;
    if (!info.is_directory) return IOStatus::IOError(name, "not a directory");
    *result = std::make_unique<Directory>(store_, normalize_path(name));
    return IOStatus::OK();
  });
}

IOStatus PluginFileSystem::FileExists(const std::string& name, const IOOptions&, IODebugContext*) {
  return guarded([&] {
    Result<FileInfo> info = store_->stat(normalize_path(name));
    if (info) return IOStatus::OK();
    return means_absent(info.error()) ? IOStatus::NotFound() : to_io_status(info.error(), name);
  });
}

IOStatus PluginFileSystem::GetChildren(const std::string& directory, const IOOptions& options,
                                       std::vector<std::string>* result, IODebugContext*) {
  return guarded([&] {
    result->clear();
    Result<std::vector<DirectoryEntry>> entries = store_->list(normalize_path(directory));
    if (!entries) {
      return means_absent(entries.error()) ? IOStatus::NotFound(directory)
                                           : to_io_status(entries.error(), directory);
    }
    result->reserve(entries->size());
    for (DirectoryEntry& entry : *entries) {
      if (!(entry.is_directory && options.do_not_recurse)) result->push_back(std::move(entry.name));
    }
    return IOStatus::OK();
  });
}

IOStatus PluginFileSystem::GetChildrenFileAttributes(const std::string& directory, const IOOptions&,
                                                     std::vector<rocksdb::FileAttributes>* result,
                                                     IODebugContext*) {
  return guarded([&] {
    result->clear();
    const std::string path = normalize_path(directory);
    Result<std::vector<DirectoryEntry>> entries = store_->list(path);
    if (!entries) {
      return means_absent(entries.error()) ? IOStatus::NotFound(directory)
                                           : to_io_status(entries.error(), directory);
    }
    for (DirectoryEntry& entry : *entries) {
      Result<FileInfo> info = store_->stat(normalize_path(path + "/" + entry.name));
      if (info) {
        result->push_back({.name = std::move(entry.name), .size_bytes = info->size_bytes});
      } else if (!means_absent(info.error())) {  // absent: removed since the listing
        return to_io_status(info.error(), entry.name);
      }
    }
    return IOStatus::OK();
  });
}

IOStatus PluginFileSystem::DeleteFile(const std::string& name, const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(store_->remove(normalize_path(name)), name); });
}

IOStatus PluginFileSystem::Truncate(const std::string& name, size_t size, const IOOptions&,
                                    IODebugContext*) {
  return guarded([&] { return to_io_status(store_->truncate(normalize_path(name), size), name); });
}

Status PluginFileSystem::make_directory_and_parents(const std::string& path) const {
  Status status = store_->make_directory(path);
  if (status.code() != StatusCode::not_found || path == "/") return status;
  Status parents = make_directory_and_parents(std::string(parent_path(path)));
  if (!parents.ok() && parents.code() != StatusCode::already_exists) return parents;
  return store_->make_directory(path);
}

IOStatus PluginFileSystem::CreateDir(const std::string& name, const IOOptions&, IODebugContext*) {
  return guarded(
      [&] { return to_io_status(make_directory_and_parents(normalize_path(name)), name); });
}

IOStatus PluginFileSystem::CreateDirIfMissing(const std::string& name, const IOOptions&,
                                              IODebugContext*) {
  return guarded([&] {
    const std::string path = normalize_path(name);
    Result<FileInfo> present = store_->stat(path);
    if (present && present->is_directory) return IOStatus::OK();
    if (present) return IOStatus::IOError(name, "exists, and is not a directory");
    Status status = make_directory_and_parents(path);
    if (status.code() == StatusCode::already_exists) {  // somebody was faster
      present = store_->stat(path);
      if (present && present->is_directory) return IOStatus::OK();
    }
    return to_io_status(status, name);
  });
}

IOStatus PluginFileSystem::DeleteDir(const std::string& name, const IOOptions&, IODebugContext*) {
  return guarded(
      [&] { return to_io_status(store_->remove_directory(normalize_path(name)), name); });
}

IOStatus PluginFileSystem::read_attributes(const std::string& name, FileInfo* info) const {
  Result<FileInfo> found = store_->stat(normalize_path(name));
  if (!found) return to_io_status(found.error(), name);
  *info = *found;
  return IOStatus::OK();
}

IOStatus PluginFileSystem::GetFileSize(const std::string& name, const IOOptions&, uint64_t* size,
                                       IODebugContext*) {
  return guarded([&] {
    FileInfo info;
    IOStatus status = read_attributes(name, &info);
    *size = info.size_bytes;
    return status;
  });
}

IOStatus PluginFileSystem::GetFileModificationTime(const std::string& name, const IOOptions&,
                                                   uint64_t* seconds, IODebugContext*) {
  return guarded([&] {
    FileInfo info;
    IOStatus status = read_attributes(name, &info);
    *seconds = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(info.modified).count());
    return status;
  });
}

IOStatus PluginFileSystem::RenameFile(const std::string& from, const std::string& to,
                                      const IOOptions&, IODebugContext*) {
  return guarded([&] {
    return to_io_status(store_->rename(normalize_path(from), normalize_path(to)),
                        from + " to " + to);
  });
}

IOStatus PluginFileSystem::LinkFile(const std::string& existing, const std::string& created,
                                    const IOOptions&, IODebugContext*) {
  return guarded([&] {
    return to_io_status(store_->link(normalize_path(existing), normalize_path(created)),
                        existing + " as " + created);
  });
}

IOStatus PluginFileSystem::NumFileLinks(const std::string& name, const IOOptions&, uint64_t* count,
                                        IODebugContext*) {
  return guarded([&] {
    FileInfo info;
    IOStatus status = read_attributes(name, &info);
    *count = info.link_count;
    return status;
  });
}

IOStatus PluginFileSystem::AreFilesSame(const std::string& first, const std::string& second,
                                        const IOOptions&, bool* same, IODebugContext*) {
  return guarded([&] {
    FileInfo a;
    FileInfo b;
    IOStatus status = read_attributes(first, &a);
    if (status.ok()) status = read_attributes(second, &b);
    *same = status.ok() && a.file_id == b.file_id;
    return status;
  });
}

IOStatus PluginFileSystem::IsDirectory(const std::string& name, const IOOptions&,
                                       bool* is_directory, IODebugContext*) {
  return guarded([&] {
    FileInfo info;
    IOStatus status = read_attributes(name, &info);
    *is_directory = info.is_directory;
    return status;
  });
}

IOStatus PluginFileSystem::LockFile(const std::string& name, const IOOptions&,
                                    rocksdb::FileLock** lock, IODebugContext*) {
  return guarded([&] {
    *lock = nullptr;
    const std::string path = normalize_path(name);
    auto created = store_->create(path, FileKind::table, {.exclusive = true});
    if (!created && created.error().code() != StatusCode::already_exists) {
      return to_io_status(created.error(), "lock " + name);
    }
    auto held = std::make_unique<HeldLock>(path);
    Status status = store_->lock(path);
    if (status.ok()) *lock = held.release();
    return to_io_status(status, "lock " + name);
  });
}

IOStatus PluginFileSystem::UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) {
  return guarded([&] {
    const std::unique_ptr<HeldLock> held(static_cast<HeldLock*>(lock));
    return to_io_status(store_->unlock(held->path()), "unlock " + held->path());
  });
}

IOStatus PluginFileSystem::GetTestDirectory(const IOOptions& options, std::string* path,
                                            IODebugContext* dbg) {
  return guarded([&] {
    const char* chosen =
        std::getenv("TEST_TMPDIR");  // as RocksDB's tests know it, but in the store
    const bool given = chosen != nullptr && *chosen != '\0';
    *path = given ? normalize_path(chosen) : "/tmp/rocksdbtest-" + std::to_string(geteuid());
    return CreateDirIfMissing(*path, options, dbg);
  });
}

IOStatus PluginFileSystem::GetAbsolutePath(const std::string& path, const IOOptions&,
                                           std::string* output_path, IODebugContext*) {
  return guarded([&] {
    *output_path = normalize_path(path);
    return IOStatus::OK();
  });
}

IOStatus PluginFileSystem::GetFreeSpace(const std::string&, const IOOptions&, uint64_t* free_bytes,
                                        IODebugContext*) {
  return guarded([&] {
    *free_bytes = store_->space().free_bytes;
    return IOStatus::OK();
  });
}

FileOptions PluginFileSystem::OptimizeForLogWrite(const FileOptions& options,
                                                  const rocksdb::DBOptions& db_options) const {
  FileOptions result = rocksdb::FileSystem::OptimizeForLogWrite(options, db_options);
  result.use_mmap_writes = false;
  result.use_direct_writes = false;
  return result;
}

FileOptions PluginFileSystem::OptimizeForManifestWrite(const FileOptions& options) const {
  FileOptions result = options;
  result.use_mmap_writes = false;
  result.use_direct_writes = false;
  return result;
}

std::string PluginFileSystem::SerializeOptions(const rocksdb::ConfigOptions& options,
                                               const std::string& prefix) const {
  return prefix + "id=" + id_ + options.delimiter;
}

IOStatus PluginFileSystem::Poll(std::vector<void*>& io_handles, size_t) {
  return guarded([&] { return poll_async_reads(*store_, io_handles); });
}

IOStatus PluginFileSystem::AbortIO(std::vector<void*>& io_handles) {
  return guarded([&] { return abort_async_reads(*store_, io_handles); });
}

#if BASALT_ROCKSDB >= 804
void PluginFileSystem::SupportedOps(int64_t& supported_ops) {
  supported_ops = int64_t{1} << rocksdb::FSSupportedOps::kAsyncIO;
#if BASALT_ROCKSDB >= 1008
  supported_ops |= int64_t{1} << rocksdb::FSSupportedOps::kFSPrefetch;
#endif
}
#endif

}  // namespace basalt::rocksdb_env
