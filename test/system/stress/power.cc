// See power.h. What makes the rule sound: one column family; no memtable is full by itself, so a log is
// left only in a Flush() that the writer waits for; the log is synced before a table is ingested. So what
// RocksDB itself guarantees to be durable is one prefix of the history, and power loss may add to it only
// what follows next in the log.
#include "system/stress/power.h"

#include <basalt/rocksdb.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/utilities/checkpoint.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "crash/machine.h"
#include "crash/round.h"
#include "sim/random.h"
#include "system/stress/database.h"
#include "system/stress/power_history.h"
#include "system/stress/report.h"

namespace basalt::stress {
namespace {

constexpr uint32_t kKeyCount = 300;
constexpr const char* kCheckpoint = "/checkpoint";
constexpr const char* kTable = "/ingest.sst";
constexpr unsigned kGenerations = 4;
constexpr unsigned kSabotagedMachines = 50;

// RocksDB's own logger on the file system goes on writing after an error, which its writer asserts never
// to happen in a build with assertions: the log stays out of the crash.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

struct Totals {
  uint64_t machines = 0, cuts = 0, cuts_in_recovery = 0, changes = 0, landed = 0, vanished = 0;
  uint64_t verified_keys = 0, checkpoints = 0, ingests = 0, reopenings = 0;

  void add(const Totals& more) {
    machines += more.machines;
    cuts += more.cuts;
    cuts_in_recovery += more.cuts_in_recovery;
    changes += more.changes;
    landed += more.landed;
    vanished += more.vanished;
    verified_keys += more.verified_keys;
    checkpoints += more.checkpoints;
    ingests += more.ingests;
    reopenings += more.reopenings;
  }
};

// One machine, from its first boot through several power cuts. A problem ends it.
class PowerRound {
 public:
  PowerRound(uint64_t seed, Sabotage sabotage, Totals& totals)
      : random_(seed),
        machine_(machine_options(seed, sabotage)),
        history_(kKeyCount),
        totals_(totals) {}
  ~PowerRound() { close(); }

  // What was wrong; empty if nothing was.
  std::string run() {
    require_ok(machine_.format(), "format");
    if (good()) open();
    for (unsigned i = 0; i < kGenerations && good(); ++i) {
      live();
      if (good()) recover();
      if (good()) compare();
    }
    close();
    ++totals_.machines;
    totals_.changes += history_.changes();
    totals_.landed += history_.landed();
    totals_.vanished += history_.vanished();
    return good() ? "" : problem_ + "\n  log since the last boot:\n" + machine_.log_text();
  }

 private:
  static crash::MachineOptions machine_options(uint64_t seed, Sabotage sabotage) {
    crash::MachineOptions options = crash::machine_options(seed);
    options.background = crash::Background::thread;
    options.disk.size_bytes = uint64_t{64} << 20;
    if (sim::Random(seed).chance(30)) options.disk.latency = std::chrono::microseconds(30);
    if (sabotage == Sabotage::flush) {
      options.disk.ignore_flush = true;
      options.disk.volatile_cache = true;
    }
    return options;
  }

  rocksdb::Options database_options() {
    rocksdb::Options options;
    options.env = env_.get();
    options.create_if_missing = true;
    options.info_log = std::make_shared<NoLog>();
    options.write_buffer_size = 8 << 20;  // never filled by what is written between two cuts
    options.target_file_size_base = 32 << 10;
    options.max_bytes_for_level_base = 128 << 10;
    options.level0_file_num_compaction_trigger = 2;
    options.max_bgerror_resume_count = 0;
    options.compression = rocksdb::kNoCompression;
    options.paranoid_checks = true;
    options.use_direct_reads = direct_reads_;
    return options;
  }

  bool good() const { return problem_.empty(); }
  void wrong(const std::string& what) {
    if (good()) problem_ = what;
  }
  void require_ok(const Status& status, const std::string& what) {
    if (!status.ok()) wrong(what + ": " + status.to_string());
  }
  // Whether the answer was heard: not after the power went. An error heard is a problem.
  bool heard(const rocksdb::Status& status, const char* what) {
    if (machine_.disk().is_cut()) return false;
    if (!status.ok()) wrong(std::string(what) + ": " + status.ToString());
    return status.ok();
  }

