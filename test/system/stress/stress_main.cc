// Goal: what RocksDB acknowledged survives on Basalt, whatever it was doing when its process was killed,
// and every read beside all that is right. RocksDB's own db_stress has the same goal; this one knows
// more of the moment of the death, and of Basalt.
//
// Method (parent.h): children (child.h) run threads of a seeded mix of every kind of operation
// (operations.h, copies.h) with options chosen by the seed (variation.h), and note in a mapped file what
// they are about to change and what was acknowledged (expected_state.h). The parent kills them at random
// moments and checks the store; the next child verifies every key (verify.h): what was acknowledged is
// there, synced or not, what was in flight is there in whole or not at all, and nothing else is there.
// --power 1 does the like on a simulated disk that loses power (power.h).
//
//   rocksdb_stress                                 as ctest runs it
//   rocksdb_stress --minutes 60 --verbose 1        for long, on a file in the temporary directory
//   rocksdb_stress --minutes 60 --file /dev/loop0  on a block device
//   rocksdb_stress --power 1 --minutes 60
#include "system/stress/child.h"
#include "system/stress/parent.h"
#include "system/stress/power.h"
#include "system/stress/run_options.h"

int main(int argc, char** argv) {
  using namespace basalt::stress;
  const RunOptions options = parse(argc, argv);
  if (options.child) run_child(options);
  if (options.verify) {
    run_verification(options);
    return 0;
  }
  return options.power ? run_power(options) : run_parent(options);
}
