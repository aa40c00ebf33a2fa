// Worker: one thread's operations on the open database, in a seeded mix, each checked against the
// expected state. A change is announced, done and acknowledged under the locks of its keys; reads run
// beside the writers of other threads and are checked for what they may see. A snapshot is kept over
// many operations and must go on showing what it showed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "sim/random.h"
#include "system/stress/database.h"
#include "system/stress/expected_state.h"
#include "system/stress/key_locks.h"
#include "system/stress/reads.h"
#include "system/stress/variation.h"

namespace basalt::stress {

// What the workers of one opening share.
struct Opening {
  const Database& database;
  std::string root;          // of everything that is made beside the database
  rocksdb::Options options;  // with env
  unsigned sync_percent = 0;
  bool split_batches = false;  // on purpose: key by key, slowly
  ExpectedState& state;
  KeyLocks& locks;
  std::mutex copies{};  // one backup at a time
  std::atomic<bool> stop = false;
};

class Worker {
 public:
  Worker(Opening& opening, unsigned number, uint64_t seed);
  ~Worker();

  // Until the opening is to stop.
  void run();

 private:
  struct Held;
  // One key of a change, and whether the change puts or deletes it.
  struct Target {
    Key key;
    bool present = false;
  };
  using Operation = void (Worker::*)();
  struct Weighted {
    Operation operation;
    unsigned weight;
    Counter counter;
  };
  static const std::vector<Weighted>& mix();

  void step();
  template <typename Call>
  void change(std::vector<Target> targets, const char* what, Call call);

  void put();
  void remove();
  void remove_range();
  void batch();
  void ingest();
  void get();
  void multi_get();
  void scan_range();
  void take_snapshot();
  void flush();
  void compact();
  void sync_wal();
  void checkpoint();
  void backup();
  void check_held(Held& held);

  uint32_t any_family() { return static_cast<uint32_t>(random_.below(state_.family_count())); }
  Key any_key();
  KeyRange any_range(uint32_t most);
  Direction any_direction();
  rocksdb::ReadOptions any_read();
  rocksdb::WriteOptions any_write();

  Opening& opening_;
  const Database& database_;
  ExpectedState& state_;
  const unsigned number_;
  sim::Random random_;
  std::vector<std::unique_ptr<Held>> held_;
};

}  // namespace basalt::stress
