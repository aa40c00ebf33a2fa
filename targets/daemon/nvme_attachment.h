// NvmeAttachment: a controller that the daemon has attached by a name, for bdevs of its namespaces.
// Threads: one at a time (the control plane's).
#pragma once

#include <optional>
#include <string>

#include "bdev/nvme/shared_controllers.h"
#include "bdev/uri.h"
#include "targets/rpc/params.h"

namespace basalt {

struct NvmeAttachment {
  std::string name;
  std::string trtype;                             // as SPDK spells it: "TCP", "PCIe", "VFIOUSER"
  Uri uri;                                        // of a namespace's device, without the number
  rpc::Json params;                               // of the call that attached it
  std::optional<SharedControllers::Lease> lease;  // keeps it up, whichever namespaces are open

  // The URI of the device that a namespace is.
  std::string device_uri(uint32_t nsid) const {
    Uri device = uri;
    device.argument += "/" + std::to_string(nsid);
    return device.to_string();
  }
};

}  // namespace basalt
