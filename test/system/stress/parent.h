// The process that kills: starts children on one store, kills each at a random moment, checks the store
// as it was left, and goes on until the time is over; then every key is verified once more.
#pragma once

#include "system/stress/run_options.h"

namespace basalt::stress {

// The program's exit code.
int run_parent(const RunOptions& options);

}  // namespace basalt::stress
