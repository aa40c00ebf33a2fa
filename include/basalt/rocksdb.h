// RocksDB on a Basalt store: a rocksdb::FileSystem or Env that keeps a database on a device URI.
//
//   std::shared_ptr<rocksdb::FileSystem> fs;
//   auto status = basalt::NewRocksdbFileSystem("basalt://file:/var/lib/db.img?create=64G", &fs);
//   if (!status.ok()) return fail(status.ToString());
//   std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
//   options.env = env.get();
//   rocksdb::DB::Open(options, "/db", &db);
//
// The keys of the URI, and what each durability call means, are in docs/guide/rocksdb.md. Every
// object made for one device shares one mount; the store is unmounted when the last of them and the
// last file made by them are gone. A program that wants the stock way (Options strings, --fs_uri)
// calls RegisterRocksdbFactories() once, or preloads librocksdb_basalt.so, which does only that.
//
// Thread rules: every function may be called from any thread, also from exit handlers.
#pragma once

#include <basalt/file_system.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/status.h>
#include <rocksdb/utilities/object_registry.h>

#include <memory>
#include <string>

namespace basalt {

// Mounts (or shares) the store that `uri` names. InvalidArgument when the URI is wrong; otherwise
// the error of opening the device or mounting the store, mapped as every other call's errors are.
rocksdb::Status NewRocksdbFileSystem(const std::string& uri,
                                     std::shared_ptr<rocksdb::FileSystem>* result);

// The same, as an Env with RocksDB's own threads and clock.
rocksdb::Status NewRocksdbEnv(const std::string& uri, std::unique_ptr<rocksdb::Env>* result);

// Over a store that is already mounted; it is unmounted by whoever holds the last reference. `id`
// names it in messages and option strings.
std::shared_ptr<rocksdb::FileSystem> NewRocksdbFileSystem(std::shared_ptr<FileSystem> store,
                                                          std::string id);

// Makes "basalt://…" known to `library` (FileSystem and Env), for rocksdb::FileSystem::
// CreateFromString, Env::CreateFromUri and the tools' --fs_uri and --env_uri.
void RegisterRocksdbFactories(rocksdb::ObjectLibrary& library = *rocksdb::ObjectLibrary::Default());

}  // namespace basalt
