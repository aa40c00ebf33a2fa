// pmem: a file on persistent memory (or anywhere, mapped) as a Device. pmem:/mnt/pmem0/db?size=64G.
#pragma once

#include <basalt/context.h>

namespace basalt {
void register_pmem_scheme(Context& context);
}
