// The URIs of devices that are nothing but a size: ram:4G, null:1T?block=4096.
#pragma once

#include <basalt/units.h>

#include "bdev/uri.h"

namespace basalt {

struct Geometry {
  uint32_t block_size = 512;
  BlockCount block_count;
};

// Reads the argument as a size and the option block=512|4096, and refuses anything else.
Result<Geometry> parse_sized_uri(const Uri& uri);

// A URI names one device below it: part:(child).
Result<const Uri*> only_child(const Uri& uri);

}  // namespace basalt
