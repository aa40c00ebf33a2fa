// nvme: URIs: from the text to a controller that is up.
#pragma once

#include <basalt/context.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "nvme/controller.h"
#include "nvme/tcp/discovery.h"

namespace basalt {

// A controller that its owner drives alone, for administration.
struct NvmeController {
  std::unique_ptr<nvme::Controller> controller;
  uint32_t nsid = 0;  // the namespace the text named; 0: none
};

// `text` is a device's URI, with or without the namespace ("nvme:pci:0000:01:00.0"); "nvme:" may be left out. Errors:
// invalid_argument, and those of reaching the controller and of bringing it up.
Result<NvmeController> open_nvme_controller(Context& context, std::string_view text);

// What the discovery controller at `text` ("10.0.0.1", "nvme:tcp:10.0.0.1:8009?data_digest") knows of.
Result<std::vector<nvme::DiscoveredSubsystem>> discover_nvme(Context& context,
                                                             std::string_view text);

}  // namespace basalt
