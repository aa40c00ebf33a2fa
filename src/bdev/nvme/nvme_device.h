// NvmeDevice: one namespace of a controller that nvme/ drives, as a block device.
//
// Opened by URI: "nvme:pci:0000:01:00.0/1" (bound to vfio-pci) and "nvme:vfio-user:/run/nvme.sock/1"; the number
// is the namespace's. Keys: depth= (commands per channel, 1 … 1023), interrupts= (off: waiting polls). Devices of
// one Context share a controller, and no other process has it. The description says what identify data says: block size, transfer size,
// volatile write cache, power-fail atomicity. A namespace with metadata is refused.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <memory>
#include <string>

#include "bdev/device_base.h"
#include "bdev/nvme/shared_controllers.h"

namespace basalt {

class NvmeDevice final : public DeviceBase {
 public:
  // The namespace `nsid`, which `lease` is of. Errors: not_found, unsupported.
  static Result<std::unique_ptr<Device>> create(Context& context, std::string uri,
                                                SharedControllers::Lease lease, uint32_t nsid,
                                                OpenMode mode);
  ~NvmeDevice() override = default;

  uint32_t nsid() const { return nsid_; }

 private:
  NvmeDevice(Context& context, DeviceInfo info, NativeLimits limits, SharedControllers::Lease lease,
             uint32_t nsid)
      : DeviceBase(context, std::move(info), limits), lease_(std::move(lease)), nsid_(nsid) {}
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  const SharedControllers::Lease lease_;
  const uint32_t nsid_;
};

// Adds the scheme "nvme" to the context's table.
void register_nvme_scheme(Context& context);

}  // namespace basalt
