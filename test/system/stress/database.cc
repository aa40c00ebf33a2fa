// See database.h.
#include "system/stress/database.h"

#include <chrono>
#include <thread>

namespace basalt::stress {

rocksdb::Status Database::open(const rocksdb::Options& options, const std::string& path,
                               uint32_t family_count, Mode mode,
                               std::unique_ptr<Database>* result) {
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  descriptors.emplace_back(rocksdb::kDefaultColumnFamilyName, options);
  for (uint32_t i = 1; i < family_count; ++i) {
    descriptors.emplace_back("family" + std::to_string(i), options);
  }
  std::unique_ptr<Database> database(new Database);
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status status =
      mode == Mode::read_only
          ? rocksdb::DB::OpenForReadOnly(options, path, descriptors, &database->families_, &raw)
          : rocksdb::DB::Open(options, path, descriptors, &database->families_, &raw);
  if (!status.ok()) return status;
  database->db_.reset(raw);
  *result = std::move(database);
  return status;
}

Database::~Database() {
  if (db_ != nullptr) close();
}

rocksdb::Status Database::close() {
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  }
  families_.clear();
  const rocksdb::Status status = db_->Close();
  db_.reset();
  return status;
}

rocksdb::Status Database::ingest(uint32_t family, const std::string& path,
                                 const rocksdb::IngestExternalFileOptions& options) const {
  rocksdb::Status status = db_->IngestExternalFile(families_[family], {path}, options);
  for (unsigned i = 0; status.IsTryAgain() && i < 1000; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    status = db_->IngestExternalFile(families_[family], {path}, options);
  }
  return status;
}

rocksdb::Status remove_tree(rocksdb::Env& env, const std::string& path) {
  bool is_directory = false;
  rocksdb::Status status = env.IsDirectory(path, &is_directory);
  if (!status.ok()) return env.FileExists(path).IsNotFound() ? rocksdb::Status::OK() : status;
  if (!is_directory) return env.DeleteFile(path);
  std::vector<std::string> names;
  status = env.GetChildren(path, &names);
  if (!status.ok()) return status;
  for (const std::string& name : names) {
    status = remove_tree(env, path + "/" + name);
    if (!status.ok()) return status;
  }
  return env.DeleteDir(path);
}

}  // namespace basalt::stress
