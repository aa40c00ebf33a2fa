// See operations.h.
#include "system/stress/operations.h"

#include <rocksdb/sst_file_writer.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "system/stress/copies.h"
#include "system/stress/report.h"
#include "system/stress/verify.h"

namespace basalt::stress {

// A snapshot and what it showed when it was taken, perhaps with an iterator made then.
struct Worker::Held {
  const rocksdb::Snapshot* snapshot = nullptr;
  KeyRange range;
  std::vector<State> states;
  std::unique_ptr<rocksdb::Iterator> iterator;
  uint64_t steps_left = 0;
};

const std::vector<Worker::Weighted>& Worker::mix() {
  static const std::vector<Weighted> weights = {
      {&Worker::put, 3500, Counter::put},
      {&Worker::remove, 700, Counter::remove},
      {&Worker::remove_range, 60, Counter::remove_range},
      {&Worker::batch, 1300, Counter::batch},
      {&Worker::ingest, 8, Counter::ingest},
      {&Worker::get, 2500, Counter::get},
      {&Worker::multi_get, 500, Counter::multi_get},
      {&Worker::scan_range, 350, Counter::scan},
      {&Worker::take_snapshot, 250, Counter::snapshot},
      {&Worker::sync_wal, 20, Counter::sync_wal},
      {&Worker::flush, 8, Counter::flush},
      {&Worker::compact, 3, Counter::compact},
      {&Worker::checkpoint, 2, Counter::checkpoint},
      {&Worker::backup, 1, Counter::backup},
  };
  return weights;
}

Worker::Worker(Opening& opening, unsigned number, uint64_t seed)
    : opening_(opening),
      database_(opening.database),
      state_(opening.state),
      number_(number),
      random_(seed) {}

Worker::~Worker() = default;

void Worker::run() {
  while (!opening_.stop) step();
  for (const auto& held : held_) check_held(*held);
  held_.clear();
}

void Worker::step() {
  uint64_t total = 0;
  for (const Weighted& weighted : mix()) total += weighted.weight;
  uint64_t at = random_.below(total);
  for (const Weighted& weighted : mix()) {
    if (at < weighted.weight) {
      if ((this->*weighted.operation)()) state_.count(weighted.counter);
      break;
    }
    at -= weighted.weight;
  }
  state_.count(Counter::progress);
  for (const auto& held : held_) {
    if (--held->steps_left == 0) check_held(*held);
  }
  std::erase_if(held_, [](const auto& held) { return held->steps_left == 0; });
}

// ---- Changes

// `call` gets the number of the change and returns RocksDB's status.
template <typename Call>
void Worker::change(std::vector<Target> targets, const char* what, Call call) {
  std::vector<Key> keys;
  for (const Target& target : targets) keys.push_back(target.key);
  const KeyLock lock(opening_.locks, keys, KeyLock::Kind::exclusive);
  const uint64_t number = state_.new_change();
  for (const Target& target : targets) {
    state_.announce(target.key, target.present ? State::put(number) : State::deleted(number));
  }
  require(call(number), std::string(what) + " " + name_of(keys.front()));
  state_.acknowledge(keys);
}

bool Worker::put() {
  const Key key = any_key();
  change({{key, true}}, "Put", [&](uint64_t number) {
    return database_.db().Put(any_write(), database_.family(key.family), key_text(key.index),
                              value_text(key, number));
  });
  return true;
}

bool Worker::remove() {
  const Key key = any_key();
  change({{key, false}}, "Delete", [&](uint64_t) {
    return database_.db().Delete(any_write(), database_.family(key.family), key_text(key.index));
  });
  return true;
}

bool Worker::remove_range() {
  const KeyRange range = any_range(random_.chance(10) ? 200 : 20);
  std::vector<Target> targets;
  for (const Key key : range.keys()) targets.push_back({key, false});
  change(targets, "DeleteRange", [&](uint64_t) {
    return database_.db().DeleteRange(any_write(), database_.family(range.family),
                                      key_text(range.first), key_text(range.first + range.count));
  });
  return true;
}

// Keys anywhere in any family; some are written more than once in the batch, and the last one counts.
bool Worker::batch() {
  std::vector<Target> targets;
  const uint64_t count = random_.between(2, 12);
  for (uint64_t i = 0; i < count; ++i) targets.push_back({any_key(), random_.chance(75)});
  std::sort(targets.begin(), targets.end(),
            [](const Target& a, const Target& b) { return a.key < b.key; });
  const auto same = [](const Target& a, const Target& b) { return a.key == b.key; };
  targets.erase(std::unique(targets.begin(), targets.end(), same), targets.end());
  change(targets, "WriteBatch", [&](uint64_t number) {
    rocksdb::WriteBatch batch;
    for (const auto& [key, present] : targets) {
      rocksdb::ColumnFamilyHandle* family = database_.family(key.family);
      const std::string text = key_text(key.index);
      if (random_.chance(15)) require(batch.Put(family, text, "overwritten at once"), "batch");
      require(
          present ? batch.Put(family, text, value_text(key, number)) : batch.Delete(family, text),
          "batch");
      if (!opening_.split_batches) continue;
      require(database_.db().Write({}, &batch), "part of a batch");
      batch.Clear();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return database_.db().Write(any_write(), &batch);
  });
  return true;
}

// A table made outside of the database with some keys of a range.
bool Worker::ingest() {
  const KeyRange range = any_range(100);
  std::vector<Target> targets;
  for (const Key key : range.keys()) {
    if (random_.chance(70) || targets.empty()) targets.push_back({key, random_.chance(90)});
  }
  const std::string path = opening_.root + "/ingest-" + std::to_string(number_) + ".sst";
  rocksdb::IngestExternalFileOptions options;
  options.move_files = random_.chance(50);
  options.write_global_seqno = random_.chance(50);
  options.verify_checksums_before_ingest = random_.chance(50);
  change(targets, "ingest", [&](uint64_t number) {
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), opening_.options);
    require(writer.Open(path), "make " + path);
    for (const auto& [key, present] : targets) {
      const std::string text = key_text(key.index);
      require(present ? writer.Put(text, value_text(key, number)) : writer.Delete(text),
              "write " + path);
    }
    require(writer.Finish(), "finish " + path);
    return database_.ingest(range.family, path, options);
  });
  require(remove_tree(*opening_.options.env, path), "remove " + path);
  return true;
}

