// Explorer: one run of a scenario, and the states in which power loss may leave its disk.
//
// The scenario runs once, from mount to unmount, on a disk that is frozen after every media command. Of
// each frozen disk states are chosen: all of them where its unflushed writes have few atomic units, else
// all subsets of whole writes where these are few, and in any case some subsets at random. Each state is
// checked, mounted, and compared with the model as it was at that command. Some are also emptied, which
// must give all space back; some lose their newer superblock too, since either alone is enough; of some
// the recovery is itself frozen after every command, and so on, up to kMaxDepth. The first state that is
// not legal ends it.
// Everything follows from the seed. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>

#include "crash/machine.h"
#include "crash/scenarios.h"
#include "sim/frozen_disk.h"
#include "sim/random.h"

namespace basalt::crash {

struct ExplorerOptions {
  uint64_t seed = 1;               // of the disk's choices, and of states that are sampled
  uint64_t states_per_moment = 8;  // at least: none of the unflushed writes survives, and all
  uint64_t only_command = 0;       // look at the states after this command only; 0: all
  uint64_t ignored_flush = ~uint64_t{0};  // this flush is acknowledged and not carried out
};

// What a run saw. `distinct` is counted by the caller's set, over several runs.
struct Exploration {
  uint64_t commands = 0;     // media commands of the scenario: as many moments
  uint64_t flushes = 0;      // among them, with FUA writes
  uint64_t states = 0;       // looked at
  uint64_t in_recovery = 0;  // of these, after a crash during recovery
  uint64_t emptied = 0;
  uint64_t without_newest = 0;  // superblock
  std::string problem;          // empty: every state was legal
};

class Explorer {
 public:
  static constexpr unsigned kMaxDepth =
      3;  // crashes one after the other, each in the recovery from the last

  Explorer(const Scenario& scenario, const MachineOptions& options);
  ~Explorer();
  // Adds the hash of every state it looks at to `seen`.
  Exploration run(const ExplorerOptions& options, std::unordered_set<uint64_t>& seen);
  // How many media commands the scenario makes.
  uint64_t count_commands(uint64_t seed);

 private:
  class Run;
  MachineOptions options_for(uint64_t seed) const;

  const Scenario& scenario_;
  MachineOptions options_;
  std::unique_ptr<sim::SimImage> store_;  // closed, with the scenario's directory
  uint64_t empty_bytes_ = 0;              // free in it once that is removed
};

}  // namespace basalt::crash
