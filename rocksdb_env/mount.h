// Stores mounted by this process for RocksDB: one mount per device, shared, found by its URI.
//
// RocksDB asks for a FileSystem again and again (once per option string, once per tool stage),
// while a device has one owner. acquire_store() therefore answers the mount that exists, or makes
// it; the last reference unmounts. The table behind it is never destroyed, so both work in exit
// handlers.
//
// With BASALT_STATS=1 in the environment each mount prints one line of counters to stderr when it
// ends, or when the process does, whichever is first: the proof that this file system was used.
#pragma once

#include <basalt/file_system.h>

#include <memory>
#include <string_view>

#include "rocksdb_env/store_uri.h"

namespace basalt::rocksdb_env {

// Creates the store first if the URI says so and there is none. Any thread.
Result<std::shared_ptr<FileSystem>> acquire_store(const StoreUri& uri);

}  // namespace basalt::rocksdb_env
