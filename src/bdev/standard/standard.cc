// The table of all backends, for programs that want every scheme. Linking this target links them all.
#include "bdev/delay/delay_device.h"
#include "bdev/error/error_device.h"
#include "bdev/null/null_device.h"
#include "bdev/nvme/nvme_device.h"
#include "bdev/part/part_device.h"
#include "bdev/pmem/pmem_device.h"
#include "bdev/ram/ram_device.h"
#include "bdev/uring/uring_device.h"

#include <basalt/devices.h>

namespace basalt {

void register_standard_schemes(Context& context) {
  register_uring_scheme(context);
  register_ram_scheme(context);
  register_null_scheme(context);
  register_pmem_scheme(context);
  register_part_scheme(context);
  register_delay_scheme(context);
  register_error_scheme(context);
  register_nvme_scheme(context);
}

}  // namespace basalt
