// describe_io(): an I/O command and what became of it, for people.
#pragma once

#include <string>

#include "nvme/queue_pair.h"

namespace basalt::nvme {

// "read of namespace 1, LBA 123+8: unrecovered read error (media, 0x81)"; for one that the controller never answered, what
// its caller was told. `request` has completed.
std::string describe_io(const Request& request);

}  // namespace basalt::nvme
