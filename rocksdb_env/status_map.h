// Where Basalt's Status becomes RocksDB's IOStatus: one table, and the fence for exceptions.
//
// RocksDB decides by code, subcode and the retryable bit whether an error stops the database for
// good, is retried in the background, or means "no such file"; docs/guide/rocksdb.md tells which.
#pragma once

#include <basalt/status.h>
#include <rocksdb/io_status.h>

#include <string_view>
#include <utility>

namespace basalt::rocksdb_env {

// `object` (a path, "lock /db/LOCK") opens the message. An ok Status gives an OK IOStatus.
rocksdb::IOStatus to_io_status(const Status& status, std::string_view object);

// For the calls whose contract is NotFound instead of PathNotFound (FileExists, GetChildren).
bool means_absent(const Status& status);

// The exception being handled, as an IOStatus. Only inside a catch block.
rocksdb::IOStatus current_exception_status() noexcept;

// Runs `body`, which returns an IOStatus; what it throws comes back as one. RocksDB is not written
// for exceptions from a file system, so every override that can allocate goes through here.
template <typename Body>
rocksdb::IOStatus guarded(Body&& body) noexcept {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    return current_exception_status();
  }
}

}  // namespace basalt::rocksdb_env
