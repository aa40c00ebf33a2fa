// part: a slice of another device. part:(file:/path)?offset=1M&size=64M.
#pragma once

#include <basalt/context.h>

namespace basalt {
void register_part_scheme(Context& context);
}
