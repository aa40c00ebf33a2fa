// Goal: a whole RocksDB lives on a store: every feature that leans on the file system works as on
// any other. Method: RocksDB's public API over the plugin, with reopening in between; what must
// have reached the file system (links, recycled logs, sequence numbers) is checked there.
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/backup_engine.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/utilities/options_util.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "store_fixture.h"

namespace basalt::rocksdb_env {
namespace {

std::string key_of(int i) {
  char key[16];
  std::snprintf(key, sizeof(key), "key%08d", i);
  return key;
}

std::string value_of(int i, int generation = 0) {
  return std::string(100 + i % 100, static_cast<char>('a' + (i + generation) % 26)) +
         std::to_string(i) + "/" + std::to_string(generation);
}

class DbTest : public ::testing::Test {
 protected:
  DbTest() { mount(); }
  ~DbTest() override { close(); }

  void mount(const std::string& keys = "") {
    ASSERT_OK(NewRocksdbEnv(store_.uri(keys), &env_));
    options_.env = env_.get();
    options_.create_if_missing = true;
    options_.write_buffer_size = 256 << 10;
    options_.target_file_size_base = 256 << 10;
  }
  void open(const std::string& path = "/db") {
    rocksdb::DB* db = nullptr;
    ASSERT_OK(rocksdb::DB::Open(options_, path, &db));
    db_.reset(db);
  }
  void close() {
    db_.reset();
    env_.reset();
  }
  // As another process would find it later.
  void reopen() {
    close();
    mount();
    open();
  }
  void fill(rocksdb::DB& db, int first, int last, int generation = 0, bool sync = false) {
    rocksdb::WriteOptions write;
    write.sync = sync;
    for (int i = first; i < last; ++i) {
      ASSERT_OK(db.Put(write, key_of(i), value_of(i, generation)));
    }
  }
  void expect(rocksdb::DB& db, int first, int last, int generation = 0) {
    std::string value;
    for (int i = first; i < last; ++i) {
      ASSERT_OK(db.Get({}, key_of(i), &value));
      ASSERT_EQ(value, value_of(i, generation)) << i;
    }
  }

