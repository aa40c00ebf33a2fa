// Namespace: a device as hosts see it; and the table of a subsystem's namespaces.
#pragma once

#include <basalt/device.h>
#include <basalt/status.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "targets/nvmf/io_counters.h"
#include "targets/nvmf/reservations.h"

namespace basalt::nvmf {

// How hosts know that it is the same one again, over whichever path: kept by whoever keeps the configuration.
struct NamespaceIds {
  std::array<uint8_t, 16> nguid{};
  std::array<uint8_t, 8> eui64{};
  std::array<uint8_t, 16> uuid{};
  friend bool operator==(const NamespaceIds&, const NamespaceIds&) = default;
};

class Subsystem;

// Has a subsystem's hosts told when one of its devices is another size, or has other limits.
class DeviceWatch final : DeviceListener {
 public:
  DeviceWatch(std::weak_ptr<Subsystem> subsystem, std::shared_ptr<Device> device);
  ~DeviceWatch();

 private:
  void on_event(Device& device, DeviceEvent event) override;

  const std::weak_ptr<Subsystem> subsystem_;
  const std::shared_ptr<Device> device_;
};

struct Namespace {
  uint32_t nsid = 0;
  std::shared_ptr<Device> device;
  NamespaceIds ids;
  Claim claim;
  std::unique_ptr<DeviceWatch> watch;
  std::shared_ptr<Reservations> reservations = std::make_shared<Reservations>();
  std::shared_ptr<ReactorCounters> counters{};  // made by its target
};

// A subsystem's at one moment: place nsid - 1 holds namespace nsid, or null. Never changed, only replaced.
using NamespaceTable = std::vector<std::shared_ptr<const Namespace>>;

inline const Namespace* find_namespace(const NamespaceTable& table, uint32_t nsid) {
  return nsid == 0 || nsid > table.size() ? nullptr : table[nsid - 1].get();
}

// The same for the same subsystem, number and device's URI, so that hosts recognize the namespace when the target has been
// away; by chance for a device that forgets everything then.
NamespaceIds make_namespace_ids(std::string_view nqn, const Namespace& space, RandomSource& random);
// Has the device write what its volatile cache holds, if it has one, and waits for that.
Status flush_device(Device& device);
// What all its devices can do, and what one of them is enough for.
OpSet common_operations(const NamespaceTable& table);
bool has_volatile_cache(const NamespaceTable& table);
// Blocks that power loss does not tear, on each of them; at most 65536.
uint32_t common_atomic_blocks(const NamespaceTable& table);

}  // namespace basalt::nvmf
