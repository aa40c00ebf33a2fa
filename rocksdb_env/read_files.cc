// Thin: positions, batches and hints are RocksDB's; caching and readahead are below.
#include "rocksdb_env/read_files.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "rocksdb_env/async_read.h"
#include "rocksdb_env/status_map.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

// Reads into `scratch` and points `result` there; an empty result on failure.
IOStatus read_at(const OpenFile& open, uint64_t offset, size_t n, Slice* result, char* scratch) {
  Result<size_t> length =
      open.file->read(offset, {reinterpret_cast<std::byte*>(scratch), n}, open.caching);
  *result = Slice(scratch, length.value_or(0));
  return length ? IOStatus::OK() : to_io_status(length.error(), open.path);
}

File::Access to_access(rocksdb::FSRandomAccessFile::AccessPattern pattern) {
  switch (pattern) {
    case rocksdb::FSRandomAccessFile::kRandom: return File::Access::random;
    // RocksDB says kNormal only when a table becomes the input of a compaction, which reads it from
    // front to back in 4 KiB calls, and deletes it.
    case rocksdb::FSRandomAccessFile::kNormal: return File::Access::last_pass;
    case rocksdb::FSRandomAccessFile::kSequential:
    case rocksdb::FSRandomAccessFile::kWillNeed: return File::Access::sequential;
    case rocksdb::FSRandomAccessFile::kWontNeed: break;
  }
  return File::Access::normal;
}

}  // namespace

size_t write_unique_id(const OpenFile& open, char* id, size_t max_size) {
  const std::array<uint64_t, 2> words = {open.store_tag, open.file->file_id()};
  if (max_size < sizeof(words)) return 0;
  std::memcpy(id, words.data(), sizeof(words));
  return sizeof(words);
}

SequentialFile::SequentialFile(OpenFile open) : open_(std::move(open)) {
  open_.file->advise(File::Access::sequential);
}

IOStatus SequentialFile::Read(size_t n, const IOOptions&, Slice* result, char* scratch,
                              IODebugContext*) {
  return guarded([&] {
    IOStatus status = read_at(open_, position_, n, result, scratch);
    position_ += result->size();
    return status;
  });
}

IOStatus SequentialFile::Skip(uint64_t n) {
  position_ += n;  // beyond the end is fine: reads there give nothing until the file has grown
  return IOStatus::OK();
}

IOStatus SequentialFile::InvalidateCache(size_t, size_t) { return IOStatus::OK(); }

RandomAccessFile::RandomAccessFile(OpenFile open) : open_(std::move(open)) {}

char* RandomAccessFile::keep_memory(size_t n) const {
  auto memory = std::make_unique<char[]>(n);
  MutexLock lock(kept_mutex_);
  return kept_.emplace_back(std::move(memory)).get();
}

IOStatus RandomAccessFile::Read(uint64_t offset, size_t n, const IOOptions&, Slice* result,
                                char* scratch, IODebugContext*) const {
  return guarded([&] {
    char* const target = scratch != nullptr ? scratch : keep_memory(n);
    return read_at(open_, offset, n, result, target);
  });
}

IOStatus RandomAccessFile::MultiRead(rocksdb::FSReadRequest* requests, size_t request_count,
                                     const IOOptions&, IODebugContext*) {
  constexpr size_t kBatch = 32;  // at once; enough to fill a device queue, and no allocation
  return guarded([&] {
    for (size_t first = 0; first < request_count; first += kBatch) {
      const size_t count = std::min(kBatch, request_count - first);
      std::array<ReadRequest, kBatch> batch;
      for (size_t i = 0; i < count; ++i) {
        const rocksdb::FSReadRequest& from = requests[first + i];
        batch[i].offset = from.offset;
        batch[i].buffer = {reinterpret_cast<std::byte*>(from.scratch), from.len};
      }
      open_.file->read_batch({batch.data(), count}, open_.caching);
      for (size_t i = 0; i < count; ++i) {
        rocksdb::FSReadRequest& to = requests[first + i];
        to.status = to_io_status(batch[i].status, open_.path);
        to.result = Slice(to.scratch, to.status.ok() ? batch[i].length : 0);
      }
    }
    return IOStatus::OK();
  });
}

IOStatus RandomAccessFile::Prefetch(uint64_t offset, size_t n, const IOOptions&, IODebugContext*) {
  // OK promises that the bytes are on their way into a cache; without one, RocksDB must be told, so
  // that it reads ahead into a buffer of its own.
  if (open_.caching == Caching::uncached) return IOStatus::NotSupported("Prefetch: direct reads");
  return guarded([&] { return to_io_status(open_.file->prefetch(offset, n), open_.path); });
}

IOStatus RandomAccessFile::ReadAsync(rocksdb::FSReadRequest& request, const IOOptions&,
                                     AsyncReadCallback callback, void* callback_argument,
                                     void** io_handle, rocksdb::IOHandleDeleter* deleter,
                                     IODebugContext*) {
  return guarded([&] {
    return start_async_read(open_.store, *open_.file, request, std::move(callback),
                            callback_argument, io_handle, deleter);
  });
}

void RandomAccessFile::Hint(AccessPattern pattern) { open_.file->advise(to_access(pattern)); }

size_t RandomAccessFile::GetUniqueId(char* id, size_t max_size) const {
  return write_unique_id(open_, id, max_size);
}

// The cache is the store's own and bounded by itself; cold pages leave without being told to.
IOStatus RandomAccessFile::InvalidateCache(size_t, size_t) { return IOStatus::OK(); }

#if BASALT_ROCKSDB >= 1005
IOStatus RandomAccessFile::GetFileSize(uint64_t* result) {
  *result = open_.file->size();
  return IOStatus::OK();
}
#endif

}  // namespace basalt::rocksdb_env
