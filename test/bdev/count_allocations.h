// Counts operator new, to prove that the data path allocates nothing. Linking count_allocations.cc
// replaces the program's operator new.
#pragma once

#include <cstdint>

namespace basalt {
// By this thread, since it started.
uint64_t allocations_so_far();
}  // namespace basalt
