// Thin: what is buffered, sealed, allocated and flushed is decided below.
#include "rocksdb_env/write_files.h"

#include <cstring>
#include <span>
#include <utility>

#include "base/crc32c.h"
#include "base/endian.h"
#include "rocksdb_env/status_map.h"

namespace basalt::rocksdb_env {
namespace {

using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

std::span<const std::byte> bytes_of(const Slice& data) {
  return {reinterpret_cast<const std::byte*>(data.data()), data.size()};
}

// RocksDB hands over the plain CRC-32C of the buffer, four bytes, least significant first.
bool matches_checksum(const Slice& data, const Slice& checksum) {
  le32 expected;
  if (checksum.size() != sizeof(expected)) return false;
  std::memcpy(&expected, checksum.data(), sizeof(expected));
  return crc32c(bytes_of(data)) == expected;
}

}  // namespace

WritableFile::WritableFile(OpenFile open, const rocksdb::FileOptions& options)
    : FSWritableFile(options),
      open_(std::move(open)),
      allocate_ahead_(options.allow_fallocate),
      verify_checksums_(options.handoff_checksum_type == rocksdb::ChecksumType::kCRC32c) {}

IOStatus WritableFile::Append(const Slice& data, const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->append(bytes_of(data)), open_.path); });
}

IOStatus WritableFile::Append(const Slice& data, const IOOptions& options,
                              const rocksdb::DataVerificationInfo& verification,
                              IODebugContext* dbg) {
  if (verify_checksums_ && !verification.checksum.empty() &&
      !matches_checksum(data, verification.checksum)) {
    return guarded([&] {
      return IOStatus::Corruption(open_.path, "append of " + std::to_string(data.size()) +
                                                  " bytes at " +
                                                  std::to_string(open_.file->size()) +
                                                  ": they do not match the checksum handed over");
    });
  }
  return Append(data, options, dbg);
}

IOStatus WritableFile::Truncate(uint64_t size, const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->truncate(size), open_.path); });
}

IOStatus WritableFile::Close(const IOOptions&, IODebugContext*) {
  if (std::exchange(closed_, true)) return IOStatus::OK();
  return guarded([&] { return to_io_status(open_.file->close(), open_.path); });
}

IOStatus WritableFile::Flush(const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->flush(), open_.path); });
}

IOStatus WritableFile::Sync(const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->sync(), open_.path); });
}

IOStatus WritableFile::RangeSync(uint64_t offset, uint64_t length, const IOOptions& options,
                                 IODebugContext* dbg) {
  // "Strict" bounds what is under way: nothing earlier may still be. A sync says that and more.
  if (strict_bytes_per_sync_) return Sync(options, dbg);
  return guarded(
      [&] { return to_io_status(open_.file->start_writeback(offset, length), open_.path); });
}

IOStatus WritableFile::Allocate(uint64_t offset, uint64_t length, const IOOptions&,
                                IODebugContext*) {
  if (!allocate_ahead_) return IOStatus::OK();
  return guarded([&] { return to_io_status(open_.file->allocate(offset, length), open_.path); });
}

uint64_t WritableFile::GetFileSize(const IOOptions&, IODebugContext*) { return open_.file->size(); }

size_t WritableFile::GetUniqueId(char* id, size_t max_size) const {
  return write_unique_id(open_, id, max_size);
}

IOStatus WritableFile::InvalidateCache(size_t, size_t) { return IOStatus::OK(); }

RandomRwFile::RandomRwFile(OpenFile open) : open_(std::move(open)) {}

IOStatus RandomRwFile::Write(uint64_t offset, const Slice& data, const IOOptions&,
                             IODebugContext*) {
  return guarded(
      [&] { return to_io_status(open_.file->write(offset, bytes_of(data)), open_.path); });
}

IOStatus RandomRwFile::Read(uint64_t offset, size_t n, const IOOptions&, Slice* result,
                            char* scratch, IODebugContext*) const {
  return guarded([&] {
    Result<size_t> length = open_.file->read(offset, {reinterpret_cast<std::byte*>(scratch), n});
    *result = Slice(scratch, length.value_or(0));
    return length ? IOStatus::OK() : to_io_status(length.error(), open_.path);
  });
}

IOStatus RandomRwFile::Flush(const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->flush(), open_.path); });
}

IOStatus RandomRwFile::Sync(const IOOptions&, IODebugContext*) {
  return guarded([&] { return to_io_status(open_.file->sync(), open_.path); });
}

IOStatus RandomRwFile::Close(const IOOptions&, IODebugContext*) {
  if (std::exchange(closed_, true)) return IOStatus::OK();
  return guarded([&] { return to_io_status(open_.file->close(), open_.path); });
}

Directory::Directory(std::shared_ptr<FileSystem> store, std::string path)
    : store_(std::move(store)), path_(std::move(path)) {}

IOStatus Directory::Fsync(const IOOptions&, IODebugContext*) {
  return guarded([&] {
    Status status = store_->sync_directory(path_);
    // Renamed or removed since it was opened: what was done in it is to be durable all the same.
    if (means_absent(status)) status = store_->sync_directory("/");
    return to_io_status(status, path_);
  });
}

IOStatus Directory::Close(const IOOptions&, IODebugContext*) { return IOStatus::OK(); }

}  // namespace basalt::rocksdb_env