// ---- Reads

bool Worker::get() {
  const Key key = any_key();
  const Expectation before = state_.expectation(key);
  const Found found = read_key(database_, any_read(), key);
  check_between(key, before, state_.expectation(key), found, "Get");
  return true;
}

bool Worker::multi_get() {
  std::vector<Key> keys;
  const uint32_t family = any_family();
  const uint64_t count = random_.between(1, 40);
  for (uint64_t i = 0; i < count; ++i) keys.push_back({family, any_key().index});
  const std::vector<Expectation> before = expectations(state_, keys);
  const std::vector<Found> found = read_keys(database_, any_read(), keys);
  check_between(keys, before, expectations(state_, keys), found, "MultiGet");
  return true;
}

bool Worker::scan_range() {
  const KeyRange range = any_range(200);
  const std::string end = key_text(range.first + range.count);
  const rocksdb::Slice upper_bound(end);
  rocksdb::ReadOptions options = any_read();
  if (random_.chance(50)) options.iterate_upper_bound = &upper_bound;
  const std::vector<Key> keys = range.keys();
  const std::vector<Expectation> before = expectations(state_, keys);
  const std::vector<Found> found = scan(database_, options, range, any_direction());
  check_between(keys, before, expectations(state_, keys), found, "iterator beside writers");
  return true;
}

bool Worker::take_snapshot() {
  if (held_.size() >= 4) return false;
  auto held = std::make_unique<Held>();
  held->range = any_range(100);
  held->steps_left = random_.between(1, random_.chance(20) ? 2000 : 100);
  const std::vector<Key> keys = held->range.keys();
  rocksdb::ReadOptions options = any_read();
  {
    const KeyLock lock(opening_.locks, keys, KeyLock::Kind::shared);
    held->snapshot = database_.db().GetSnapshot();
    for (const Key key : keys) held->states.push_back(state_.expectation(key).acknowledged);
  }
  options.snapshot = held->snapshot;
  if (random_.chance(40)) {
    held->iterator.reset(database_.db().NewIterator(options, database_.family(held->range.family)));
  }
  held_.push_back(std::move(held));
  return true;
}

