// ram: a device in this process's memory, gone when it is closed. ram:4G?block=4096.
#pragma once

#include <basalt/context.h>

namespace basalt {
void register_ram_scheme(Context& context);
}
