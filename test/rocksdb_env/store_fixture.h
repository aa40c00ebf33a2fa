// A store in a file of its own, for the tests of the RocksDB plugin; everything goes through the
// URI, as users do it. The file is removed with the object.
#pragma once

#include <basalt/rocksdb.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

namespace basalt::rocksdb_env {

class TempStore {
 public:
  // `size` is the create= value.
  explicit TempStore(std::string size = "1G") : size_(std::move(size)) {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-test-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~TempStore() { std::filesystem::remove_all(directory_); }
  TempStore(const TempStore&) = delete;
  TempStore& operator=(const TempStore&) = delete;

  std::string file() const { return directory_ + "/store.img"; }
  // A URI that makes the store when it is not there; `more` is "&key=value…".
  std::string uri(const std::string& more = "") const {
    return "basalt://file:" + file() + "?create=" + size_ + more;
  }

  std::shared_ptr<rocksdb::FileSystem> open(const std::string& more = "") const {
    std::shared_ptr<rocksdb::FileSystem> result;
    rocksdb::Status status = NewRocksdbFileSystem(uri(more), &result);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return result;
  }

 private:
  std::string directory_;
  const std::string size_;
};

// A test with a store and short names for the arguments that never matter.
class StoreTest : public ::testing::Test {
 protected:
  void write_file(const std::string& name, const std::string& contents) {
    rocksdb::IOStatus status = rocksdb::WriteStringToFile(fs_.get(), contents, name, false);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }
  std::string read_file(const std::string& name) {
    std::string contents;
    rocksdb::IOStatus status = rocksdb::ReadFileToString(fs_.get(), name, &contents);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return contents;
  }
  // Unmounts and mounts again.
  void reopen() {
    fs_.reset();
    fs_ = store_.open();
  }

  TempStore store_;
  std::shared_ptr<rocksdb::FileSystem> fs_ = store_.open();
  const rocksdb::FileOptions file_options_;
  const rocksdb::IOOptions io_;
};

inline ::testing::AssertionResult is_ok(const char* expression, const rocksdb::Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << expression << ": " << status.ToString();
}
#define EXPECT_OK(expression) EXPECT_PRED_FORMAT1(::basalt::rocksdb_env::is_ok, expression)
#define ASSERT_OK(expression) ASSERT_PRED_FORMAT1(::basalt::rocksdb_env::is_ok, expression)

}  // namespace basalt::rocksdb_env