// Looks at it for the last time.
void Worker::check_held(Held& held) {
  rocksdb::ReadOptions options = any_read();
  options.snapshot = held.snapshot;
  const std::vector<Key> keys = held.range.keys();
  std::vector<Found> found;
  const char* how = "snapshot, MultiGet";
  if (held.iterator != nullptr) {
    how = "snapshot, iterator made with it";
    found = collect(*held.iterator, held.range, any_direction());
  } else if (random_.chance(60)) {
    how = "snapshot, iterator";
    found = scan(database_, options, held.range, any_direction());
  } else {
    found = read_keys(database_, options, keys);
  }
  for (size_t i = 0; i < keys.size(); ++i) check_exact(keys[i], held.states[i], found[i], how);
  held.iterator.reset();
  database_.db().ReleaseSnapshot(held.snapshot);
  held.steps_left = 0;
}

// ---- The tree and its copies

bool Worker::flush() {
  rocksdb::FlushOptions options;
  options.wait = random_.chance(70);
  options.allow_write_stall = random_.chance(50);
  const rocksdb::Status status =
      random_.chance(50) ? database_.db().Flush(options, database_.families())
                         : database_.db().Flush(options, database_.family(any_family()));
  // Said where the writers are stopped and nobody wanted to wait for them.
  if (status.IsTryAgain()) return false;
  require(status, "Flush");
  return true;
}

bool Worker::compact() {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = random_.chance(30);
  options.allow_write_stall = true;
  if (random_.chance(30)) {
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  }
  const KeyRange range = any_range(state_.key_count() / 2);
  const std::string first = key_text(range.first);
  const std::string last = key_text(range.first + range.count);
  const rocksdb::Slice begin(first);
  const rocksdb::Slice end(last);
  const bool all = random_.chance(30);
  require(database_.db().CompactRange(options, database_.family(range.family),
                                      all ? nullptr : &begin, all ? nullptr : &end),
          "CompactRange");
  return true;
}

bool Worker::sync_wal() {
  require(database_.db().SyncWAL(), "SyncWAL");
  return true;
}

// RocksDB 7.8 renames a log that it recycles while a copy is being made of the logs there were, which
// then fails, on every file system.
bool Worker::recycles_logs() const { return opening_.options.recycle_log_file_num > 0; }

bool Worker::checkpoint() {
  if (recycles_logs()) return false;
  make_and_verify_checkpoint(database_, opening_.options, state_,
                             opening_.root + "/checkpoint-" + std::to_string(number_),
                             random_.next());
  return true;
}

bool Worker::backup() {
  if (recycles_logs()) return false;
  const std::unique_lock lock(opening_.copies, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  make_and_verify_backup(database_, opening_.options, state_, opening_.root, random_.next());
  return true;
}

// ---- Choices

Key Worker::any_key() {
  // A third of the keys get most of the changes; neighbours meet in blocks and ranges.
  const uint32_t count = state_.key_count();
  const uint64_t bound = random_.chance(60) ? count / 8 : count;
  return {.family = any_family(), .index = static_cast<uint32_t>(random_.below(bound))};
}

KeyRange Worker::any_range(uint32_t most) {
  const Key first = any_key();
  const auto count = static_cast<uint32_t>(random_.between(1, most));
  return {.family = first.family,
          .first = first.index,
          .count = std::min(count, state_.key_count() - first.index)};
}

Direction Worker::any_direction() {
  return random_.chance(60) ? Direction::forward : Direction::backward;
}

rocksdb::ReadOptions Worker::any_read() {
  rocksdb::ReadOptions options;
  options.verify_checksums = random_.chance(80);
  options.fill_cache = random_.chance(80);
  options.async_io = opening_.async_reads && random_.chance(20);
  if (random_.chance(20)) options.readahead_size = 16 << 10;
  return options;
}

rocksdb::WriteOptions Worker::any_write() {
  rocksdb::WriteOptions options;
  options.sync = random_.chance(opening_.sync_percent);
  return options;
}

}  // namespace basalt::stress
