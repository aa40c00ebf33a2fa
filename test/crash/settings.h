// How long the crash tests run, and how to run one again.
//
// BASALT_CRASH_ROUNDS and BASALT_CRASH_SEED: see sim/replay.h; every failure names its seed and the command
// that repeats that round alone. BASALT_CRASH_KEEP: a directory; a failing round leaves there the disk as the
// last crash left it, for `basalt check` and `basalt dump`. BASALT_CRASH_SHRINK: how many runs may be spent on
// making a failing round's history smaller (0: none).
#pragma once

#include "sim/replay.h"

namespace basalt::crash {

using sim::first_seed;
using sim::replay_hint;
using sim::rounds;
using sim::setting;

}  // namespace basalt::crash
