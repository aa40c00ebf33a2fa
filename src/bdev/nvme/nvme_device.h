// NvmeDevice: one namespace of a controller that nvme/ drives, or of several of its subsystem, as a block device.
//
// Opened by URI: "nvme:pci:0000:01:00.0/1" (bound to vfio-pci), "nvme:vfio-user:/run/nvme.sock/1" and
// "nvme:tcp:10.0.0.1:4420/nqn.2014-08.org.example:disks/1"; the number is the namespace's. Keys: depth= (commands per
// channel, 1 … 1023), interrupts= (off: waiting polls); of tcp: header_digest, data_digest, keep_alive= and
// reconnect= (seconds), hostnqn=, hostid=, discover (the address is a discovery controller's),
// write_cache_survives (nvme/tcp/tcp_transport.h). Of tcp there may be several addresses, "10.0.0.1:4420,10.0.1.1:4420",
// which are tried in turn, or with multipath=round-robin or multipath=queue-depth all used at once
// (nvme/multipath.h). Devices of one Context share a controller; no other process has a
// PCI function. The description says what identify data says: block size, transfer size,
// volatile write cache, power-fail atomicity. A namespace with metadata is refused, unless it is protection information of
// 8 B, which the controller then makes and checks.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "bdev/device_base.h"
#include "bdev/nvme/shared_controllers.h"
#include "nvme/multipath.h"

namespace basalt {

// How the controllers of several leases, or of one that may be joined by others, are used.
struct NvmePaths {
  nvme::PathPolicy policy = nvme::PathPolicy::round_robin;
  Duration patience{};  // without any
};

class NvmeDevice final : public DeviceBase, private nvme::Controller::Listener {
 public:
  // The namespace `nsid`, which the leases, one at least, are of. Errors: not_found, unsupported; with `paths`:
  // invalid_argument (it is not the same namespace).
  static Result<std::unique_ptr<Device>> create(Context& context, std::string uri,
                                                std::vector<SharedControllers::Lease> leases,
                                                uint32_t nsid, OpenMode mode,
                                                std::optional<NvmePaths> paths = {});
  ~NvmeDevice() override;

  uint32_t nsid() const { return space_.nsid; }
  // The type of the protection information that the controller makes and checks; 0: none.
  uint8_t protection() const {
    return space_.only_protection() ? space_.protection_type : uint8_t{0};
  }
  // Logs what became of a command, once a second at most: a controller that fails fails often. From any thread.
  void report_failure(const nvme::Request& request) noexcept;

 private:
  NvmeDevice(Context& context, DeviceInfo info, NativeLimits limits,
             std::vector<SharedControllers::Lease> leases, const nvme::NamespaceInfo& space,
             const std::optional<NvmePaths>& paths)
      : DeviceBase(context, std::move(info), limits),
        leases_(std::move(leases)),
        space_(space),
        paths_(paths) {}
  template <class Queue>
  Result<std::unique_ptr<ChannelCore>> make_channel_on(std::unique_ptr<Queue> queue);
  Result<std::unique_ptr<ChannelCore>> make_channel() override;
  void controller_changed() override;

  const std::vector<SharedControllers::Lease> leases_;  // several: paths to the one namespace
  const nvme::NamespaceInfo space_;                     // as it was when this was opened
  const std::optional<NvmePaths> paths_;
  Mutex changing_;                       // one controller's news at a time
  std::atomic<int64_t> next_report_{0};  // ns of the context's clock
  std::atomic<uint64_t> unreported_{0};
};

// reconnect_timeout of a path among several: while the device is open it is sought.
inline constexpr Duration kForGood = std::chrono::hours(24 * 365);

// Adds the scheme "nvme" to the context's table.
void register_nvme_scheme(Context& context);

}  // namespace basalt
