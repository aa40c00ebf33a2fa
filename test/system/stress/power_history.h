// The history of one writer, and what power loss may leave of it: the state after any prefix that is
// not shorter than what was durable. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "system/stress/expected_state.h"
#include "system/stress/reads.h"

namespace basalt::stress {

class PowerHistory {
 public:
  explicit PowerHistory(uint32_t key_count) : durable_(key_count), newest_(key_count) {}

  // The number of a change that puts or deletes these keys, from now on the newest.
  uint64_t begin_change() { return ++last_change_; }
  void add(Key key, bool present);
  // Everything so far survives from now on.
  void is_durable();
  // What is there now, if there was no power loss.
  const std::vector<State>& newest() const { return newest_; }
  uint64_t changes() const { return last_change_; }

  // What is wrong with what was found after power loss; nothing if a prefix explains it, which the
  // history goes on from. `landed` and `vanished` count changes that were not durable.
  std::optional<std::string> settle(std::span<const Found> found);
  uint64_t landed() const { return landed_; }
  uint64_t vanished() const { return vanished_; }

 private:
  struct Step {
    uint64_t change = 0;
    uint32_t index = 0;
    State state;
  };

  std::vector<State> durable_;
  std::vector<State> newest_;
  std::vector<Step> since_;  // durable, in order
  uint64_t last_change_ = 0;
  uint64_t landed_ = 0, vanished_ = 0;
};

}  // namespace basalt::stress
