// What differs between RocksDB's releases, in one place: one source serves 7.8 … 11.x.
//
// kRocksdbVersion is major × 100 + minor; the header tells by `#if BASALT_ROCKSDB >= 900`.
#pragma once

#include <rocksdb/file_system.h>
#include <rocksdb/version.h>

#include <functional>

#define BASALT_ROCKSDB (ROCKSDB_MAJOR * 100 + ROCKSDB_MINOR)

namespace basalt::rocksdb_env {

// The completion of FSRandomAccessFile::ReadAsync.
#if BASALT_ROCKSDB >= 900
using AsyncReadCallback = std::function<void(rocksdb::FSReadRequest&, void*)>;
#else
using AsyncReadCallback = std::function<void(const rocksdb::FSReadRequest&, void*)>;
#endif

}  // namespace basalt::rocksdb_env
