// What the database must hold, in a mapped file outside of the store, which outlives the process that
// writes it.
//
// Every change has a number, growing for ever; a batch, a deleted range or an ingested table is one
// change of several keys. A State is "put by change n" or "deleted by change n". For each key there is
// the last acknowledged State and the pending one. A writer announces all its keys before it calls the
// database and acknowledges them after; so whoever finds the file after the writer's death knows: a key
// without a pending State holds exactly the acknowledged one, a key with one holds either, and the keys
// of one change all agree.
//
// The file also counts what was done, so that counts survive the counting process.
//
// Thread rules: any thread may read and count; a key is written by one thread at a time (key_locks.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "system/stress/values.h"

namespace basalt::stress {

class State {
 public:
  State() = default;  // never written
  static State put(uint64_t change) { return State(change << 1 | 1); }
  static State deleted(uint64_t change) { return State(change << 1); }
  static State from_word(uint64_t word) { return State(word); }

  bool present() const { return (word_ & 1) != 0; }
  uint64_t change() const { return word_ >> 1; }
  uint64_t word() const { return word_; }
  bool operator==(const State&) const = default;
  // For messages: "the value of change 17".
  std::string to_string() const;

 private:
  explicit State(uint64_t word) : word_(word) {}
  uint64_t word_ = 0;
};

// Acknowledged and pending State at one moment; pending is State() where nothing is.
struct Expectation {
  State acknowledged, pending;
  bool is_pending() const { return pending != State(); }
  bool operator==(const Expectation&) const = default;
};

enum class Counter : uint32_t {
  put,
  remove,
  remove_range,
  batch,
  ingest,
  get,
  multi_get,
  scan,
  snapshot,
  flush,
  compact,
  sync_wal,
  checkpoint,
  backup,
  open,
  mount,
  acknowledged_key,
  verified_key,
  landed_in_flight,
  progress,
  count,
};
std::string_view name_of(Counter counter);

class ExpectedState {
 public:
  // Makes the file if there is none; fails if it is of another key space.
  ExpectedState(const std::string& path, uint32_t family_count, uint32_t key_count);
  ~ExpectedState();
  ExpectedState(const ExpectedState&) = delete;
  ExpectedState& operator=(const ExpectedState&) = delete;

  uint32_t family_count() const { return family_count_; }
  uint32_t key_count() const { return key_count_; }

  uint64_t new_change();
  Expectation expectation(Key key) const;
  void announce(Key key, State state);
  // The announced States of a change's keys are the acknowledged ones from now on. Nothing is taken off
  // the pending ones before all are acknowledged: a change half acknowledged at a death is known as one
  // that had returned.
  void acknowledge(std::span<const Key> keys);
  // The key was found like this after a death; nothing is pending any more.
  void settle(Key key, State state);

  void count(Counter counter, uint64_t n = 1);
  uint64_t counted(Counter counter) const;

 private:
  struct Header;
  struct Entry;
  Entry& entry(Key key) const;

  const uint32_t family_count_;
  const uint32_t key_count_;
  size_t size_bytes_ = 0;
  Header* header_ = nullptr;
  Entry* entries_ = nullptr;
};

}  // namespace basalt::stress
