// Workload: a seeded random history of operations, made before any of it is run.
//
// The operations are below the model's root: create, append, write, flush, sync, truncate, punch, close,
// reopen, remove, rename, link, directories, and reading back what is there. They start from the names and
// sizes that the model has and go on from what they themselves would make of them if all succeeded, so that
// most of them have something to do. Same seed and same model, same history.
#pragma once

#include <cstdint>

#include "crash/operation.h"
#include "crash/tree_model.h"

namespace basalt::crash {

struct WorkloadOptions {
  uint64_t max_file_bytes = 200'000;
  size_t max_files = 24;
  size_t max_open = 6;
  unsigned sync_percent = 12;       // of the operations on open files
  unsigned background_percent = 0;  // of operations that a step of the background work follows
};

// `count` operations, not counting steps of the background work.
History make_history(const TreeModel& model, uint64_t seed, unsigned count,
                     const WorkloadOptions& options);

}  // namespace basalt::crash
