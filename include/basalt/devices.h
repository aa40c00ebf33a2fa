// The standard device schemes, for programs that want them all. A program that needs one links that
// backend's target and calls its register function alone.
#pragma once

#include <basalt/context.h>

namespace basalt {

// file:, uring:, ram:, null:, pmem:, part:, nvme:. Safe to call more than once.
void register_standard_schemes(Context& context);

}  // namespace basalt
