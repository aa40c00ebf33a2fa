// RocksDB's asynchronous reads over AsyncRead.
//
// A handle is the request that ReadAsync() got: RocksDB owns it through the deleter it was given,
// and hands it back to Poll() or AbortIO() of the file system. The callback runs exactly once, in
// the thread that polls or aborts; any thread may do that.
#pragma once

#include <basalt/file_system.h>

#include <memory>
#include <vector>

#include "rocksdb_env/compat.h"

namespace basalt::rocksdb_env {

// Starts `request` on `file`; RocksDB's request dies with the call, so what matters is copied. On
// success *io_handle and *deleter are set; on failure the callback is never called.
rocksdb::IOStatus start_async_read(std::shared_ptr<FileSystem> store, File& file,
                                   const rocksdb::FSReadRequest& request,
                                   AsyncReadCallback callback, void* callback_argument,
                                   void** io_handle, rocksdb::IOHandleDeleter* deleter);

// Waits for every handle and calls the callbacks that have not run.
rocksdb::IOStatus poll_async_reads(FileSystem& store, const std::vector<void*>& io_handles);

// Stops every handle whose callback has not run, waits until the device is done with the buffer,
// and calls the callback with Aborted. RocksDB 7.8's header says "shouldn't call the callback", but
// its reader frees the request nowhere else, and releases from 11.0 on ask for the call.
rocksdb::IOStatus abort_async_reads(FileSystem& store, const std::vector<void*>& io_handles);

}  // namespace basalt::rocksdb_env
