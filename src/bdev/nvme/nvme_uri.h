// nvme: URIs: from the text to a controller that is up.
#pragma once

#include <basalt/context.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "nvme/controller.h"

namespace basalt {

// A controller that its owner drives alone, for administration.
struct NvmeController {
  std::unique_ptr<nvme::Controller> controller;
  uint32_t nsid = 0;  // the namespace the text named; 0: none
};

// `text` is "nvme:pci:0000:01:00.0", "nvme:vfio-user:/run/nvme.sock", or either with "/1" behind it; "nvme:" may be
// left out. Errors: invalid_argument, and those of opening the function and of bringing the controller up.
Result<NvmeController> open_nvme_controller(Context& context, std::string_view text);

}  // namespace basalt
