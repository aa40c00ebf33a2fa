// system_error(): errno as a Status, in the one table of the NVMe driver.
//
// Callers with more to say about an errno (which limit, which command helps) say it themselves.
#pragma once

#include <basalt/status.h>

#include <string>

namespace basalt::nvme {

// "0000:00:04.0: open /dev/vfio/7: Permission denied", for the context "0000:00:04.0: open /dev/vfio/7".
Status system_error(std::string context, int error_number);

}  // namespace basalt::nvme
