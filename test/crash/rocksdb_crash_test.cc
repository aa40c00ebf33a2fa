// RocksDB on a simulated disk that crashes at random moments. After power loss every write acknowledged
// with sync=1 is there; after the death of the process also those with sync=0; in every case the database
// opens and holds no damaged value. Method: two writers with keys of their own, small memtables so that
// flushes and compactions run beside them, a crash after a random number of device commands, reopen,
// compare, go on with the next generation.
#include <basalt/rocksdb.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "base/sync.h"
#include "crash/machine.h"
#include "crash/round.h"
#include "crash/settings.h"

namespace basalt::crash {
namespace {

constexpr unsigned kWriters = 2;

// RocksDB's own logger on the file system goes on writing after an error, which its writer asserts never
// to happen (EnvLogger::Logv in a build with assertions): the log stays out of the crash.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

rocksdb::Options small_options(rocksdb::Env* env) {
  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.info_log = std::make_shared<NoLog>();
  options.write_buffer_size = 64 << 10;
  options.target_file_size_base = 64 << 10;
  options.max_bytes_for_level_base = 256 << 10;
  options.level0_file_num_compaction_trigger = 2;
  options.max_background_jobs = 2;
  options.max_bgerror_resume_count = 0;
  options.compression = rocksdb::kNoCompression;
  options.paranoid_checks = true;
  return options;
}

// What one writer knows: for each key the newest acknowledged version and, if a write failed, the one
// that may have arrived.
struct Writer {
  std::map<std::string, uint64_t> acknowledged;
  std::map<std::string, uint64_t> attempted;
  uint64_t version = 0;
};

class RocksdbCrash : public testing::Test {
 protected:
  void start(uint64_t seed) {
    MachineOptions options = machine_options(seed);
    options.background = Background::thread;
    options.disk.size_bytes = uint64_t{64} << 20;
    if (sim::Random(seed).chance(30)) options.disk.latency = std::chrono::microseconds(30);
    machine_ = std::make_unique<Machine>(options);
    for (Writer& writer : writers_) writer = {};
    const Status formatted = machine_->format();
    ASSERT_TRUE(formatted.ok()) << formatted.to_string();
  }

  void open() {
    const Status mounted = machine_->mount();
    ASSERT_TRUE(mounted.ok()) << mounted.to_string();
    env_ = rocksdb::NewCompositeEnv(
        NewRocksdbFileSystem(std::shared_ptr<FileSystem>(machine_->take_fs()), "sim"));
    rocksdb::DB* db = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(small_options(env_.get()), "/db", &db);
    db_.reset(db);
    ASSERT_TRUE(status.ok()) << status.ToString() << "\n" << machine_->log_text();
  }

  void close() {
    db_.reset();
    env_.reset();
  }

  static std::string value_of(uint64_t version, uint64_t size) {
    std::string value = std::to_string(version) + ":";
    value.resize(std::max<size_t>(value.size(), size), static_cast<char>('a' + version % 26));
    return value;
  }

  // Writes until the disk is gone. What returns after that was heard by nobody.
  void write(unsigned number, uint64_t seed, bool sync) {
    sim::Random random(seed);
    Writer& writer = writers_[number];
    rocksdb::WriteOptions options;
    options.sync = sync;
    for (unsigned i = 0; i < 20'000; ++i) {
      const std::string key = std::to_string(number) + "/" + std::to_string(random.below(500));
      const uint64_t version = ++writer.version;
      writer.attempted[key] = version;
      const std::string value = value_of(version, 20 + random.below(900));
      if (!db_->Put(options, key, value).ok() || machine_->disk().is_cut()) return;
      writer.acknowledged[key] = version;
    }
  }

  void live(uint64_t seed, bool sync, Crash crash) {
    sim::Random random(seed);
    machine_->plan(crash);
    machine_->disk().cut_after(20 + random.below(1500));
    std::vector<Thread> threads;
    for (unsigned i = 0; i < kWriters; ++i) {
      threads.emplace_back("writer", [this, i, sync, own = random.next()] { write(i, own, sync); });
    }
    for (Thread& thread : threads) thread.join();
    machine_->stop();
    close();
  }

  // The version a key has in the database; 0: none.
  uint64_t version_of(const std::string& key) {
    std::string value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), key, &value);
    if (status.IsNotFound()) return 0;
    EXPECT_TRUE(status.ok()) << key << ": " << status.ToString();
    const uint64_t version = std::strtoull(value.c_str(), nullptr, 10);
    EXPECT_EQ(value, value_of(version, value.size())) << key << ": damaged value";
    return version;
  }

  enum class Promise : uint8_t { acknowledged, nothing };

  void compare(Promise promise) {
    for (unsigned number = 0; number < kWriters; ++number) {
      Writer& writer = writers_[number];
      for (const auto& [key, attempted] : writer.attempted) {
        const uint64_t there = version_of(key);
        EXPECT_LE(there, attempted) << key;
        const auto acknowledged = writer.acknowledged.find(key);
        if (promise == Promise::nothing || acknowledged == writer.acknowledged.end()) continue;
        EXPECT_GE(there, acknowledged->second) << key << ": an acknowledged write is missing";
      }
      // The next generation starts from what is there.
      writer.acknowledged.clear();
      for (auto& [key, version] : writer.attempted) {
        version = version_of(key);
        if (version > 0) writer.acknowledged[key] = version;
      }
    }
    const std::unique_ptr<rocksdb::Iterator> all(db_->NewIterator(rocksdb::ReadOptions()));
    for (all->SeekToFirst(); all->Valid(); all->Next()) {
    }
    EXPECT_TRUE(all->status().ok()) << all->status().ToString();
  }

  void run(bool sync, Crash crash, Promise promise) {
    for (uint64_t i = 0; i < rounds(4); ++i) {
      const uint64_t seed = first_seed() + i;
      SCOPED_TRACE(replay_hint(seed));
      sim::Random random(seed);
      ASSERT_NO_FATAL_FAILURE(start(random.next()));
      ASSERT_NO_FATAL_FAILURE(open());
      for (unsigned generation = 0; generation < 3; ++generation) {
        SCOPED_TRACE("generation " + std::to_string(generation));
        live(random.next(), sync, crash);
        machine_->restart(random.next());
        const Result<CheckReport> report = machine_->check();
        ASSERT_TRUE(report) << report.error().to_string();
        EXPECT_EQ(report->problems, std::vector<std::string>{});
        ASSERT_NO_FATAL_FAILURE(open());
        compare(promise);
        ASSERT_FALSE(HasFailure()) << machine_->log_text();
      }
      close();
    }
  }

  std::unique_ptr<Machine> machine_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<rocksdb::DB> db_;
  Writer writers_[kWriters];
};

TEST_F(RocksdbCrash, PowerLossKeepsEverySyncedWrite) {
  run(true, Crash::power_loss, Promise::acknowledged);
}

TEST_F(RocksdbCrash, ProcessDeathKeepsEveryWrite) {
  run(false, Crash::process_death, Promise::acknowledged);
}

TEST_F(RocksdbCrash, PowerLossWithoutSyncLeavesAReadableDatabase) {
  run(false, Crash::power_loss, Promise::nothing);
}

}  // namespace
}  // namespace basalt::crash