  // False if the power went, or with a problem.
  bool open() {
    const Status mounted = machine_.mount();
    if (machine_.disk().is_cut()) return false;
    if (!mounted.ok()) {
      require_ok(mounted, "mount");
      return false;
    }
    env_ = rocksdb::NewCompositeEnv(
        NewRocksdbFileSystem(std::shared_ptr<FileSystem>(machine_.take_fs()), "sim"));
    direct_reads_ = random_.chance(30);
    return heard(Database::open(database_options(), kDatabase, 1, Database::Mode::read_write,
                                &database_),
                 "open the database") &&
           heard(remove_tree(*env_, kCheckpoint), "remove the checkpoint") &&
           heard(remove_tree(*env_, std::string(kCheckpoint) + ".tmp"), "remove a checkpoint") &&
           heard(remove_tree(*env_, kTable), "remove a table");
  }
  void close() {
    database_.reset();
    env_.reset();
  }

  // Until the power goes.
  void live() {
    sync_percent_ = random_.chance(50) ? 3 : 20;
    machine_.plan(crash::Crash::power_loss);
    machine_.disk().cut_after(20 + random_.below(random_.chance(50) ? 200 : 1500));
    for (unsigned i = 0; i < 3000 && step(); ++i) {
    }
    machine_.stop();
    close();
    ++totals_.cuts;
  }

  // Boots and opens, perhaps with further cuts on the way.
  void recover() {
    machine_.restart(random_.next());
    for (unsigned tries = 0; good(); ++tries) {
      const auto report = machine_.check();
      if (!report) return require_ok(report.error(), "check");
      if (!report->clean()) return wrong("check: " + report->problems.front());
      const bool cut_again = tries < 3 && random_.chance(30);
      if (cut_again) {
        machine_.plan(crash::Crash::power_loss);
        machine_.disk().cut_after(1 + random_.below(60));
      }
      const bool opened = open();
      if (opened || !good()) return machine_.disk().cut_after(sim::SimDisk::kNever);
      machine_.stop();
      close();
      ++totals_.cuts_in_recovery;
      machine_.restart(random_.next());
    }
  }

  void compare() {
    std::vector<Found> found;
    if (!heard(read_all(*database_, &found), "read everything") || !good()) return;
    if (const auto problem = history_.settle(found)) wrong("after power loss: " + *problem);
    totals_.verified_keys += found.size();
  }

  // ---- Operations: false when the power went, or with a problem.

  bool step() {
    const uint64_t choice = random_.below(1000);
    if (choice < 600) return put();
    if (choice < 720) return remove();
    if (choice < 750) return remove_range();
    if (choice < 900) return batch();
    if (choice < 940) return read();
    if (choice < 960) return durable(database_->db().SyncWAL(), "SyncWAL");
    if (choice < 975) return durable(database_->db().Flush({}), "Flush");
    if (choice < 981) {
      return heard(database_->db().CompactRange({}, nullptr, nullptr), "CompactRange");
    }
    if (choice < 989) return ingest();
    if (choice < 995) return checkpoint();
    return reopen();
  }

  bool durable(const rocksdb::Status& status, const char* what) {
    if (!heard(status, what)) return false;
    history_.is_durable();
    return true;
  }
  // A write: durable if it was synced.
  bool written(const rocksdb::Status& status, const char* what) {
    return write_.sync ? durable(status, what) : heard(status, what);
  }

