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
  bool async_reads = false;
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
  // True if it was done; some leave it when it is not the moment.
  using Operation = bool (Worker::*)();
  struct Weighted {
    Operation operation;
    unsigned weight;
    Counter counter;
  };
  static const std::vector<Weighted>& mix();

  void step();
  template <typename Call>
  void change(std::vector<Target> targets, const char* what, Call call);

  bool put();
  bool remove();
  bool remove_range();
  bool batch();
  bool ingest();
  bool get();
  bool multi_get();
  bool scan_range();
  bool take_snapshot();
  bool flush();
  bool compact();
  bool sync_wal();
  bool checkpoint();
  bool backup();
  bool recycles_logs() const;
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
