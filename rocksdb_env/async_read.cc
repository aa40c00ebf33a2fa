// A Handle is an AsyncRead together with RocksDB's callback. RocksDB owns it through the deleter; the
// store fills it only inside wait_reads() and cancel_read(), so no lock is needed.
#include "rocksdb_env/async_read.h"

#include <utility>

#include "rocksdb_env/status_map.h"

namespace basalt::rocksdb_env {
namespace {

struct Handle {
  // Keeps the store mounted until RocksDB deletes the handle.
  std::shared_ptr<FileSystem> store;
  AsyncRead read;
  AsyncReadCallback callback;
  void* callback_argument = nullptr;
  bool delivered = false;

  ~Handle() {
    if (!read.done) store->cancel_read(read);  // the buffer is about to be freed
  }

  void deliver(rocksdb::IOStatus status) {
    if (std::exchange(delivered, true)) return;
    rocksdb::FSReadRequest request;
    request.offset = read.offset;
    request.len = read.buffer.size();
    request.scratch = reinterpret_cast<char*>(read.buffer.data());
    request.result = rocksdb::Slice(request.scratch, status.ok() ? read.length : 0);
    request.status = std::move(status);
    callback(request, callback_argument);
  }
};

}  // namespace

rocksdb::IOStatus start_async_read(std::shared_ptr<FileSystem> store, File& file,
                                   const rocksdb::FSReadRequest& request,
                                   AsyncReadCallback callback, void* callback_argument,
                                   void** io_handle, rocksdb::IOHandleDeleter* deleter) {
  auto handle = std::make_unique<Handle>();
  handle->store = std::move(store);
  handle->callback = std::move(callback);
  handle->callback_argument = callback_argument;
  handle->read.offset = request.offset;
  handle->read.buffer = {reinterpret_cast<std::byte*>(request.scratch), request.len};
  *deleter = [](void* pointer) { delete static_cast<Handle*>(pointer); };
  file.start_read(handle->read);
  *io_handle = handle.release();
  return rocksdb::IOStatus::OK();
}

rocksdb::IOStatus poll_async_reads(FileSystem& store, const std::vector<void*>& io_handles) {
  std::vector<AsyncRead*> pending;
  pending.reserve(io_handles.size());
  for (void* pointer : io_handles) {
    auto* handle = static_cast<Handle*>(pointer);
    if (!handle->read.done) pending.push_back(&handle->read);
  }
  Status waited;
  if (!pending.empty()) waited = store.wait_reads(pending, pending.size());
  for (void* pointer : io_handles) {
    auto* handle = static_cast<Handle*>(pointer);
    if (handle->read.done) handle->deliver(to_io_status(handle->read.status, "asynchronous read"));
  }
  return to_io_status(waited, "poll");
}

rocksdb::IOStatus abort_async_reads(FileSystem& store, const std::vector<void*>& io_handles) {
  for (void* pointer : io_handles) {
    auto* handle = static_cast<Handle*>(pointer);
    if (handle->delivered) continue;
    if (!handle->read.done) store.cancel_read(handle->read);
    handle->deliver(rocksdb::IOStatus::Aborted("asynchronous read"));
  }
  return rocksdb::IOStatus::OK();
}

}  // namespace basalt::rocksdb_env
