// null: a device that does nothing at once, to measure what stands above it. null:1T?block=4096.
#pragma once

#include <basalt/context.h>

namespace basalt {
void register_null_scheme(Context& context);
}
