// nvme: URIs: from the text to a controller that is up.
#pragma once

#include <basalt/context.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "bdev/nvme/shared_controllers.h"
#include "bdev/uri.h"
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

// The controller that the Context's devices of `uri` share, which stays up for as long as the lease does, whether a namespace
// is open or not. The URI is a device's without the namespace; nothing behind its last slash is taken for one. Errors: as
// open_nvme_controller()'s; unsupported (multipath=: those are several).
Result<SharedControllers::Lease> lease_nvme_controller(Context& context, const Uri& uri);

// None of the controllers that the Context's devices share is waited for any more when it is down: the process is about to end.
// What hosts have outstanding there fails, once nothing that was sent can be acted on any more.
void stop_reconnecting_nvme(Context& context);

// What the discovery controller at `text` ("10.0.0.1", "nvme:tcp:10.0.0.1:8009?data_digest") knows of.
Result<std::vector<nvme::DiscoveredSubsystem>> discover_nvme(Context& context,
                                                             std::string_view text);

}  // namespace basalt
