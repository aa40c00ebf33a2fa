// Database: one opened RocksDB with all the column families of the key space, and paths around it.
// Closed by its destructor. Any thread.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace basalt::stress {

// Where it lies in its file system.
inline constexpr const char* kDatabase = "/db";

class Database {
 public:
  enum class Mode : uint8_t { read_write, read_only };

  // Nothing is open when the status is not ok.
  static rocksdb::Status open(const rocksdb::Options& options, const std::string& path,
                              uint32_t family_count, Mode mode, std::unique_ptr<Database>* result);
  ~Database();

  rocksdb::DB& db() const { return *db_; }
  rocksdb::ColumnFamilyHandle* family(uint32_t index) const { return families_[index]; }
  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const { return families_; }
  // IngestExternalFile() of one table. RocksDB answers TryAgain, having changed nothing, when the flush it
  // made first is over but the version with its result is not installed yet: then once more, for up to 10 s.
  rocksdb::Status ingest(uint32_t family, const std::string& path,
                         const rocksdb::IngestExternalFileOptions& options) const;
  // What RocksDB says to being closed; nothing else may be called after.
  rocksdb::Status close();

 private:
  Database() = default;

  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
};

// Removes `path` and all below it; ok if it is not there.
rocksdb::Status remove_tree(rocksdb::Env& env, const std::string& path);

}  // namespace basalt::stress