  TempStore store_;
  std::unique_ptr<rocksdb::Env> env_;
  rocksdb::Options options_;
  std::unique_ptr<rocksdb::DB> db_;
};

TEST_F(DbTest, PutFlushCompactReopen) {
  open();
  fill(*db_, 0, 20'000);
  ASSERT_OK(db_->Flush({}));
  fill(*db_, 5'000, 10'000, 1);
  ASSERT_OK(db_->CompactRange({}, nullptr, nullptr));
  fill(*db_, 20'000, 21'000);  // in the WAL only
  reopen();
  expect(*db_, 0, 5'000);
  expect(*db_, 5'000, 10'000, 1);
  expect(*db_, 10'000, 21'000);
  ASSERT_OK(db_->VerifyChecksum());
  int count = 0;
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->SeekToFirst(); it->Valid(); it->Next()) ++count;
  ASSERT_OK(it->status());
  EXPECT_EQ(count, 21'000);
}

TEST_F(DbTest, OpenTwiceIsRefused) {
  open();
  rocksdb::DB* second = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(options_, "/db", &second);
  EXPECT_TRUE(status.IsIOError()) << status.ToString();
  EXPECT_NE(status.ToString().find("lock "), std::string::npos) << status.ToString();
}

TEST_F(DbTest, DestroyLeavesNothing) {
  open();
  fill(*db_, 0, 5'000);
  db_.reset();
  ASSERT_OK(rocksdb::DestroyDB("/db", options_));
  EXPECT_TRUE(env_->FileExists("/db").IsNotFound());
}

TEST_F(DbTest, AsynchronousIterationAndDirectReads) {
  options_.use_direct_reads = true;
  open();
  fill(*db_, 0, 20'000);
  ASSERT_OK(db_->Flush({}));
  rocksdb::ReadOptions read;
  read.async_io = true;
  read.readahead_size = 64 << 10;
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(read));
  int i = 0;
  for (it->SeekToFirst(); it->Valid(); it->Next(), ++i) ASSERT_EQ(it->value(), value_of(i));
  EXPECT_EQ(i, 20'000);
  for (int start : {17, 19'999, 5'000, 12'345}) {
    it->Seek(key_of(start));
    ASSERT_TRUE(it->Valid());
    EXPECT_EQ(it->value(), value_of(start));
  }
  std::vector<std::string> keys;
  for (int k = 0; k < 200; ++k) keys.push_back(key_of(k * 97));
  std::vector<rocksdb::Slice> slices(keys.begin(), keys.end());
  std::vector<std::string> values;
  for (const rocksdb::Status& status : db_->MultiGet(read, slices, &values)) EXPECT_OK(status);
  for (int k = 0; k < 200; ++k) EXPECT_EQ(values[k], value_of(k * 97));
}

TEST_F(DbTest, CheckpointLinksTables) {
  open();
  fill(*db_, 0, 10'000);
  ASSERT_OK(db_->Flush({}));
  fill(*db_, 10'000, 10'500);
  rocksdb::Checkpoint* raw = nullptr;
  ASSERT_OK(rocksdb::Checkpoint::Create(db_.get(), &raw));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
  ASSERT_OK(checkpoint->CreateCheckpoint("/checkpoints/1", ~uint64_t{0}));
  fill(*db_, 0, 1'000, 1);
  std::vector<std::string> names;
  ASSERT_OK(env_->GetChildren("/checkpoints/1", &names));
  int linked = 0;
  for (const std::string& name : names) {
    if (!name.ends_with(".sst")) continue;
    uint64_t links = 0;
    ASSERT_OK(env_->NumFileLinks("/checkpoints/1/" + name, &links));
    EXPECT_EQ(links, 2u) << name;
    ++linked;
  }
  EXPECT_GT(linked, 0);
  rocksdb::DB* copy = nullptr;
  ASSERT_OK(rocksdb::DB::OpenForReadOnly(options_, "/checkpoints/1", &copy));
  expect(*copy, 0, 10'500);
  delete copy;
}

TEST_F(DbTest, BackupAndRestore) {
  open();
  fill(*db_, 0, 10'000);
  rocksdb::BackupEngineOptions backup("/backup");
  rocksdb::BackupEngine* raw = nullptr;
  ASSERT_OK(rocksdb::BackupEngine::Open(env_.get(), backup, &raw));
  std::unique_ptr<rocksdb::BackupEngine> engine(raw);
  ASSERT_OK(engine->CreateNewBackup(db_.get(), true));
  fill(*db_, 0, 5'000, 1);
  ASSERT_OK(engine->CreateNewBackup(db_.get(), false));
  ASSERT_OK(engine->VerifyBackup(1, true));
  ASSERT_OK(engine->VerifyBackup(2, true));
  ASSERT_OK(engine->RestoreDBFromBackup(1, "/restored1", "/restored1"));
  ASSERT_OK(engine->RestoreDBFromLatestBackup("/restored2", "/restored2"));
  ASSERT_OK(engine->PurgeOldBackups(1));
  ASSERT_OK(engine->GarbageCollect());
  engine.reset();
  db_.reset();
  open("/restored1");
  expect(*db_, 0, 10'000);
  db_.reset();
  open("/restored2");
  expect(*db_, 0, 5'000, 1);
  expect(*db_, 5'000, 10'000);
}

TEST_F(DbTest, IngestWritesTheSequenceNumberIntoTheFile) {
  open();
  fill(*db_, 0, 100);
  const rocksdb::Snapshot* snapshot = db_->GetSnapshot();  // forces a sequence number of its own
  rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), options_);
  ASSERT_OK(writer.Open("/outside.sst"));
  for (int i = 50; i < 5'000; ++i) ASSERT_OK(writer.Put(key_of(i), value_of(i, 3)));
  ASSERT_OK(writer.Finish());
  rocksdb::IngestExternalFileOptions ingest;
  ingest.write_global_seqno = true;
  ingest.move_files = true;
  ASSERT_OK(db_->IngestExternalFile({"/outside.sst"}, ingest));
  db_->ReleaseSnapshot(snapshot);
  expect(*db_, 0, 50);
  expect(*db_, 50, 5'000, 3);
  reopen();
  expect(*db_, 0, 50);
  expect(*db_, 50, 5'000, 3);
  ASSERT_OK(db_->VerifyChecksum());
}

TEST_F(DbTest, RecycledLogs) {
  options_.recycle_log_file_num = 4;
  options_.wal_recovery_mode = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  open();
  for (int round = 0; round < 10; ++round) {
    fill(*db_, round * 2'000, (round + 1) * 2'000);
    ASSERT_OK(db_->Flush({}));
  }
  fill(*db_, 20'000, 20'500, 0, true);  // in a log that took another's place
  reopen();
  expect(*db_, 0, 20'500);
}

TEST_F(DbTest, SyncWalBesideWriters) {
  open();
  std::atomic<bool> stop = false;
  std::thread syncer([&] {
    while (!stop) EXPECT_OK(db_->SyncWAL());
  });
  std::thread other([&] { fill(*db_, 5'000, 10'000); });
  fill(*db_, 0, 5'000);
  other.join();
  stop = true;
  syncer.join();
  ASSERT_OK(db_->FlushWAL(true));
  reopen();
  expect(*db_, 0, 10'000);
}

TEST_F(DbTest, WritersInManyThreadsWithSync) {
  open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] { fill(*db_, t * 100, (t + 1) * 100, 0, true); });
  }
  for (auto& thread : threads) thread.join();
  reopen();
  expect(*db_, 0, 800);
}

// Only what RocksDB 7.8's secondary does on any file system: it follows a log, and opens what has
// been compacted; once it has a memtable of its own it misses flushes.
TEST_F(DbTest, ASecondaryFollowsWithinTheProcess) {
  options_.write_buffer_size = 64 << 20;
  open();
  rocksdb::Options options = options_;
  options.max_open_files = -1;
  for (int start : {0, 10}) {
    fill(*db_, 0, 3'000, start);
    ASSERT_OK(db_->CompactRange({}, nullptr, nullptr));
    rocksdb::DB* raw = nullptr;
    ASSERT_OK(rocksdb::DB::OpenAsSecondary(options, "/db", "/secondary", &raw));
    const std::unique_ptr<rocksdb::DB> secondary(raw);
    expect(*secondary, 0, 3'000, start);
    for (int round = start + 1; round < start + 4; ++round) {
      fill(*db_, 0, 3'000, round);
      ASSERT_OK(secondary->TryCatchUpWithPrimary());
      expect(*secondary, 0, 3'000, round);
    }
  }
}

TEST_F(DbTest, BlobFilesAndChecksumHandoff) {
  options_.enable_blob_files = true;
  options_.min_blob_size = 150;
  options_.enable_blob_garbage_collection = true;
  for (auto type : {rocksdb::FileType::kWalFile, rocksdb::FileType::kTableFile,
                    rocksdb::FileType::kDescriptorFile, rocksdb::FileType::kBlobFile}) {
    options_.checksum_handoff_file_types.Add(type);
  }
  open();
  fill(*db_, 0, 5'000);
  ASSERT_OK(db_->Flush({}));
  fill(*db_, 0, 5'000, 1);
  ASSERT_OK(db_->Flush({}));
  ASSERT_OK(db_->CompactRange({}, nullptr, nullptr));
  reopen();
  expect(*db_, 0, 5'000, 1);
}

// Plain tables read themselves through a memory map, which a store does not have.
TEST_F(DbTest, PlainTables) {
  options_.allow_mmap_reads = true;
  options_.prefix_extractor.reset(rocksdb::NewFixedPrefixTransform(6));
  options_.table_factory.reset(rocksdb::NewPlainTableFactory());
  open();
  fill(*db_, 0, 5'000);
  ASSERT_OK(db_->Flush({}));
  expect(*db_, 0, 5'000);
  reopen();
  expect(*db_, 0, 5'000);
}

TEST_F(DbTest, BytesPerSync) {
  options_.bytes_per_sync = 64 << 10;
  options_.wal_bytes_per_sync = 32 << 10;
  for (bool strict : {false, true}) {
    options_.strict_bytes_per_sync = strict;
    open();
    fill(*db_, 0, 10'000, strict);
    ASSERT_OK(db_->Flush({}));
    expect(*db_, 0, 10'000, strict);
    db_.reset();
  }
}

TEST_F(DbTest, TrashIsEmptied) {
  options_.sst_file_manager.reset(
      rocksdb::NewSstFileManager(options_.env, nullptr, "", 8 << 20, true, nullptr, 1.0, 64 << 10));
  open();
  for (int round = 0; round < 4; ++round) {
    fill(*db_, 0, 10'000, round);
    ASSERT_OK(db_->CompactRange({}, nullptr, nullptr));
  }
  expect(*db_, 0, 10'000, 3);
  bool trash_left = true;  // deleted by a thread of the manager's, at its own rate
  for (int attempt = 0; attempt < 200 && trash_left; ++attempt) {
    env_->SleepForMicroseconds(50'000);
    std::vector<std::string> names;
    ASSERT_OK(env_->GetChildren("/db", &names));
    trash_left = std::any_of(names.begin(), names.end(),
                             [](const std::string& name) { return name.ends_with(".trash"); });
  }
  EXPECT_FALSE(trash_left);
}

TEST_F(DbTest, SeveralStoresAtOnce) {
  open();
  const TempStore other_store("256M");
  std::unique_ptr<rocksdb::Env> other_env;
  ASSERT_OK(NewRocksdbEnv(other_store.uri(), &other_env));
  rocksdb::Options options = options_;
  options.env = other_env.get();
  rocksdb::DB* raw = nullptr;
  ASSERT_OK(rocksdb::DB::Open(options, "/db", &raw));
  std::unique_ptr<rocksdb::DB> other(raw);
  fill(*db_, 0, 3'000, 1);
  fill(*other, 0, 3'000, 2);
  ASSERT_OK(other->Flush({}));
  expect(*db_, 0, 3'000, 1);
  expect(*other, 0, 3'000, 2);
  // A checkpoint of one store's database may be backed up into the other store.
  rocksdb::BackupEngineOptions backup("/backup", other_env.get());
  rocksdb::BackupEngine* engine_raw = nullptr;
  ASSERT_OK(rocksdb::BackupEngine::Open(env_.get(), backup, &engine_raw));
  std::unique_ptr<rocksdb::BackupEngine> engine(engine_raw);
  ASSERT_OK(engine->CreateNewBackup(db_.get(), true));
  ASSERT_OK(engine->VerifyBackup(1, true));
  engine.reset();
  other.reset();
}

TEST_F(DbTest, SeveralDatabasesInOneStore) {
  std::vector<std::unique_ptr<rocksdb::DB>> databases;
  for (int i = 0; i < 5; ++i) {
    rocksdb::DB* raw = nullptr;
    ASSERT_OK(rocksdb::DB::Open(options_, "/many/" + std::to_string(i), &raw));
    databases.emplace_back(raw);
  }
  for (int i = 0; i < 5; ++i) fill(*databases[i], 0, 1'000, i);
  for (int i = 0; i < 5; ++i) expect(*databases[i], 0, 1'000, i);
}

TEST_F(DbTest, OptionsFileIsReadBack) {
  open();
  fill(*db_, 0, 10);
  db_.reset();
  rocksdb::ConfigOptions config;
  config.env = env_.get();
  rocksdb::DBOptions db_options;
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  ASSERT_OK(rocksdb::LoadLatestOptions(config, "/db", &db_options, &families));
  ASSERT_EQ(families.size(), 1u);
  EXPECT_EQ(families[0].options.write_buffer_size, options_.write_buffer_size);
}

// RocksDB is told in a way that lets it go on once there is space again.
TEST(DbSpace, AFullStoreRecovers) {
  const TempStore store("128M");
  std::unique_ptr<rocksdb::Env> env;
  ASSERT_OK(NewRocksdbEnv(store.uri(), &env));
  rocksdb::Options options;
  options.env = env.get();
  options.create_if_missing = true;
  options.write_buffer_size = 4 << 20;
  options.compression = rocksdb::kNoCompression;
  rocksdb::DB* raw = nullptr;
  ASSERT_OK(rocksdb::DB::Open(options, "/db", &raw));
  std::unique_ptr<rocksdb::DB> db(raw);
  ASSERT_OK(rocksdb::WriteStringToFile(env.get(), std::string(40 << 20, 'b'), "/ballast", true));
  rocksdb::Status status;
  int written = 0;
  for (; written < 20'000 && status.ok(); ++written) {
    status = db->Put({}, key_of(written), std::string(10'000, 'v'));
  }
  ASSERT_FALSE(status.ok()) << "the store is too small for what was written";
  --written;
  EXPECT_TRUE(status.IsNoSpace()) << status.ToString();
  ASSERT_OK(env->DeleteFile("/ballast"));
  rocksdb::Status resumed;
  for (int attempt = 0; attempt < 100; ++attempt) {
    resumed = db->Resume();
    if (resumed.ok()) break;
    env->SleepForMicroseconds(100'000);
  }
  ASSERT_OK(resumed);
  ASSERT_OK(db->Put({}, "after", "space again"));
  db.reset();
  ASSERT_OK(rocksdb::DB::Open(options, "/db", &raw));
  db.reset(raw);
  std::string value;
  for (int i = 0; i < written; ++i) ASSERT_OK(db->Get({}, key_of(i), &value));
  ASSERT_OK(db->Get({}, "after", &value));
}

}  // namespace
}  // namespace basalt::rocksdb_env
