// See lossy_log.h.
#include "system/stress/lossy_log.h"

#include <atomic>
#include <string>

namespace basalt::stress {
namespace {

constexpr unsigned kAppendsPerLoss = 50;

class LossyLog final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using FSWritableFileOwnerWrapper::Append;
  using FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* dbg) override {
    if (++appends_ % kAppendsPerLoss == 0) return rocksdb::IOStatus::OK();
    return FSWritableFileOwnerWrapper::Append(data, options, dbg);
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& info,
                           rocksdb::IODebugContext* dbg) override {
    if (++appends_ % kAppendsPerLoss == 0) return rocksdb::IOStatus::OK();
    return FSWritableFileOwnerWrapper::Append(data, options, info, dbg);
  }

 private:
  std::atomic<unsigned> appends_ = 0;
};

class LossyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "LossyFileSystem"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* dbg) override {
    return wrapped(name, FileSystemWrapper::NewWritableFile(name, options, result, dbg), result);
  }
  rocksdb::IOStatus ReuseWritableFile(const std::string& name, const std::string& old_name,
                                      const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* dbg) override {
    return wrapped(name, FileSystemWrapper::ReuseWritableFile(name, old_name, options, result, dbg),
                   result);
  }

 private:
  static rocksdb::IOStatus wrapped(const std::string& name, rocksdb::IOStatus status,
                                   std::unique_ptr<rocksdb::FSWritableFile>* result) {
    if (status.ok() && name.ends_with(".log")) {
      *result = std::make_unique<LossyLog>(std::move(*result));
    }
    return status;
  }
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> losing_log_appends(
    std::shared_ptr<rocksdb::FileSystem> target) {
  return std::make_shared<LossyFileSystem>(std::move(target));
}

}  // namespace basalt::stress
