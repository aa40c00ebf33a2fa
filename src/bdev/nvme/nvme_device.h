// NvmeDevice: one namespace of a controller that nvme/ drives, as a block device.
//
// Opened by URI: "nvme:pci:0000:01:00.0/1" (bound to vfio-pci), "nvme:vfio-user:/run/nvme.sock/1" and
// "nvme:tcp:10.0.0.1:4420/nqn.2014-08.org.example:disks/1"; the number is the namespace's. Keys: depth= (commands per
// channel, 1 … 1023), interrupts= (off: waiting polls); of tcp: header_digest, data_digest, keep_alive= and
// reconnect= (seconds), hostnqn=, hostid=, discover (the address is a discovery controller's),
// write_cache_survives (nvme/tcp/tcp_transport.h). Devices of one Context share a controller; no other process has a
// PCI function. The description says what identify data says: block size, transfer size,
// volatile write cache, power-fail atomicity. A namespace with metadata is refused.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <cstdint>
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
  // Logs what became of a command, once a second at most: a controller that fails fails often. From any thread.
  void report_failure(const nvme::Request& request) noexcept;

 private:
  NvmeDevice(Context& context, DeviceInfo info, NativeLimits limits, SharedControllers::Lease lease,
             uint32_t nsid)
      : DeviceBase(context, std::move(info), limits), lease_(std::move(lease)), nsid_(nsid) {}
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  const SharedControllers::Lease lease_;
  const uint32_t nsid_;
  std::atomic<int64_t> next_report_{0};  // ns of the context's clock
  std::atomic<uint64_t> unreported_{0};
};

// Adds the scheme "nvme" to the context's table.
void register_nvme_scheme(Context& context);

}  // namespace basalt
