// A program that uses stores from its exit handlers, after main() has returned: RocksDB's tools keep
// their Env in static objects, so this is how their databases are closed. Two runs with one URI: the
// first writes while it goes down, the second must find it.
//
//   exit_handler_program <basalt:// URI> write|verify
#include <basalt/rocksdb.h>
#include <rocksdb/db.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace {

std::string uri;

struct Database {
  std::unique_ptr<rocksdb::Env> env;
  std::unique_ptr<rocksdb::DB> db;
};

rocksdb::Status open(Database& database) {
  rocksdb::Status status = basalt::NewRocksdbEnv(uri, &database.env);
  if (!status.ok()) return status;
  rocksdb::Options options;
  options.env = database.env.get();
  options.create_if_missing = true;
  rocksdb::DB* db = nullptr;
  status = rocksdb::DB::Open(options, "/db", &db);
  database.db.reset(db);
  return status;
}

// Runs first at exit: made last, as a static object of main().
struct LastWriter {
  Database database;
  ~LastWriter() {
    if (!database.db->Put({}, "written by", "a static destructor").ok()) std::_Exit(3);
    database.db.reset();
    database.env.reset();  // unmounts
  }
};

// Runs after that, when even RocksDB's own Env is gone (its EnvOptions() no longer works then, so this
// makes a directory, not a file): mounts, changes something and unmounts once more.
void at_exit() {
  std::shared_ptr<rocksdb::FileSystem> fs;
  if (!basalt::NewRocksdbFileSystem(uri, &fs).ok()) std::_Exit(4);
  if (!fs->CreateDirIfMissing("/exit", rocksdb::IOOptions(), nullptr).ok()) std::_Exit(5);
}

int verify(const Database& database) {
  std::string value;
  if (!database.db->Get({}, "written by", &value).ok()) return 6;
  if (value != "a static destructor") return 7;
  return database.env->FileExists("/exit").ok() ? 0 : 8;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  uri = argv[1];
  std::atexit(at_exit);
  Database database;
  const rocksdb::Status status = open(database);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::_Exit(1);
  }
  if (std::strcmp(argv[2], "verify") == 0) return verify(database);
  static LastWriter last_writer{std::move(database)};
  return 0;
}
