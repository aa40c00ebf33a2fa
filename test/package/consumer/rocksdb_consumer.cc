// A program outside the tree: opens a RocksDB database on a store in memory.
#include <basalt/rocksdb.h>
#include <rocksdb/db.h>

#include <cstdio>
#include <memory>

namespace {

rocksdb::Status run() {
  std::unique_ptr<rocksdb::Env> env;
  auto status = basalt::NewRocksdbEnv("basalt://ram:256M?create=256M", &env);
  if (!status.ok()) return status;
  rocksdb::Options options;
  options.env = env.get();
  options.create_if_missing = true;
  rocksdb::DB* opened = nullptr;
  status = rocksdb::DB::Open(options, "/db", &opened);
  if (!status.ok()) return status;
  const std::unique_ptr<rocksdb::DB> db(opened);
  status = db->Put({}, "key", "value");
  if (!status.ok()) return status;
  std::string value;
  status = db->Get({}, "key", &value);
  if (!status.ok()) return status;
  if (value != "value") return rocksdb::Status::Corruption("read " + value);
  return db->Close();
}

}  // namespace

int main() {
  const rocksdb::Status status = run();
  std::printf("rocksdb_consumer: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
