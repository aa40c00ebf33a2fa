// Power loss: RocksDB on the simulated disk of test/crash, in this process, with one writer whose
// history is known in order. test/crash/rocksdb_crash_test.cc has several writers and looks at each key
// alone; here what survives must be the state after a prefix of the whole history, none shorter than
// what was synced: no write may be missing while a later one is there, and a batch, a deleted range or an
// ingested table is there in whole or not at all.
#pragma once

#include "system/stress/run_options.h"

namespace basalt::stress {

// The program's exit code.
int run_power(const RunOptions& options);

}  // namespace basalt::stress
