// The process that is killed: opens the database, verifies every key, lets the workers run for a while,
// closes, and begins again with other options, until it dies or finds something wrong.
#pragma once

#include "system/stress/run_options.h"

namespace basalt::stress {

[[noreturn]] void run_child(const RunOptions& options);

// Opens the store as it was left, verifies every key, and closes.
void run_verification(const RunOptions& options);

}  // namespace basalt::stress
