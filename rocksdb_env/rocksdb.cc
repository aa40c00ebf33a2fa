// The public functions of <basalt/rocksdb.h>: URI to mount to FileSystem or Env, and their
// factories.
#include <basalt/rocksdb.h>

#include <utility>

#include "rocksdb_env/mount.h"
#include "rocksdb_env/plugin_file_system.h"
#include "rocksdb_env/status_map.h"
#include "rocksdb_env/store_uri.h"

namespace basalt {
namespace {

using rocksdb::ObjectLibrary;

rocksdb::Status make_file_system(const std::string& uri,
                                 std::unique_ptr<rocksdb::FileSystem>* result) {
  return rocksdb_env::guarded([&] {
    result->reset();
    Result<rocksdb_env::StoreUri> parsed = rocksdb_env::parse_store_uri(uri);
    if (!parsed) return rocksdb_env::to_io_status(parsed.error(), uri);
    Result<std::shared_ptr<FileSystem>> store = rocksdb_env::acquire_store(*parsed);
    if (!store) return rocksdb_env::to_io_status(store.error(), uri);
    *result = std::make_unique<rocksdb_env::PluginFileSystem>(std::move(*store), uri);
    return rocksdb::IOStatus::OK();
  });
}

// RocksDB wraps a factory's message in InvalidArgument, so it gets the sentence without the code.
std::string sentence_of(const rocksdb::Status& status) {
  return status.getState() != nullptr ? status.getState() : status.ToString();
}

rocksdb::FileSystem* file_system_factory(const std::string& uri,
                                         std::unique_ptr<rocksdb::FileSystem>* guard,
                                         std::string* message) {
  rocksdb::Status status = make_file_system(uri, guard);
  if (!status.ok()) *message = sentence_of(status);
  return guard->get();
}

rocksdb::Env* env_factory(const std::string& uri, std::unique_ptr<rocksdb::Env>* guard,
                          std::string* message) {
  rocksdb::Status status = NewRocksdbEnv(uri, guard);
  if (!status.ok()) *message = sentence_of(status);
  return guard->get();
}

}  // namespace

rocksdb::Status NewRocksdbFileSystem(const std::string& uri,
                                     std::shared_ptr<rocksdb::FileSystem>* result) {
  std::unique_ptr<rocksdb::FileSystem> made;
  rocksdb::Status status = make_file_system(uri, &made);
  *result = std::move(made);
  return status;
}

rocksdb::Status NewRocksdbEnv(const std::string& uri, std::unique_ptr<rocksdb::Env>* result) {
  result->reset();
  std::shared_ptr<rocksdb::FileSystem> file_system;
  rocksdb::Status status = NewRocksdbFileSystem(uri, &file_system);
  if (status.ok()) *result = rocksdb::NewCompositeEnv(file_system);
  return status;
}

std::shared_ptr<rocksdb::FileSystem> NewRocksdbFileSystem(std::shared_ptr<FileSystem> store,
                                                          std::string id) {
  return std::make_shared<rocksdb_env::PluginFileSystem>(std::move(store), std::move(id));
}

void RegisterRocksdbFactories(ObjectLibrary& library) {
  // "basalt://" and anything, or nothing, behind it: a URI that is not complete is to be refused
  // with a sentence, where a pattern that does not match would let the tools go on without us.
  ObjectLibrary::PatternEntry pattern("basalt", false);
  pattern.AddSeparator("://", false);
  library.AddFactory<rocksdb::FileSystem>(pattern, file_system_factory);
  library.AddFactory<rocksdb::Env>(pattern, env_factory);
}

}  // namespace basalt