  // Notes a change of one key and chooses whether it is synced.
  Key begin(bool present) {
    const Key key = any_key();
    number_ = history_.begin_change();
    history_.add(key, present);
    write_.sync = random_.chance(sync_percent_);
    return key;
  }
  bool put() {
    const Key key = begin(true);
    return written(database_->db().Put(write_, key_text(key.index), value_text(key, number_)),
                   "Put");
  }
  bool remove() {
    const Key key = begin(false);
    return written(database_->db().Delete(write_, key_text(key.index)), "Delete");
  }
  bool remove_range() {
    const Key first = begin(false);
    const auto end =
        static_cast<uint32_t>(std::min<uint64_t>(kKeyCount, first.index + random_.between(1, 20)));
    for (uint32_t i = first.index + 1; i < end; ++i) history_.add({0, i}, false);
    return written(database_->db().DeleteRange(write_, database_->family(0), key_text(first.index),
                                               key_text(end)),
                   "DeleteRange");
  }
  bool batch() {
    const bool first_present = random_.chance(75);
    std::set<Key> others;
    const Key first = begin(first_present);
    rocksdb::WriteBatch batch;
    add(batch, first, first_present);
    for (uint64_t i = random_.between(1, 10); i > 0; --i) others.insert(any_key());
    others.erase(first);
    for (const Key key : others) {
      const bool present = random_.chance(75);
      history_.add(key, present);
      add(batch, key, present);
    }
    return written(database_->db().Write(write_, &batch), "WriteBatch");
  }
  void add(rocksdb::WriteBatch& batch, Key key, bool present) {
    const std::string text = key_text(key.index);
    const rocksdb::Status status =
        present ? batch.Put(text, value_text(key, number_)) : batch.Delete(text);
    if (!status.ok()) wrong("WriteBatch: " + status.ToString());
  }

  bool ingest() {
    if (!durable(database_->db().SyncWAL(), "SyncWAL")) return false;
    std::set<Key> keys;
    for (uint64_t i = random_.between(1, 40); i > 0; --i) keys.insert(any_key());
    number_ = history_.begin_change();
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), database_options());
    rocksdb::Status status = writer.Open(kTable);
    for (const Key key : keys) {
      history_.add(key, true);
      if (status.ok()) status = writer.Put(key_text(key.index), value_text(key, number_));
    }
    if (status.ok()) status = writer.Finish();
    if (!heard(status, "make a table")) return false;
    rocksdb::IngestExternalFileOptions options;
    options.move_files = random_.chance(50);
    options.write_global_seqno = random_.chance(50);
    if (!durable(database_->ingest(0, kTable, options), "ingest")) return false;
    ++totals_.ingests;
    return heard(remove_tree(*env_, kTable), "remove the ingested table");
  }

  // One writer, so a checkpoint is exactly what is there now.
  bool checkpoint() {
    rocksdb::Checkpoint* raw = nullptr;
    if (!heard(rocksdb::Checkpoint::Create(&database_->db(), &raw), "Checkpoint")) return false;
    const std::unique_ptr<rocksdb::Checkpoint> maker(raw);
    const uint64_t flush_from = random_.chance(50) ? 0 : ~uint64_t{0};
    if (!heard(maker->CreateCheckpoint(kCheckpoint, flush_from), "CreateCheckpoint")) return false;
    rocksdb::Options options = database_options();
    options.create_if_missing = false;
    std::unique_ptr<Database> copy;
    std::vector<Found> found;
    if (!heard(Database::open(options, kCheckpoint, 1, Database::Mode::read_only, &copy),
               "open the checkpoint") ||
        !heard(read_all(*copy, &found), "read the checkpoint")) {
      return false;
    }
    for (uint32_t i = 0; i < kKeyCount; ++i) expect_newest(i, found[i], "checkpoint");
    copy.reset();
    ++totals_.checkpoints;
    return good() && heard(remove_tree(*env_, kCheckpoint), "remove the checkpoint");
  }

  bool read() {
    const Key key = any_key();
    std::string value;
    const rocksdb::Status status = database_->db().Get({}, key_text(key.index), &value);
    if (status.IsNotFound()) {
      if (!machine_.disk().is_cut()) expect_newest(key.index, {}, "Get");
      return good();
    }
    if (!heard(status, "Get")) return false;
    expect_newest(key.index, change_of(key, value), "Get");
    return good();
  }

  // Opening replays the log into a table, which is durable when it has returned.
  bool reopen() {
    close();
    if (machine_.disk().is_cut() || !open()) return false;
    history_.is_durable();
    ++totals_.reopenings;
    return true;
  }

  void expect_newest(uint32_t index, Found found, const std::string& how) {
    const State expected = history_.newest()[index];
    if (expected.present() ? found == expected.change() : !found) return;
    wrong(how + ": key " + key_text(index) + ": expected " + expected.to_string() + ", found " +
          (found ? "the value of change " + std::to_string(*found) : "nothing"));
  }

  // A damaged value is a problem at once; an error may be the power.
  rocksdb::Status read_all(const Database& database, std::vector<Found>* found) {
    found->assign(kKeyCount, {});
    const std::unique_ptr<rocksdb::Iterator> it(database.db().NewIterator({}));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      const auto index = index_of({it->key().data(), it->key().size()});
      if (!index || *index >= kKeyCount) {
        wrong("no key of ours: " + it->key().ToString(true));
        break;
      }
      (*found)[*index] = change_of({0, *index}, {it->value().data(), it->value().size()});
      if (!(*found)[*index]) wrong("key " + key_text(*index) + ": no change wrote its value");
    }
    return it->status();
  }

  Key any_key() { return {.family = 0, .index = static_cast<uint32_t>(random_.below(kKeyCount))}; }

  sim::Random random_;
  crash::Machine machine_;
  PowerHistory history_;
  Totals& totals_;
  std::unique_ptr<rocksdb::Env> env_;
  std::unique_ptr<Database> database_;
  rocksdb::WriteOptions write_;
  uint64_t number_ = 0;  // of the change being made
  unsigned sync_percent_ = 0;
  bool direct_reads_ = false;
  std::string problem_;
};

void print(const Totals& totals) {
  const auto number = [](uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "rocksdb_stress --power: %llu machines, %llu power cuts and %llu in recovery, %llu changes, "
      "of "
      "the unsynced %llu landed and %llu vanished from the end, %llu keys verified, %llu "
      "checkpoints, "
      "%llu ingests, %llu reopenings; 0 lost\n",
      number(totals.machines), number(totals.cuts), number(totals.cuts_in_recovery),
      number(totals.changes), number(totals.landed), number(totals.vanished),
      number(totals.verified_keys), number(totals.checkpoints), number(totals.ingests),
      number(totals.reopenings));
}

// Several machines beside each other, each with the next seed, until the time is over.
class PowerRun {
 public:
  explicit PowerRun(const RunOptions& options)
      : options_(options),
        end_(std::chrono::steady_clock::now() +
             std::chrono::milliseconds(static_cast<int64_t>(options.minutes * 6e4))) {}

  int run() {
    std::vector<std::thread> threads;
    const unsigned count = options_.minutes == 0 ? 1 : options_.threads;
    // RocksDB's background threads sleep for a second after each error, of which there are many here.
    for (const auto priority : {rocksdb::Env::Priority::LOW, rocksdb::Env::Priority::HIGH}) {
      rocksdb::Env::Default()->SetBackgroundThreads(static_cast<int>(4 * count), priority);
    }
    for (unsigned i = 0; i < count; ++i) threads.emplace_back([this] { run_machines(); });
    for (std::thread& thread : threads) thread.join();
    if (!sabotaged_) print(totals_);
    if (sabotaged_ && !noticed_) std::printf("rocksdb_stress: NOBODY NOTICED THE SABOTAGE\n");
    return sabotaged_ && !noticed_ ? 1 : 0;
  }

 private:
  void run_machines() {
    do {
      RunOptions replay = options_;
      replay.seed = options_.seed + started_++;
      replay.minutes = 0;  // one machine
      Totals totals;
      const std::string problem = PowerRound(replay.seed, options_.sabotage, totals).run();
      const std::lock_guard lock(mutex_);
      totals_.add(totals);
      if (!problem.empty() && !sabotaged_) fail(problem + "\n  replay: " + replay.command());
      if (!problem.empty() && !noticed_.exchange(true)) {
        std::printf("rocksdb_stress: the sabotage was noticed: %s\n", problem.c_str());
      }
      if (options_.verbose) print(totals_);
    } while (sabotaged_ ? !noticed_ && started_ < kSabotagedMachines
                        : std::chrono::steady_clock::now() < end_);
  }

  const RunOptions options_;
  const std::chrono::steady_clock::time_point end_;
  const bool sabotaged_ = options_.sabotage != Sabotage::none;
  std::atomic<uint64_t> started_ = 0;
  std::atomic<bool> noticed_ = false;
  std::mutex mutex_;  // protects totals_, and lines of output
  Totals totals_;
};

}  // namespace

int run_power(const RunOptions& options) { return PowerRun(options).run(); }

}  // namespace basalt::stress
