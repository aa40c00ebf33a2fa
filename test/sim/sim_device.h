// SimDevice: a basalt::Device over a SimDisk (sim_disk.h).
//
// Each channel executes what was queued when its doorbell rings, in a seeded random order, and completes
// it after a seeded number of further polls. Several devices may be opened over one disk, one after the
// other; the disk outlives them through its shared_ptr, so that a test can cut the power, let the stack
// above fail and go, and look at the survivors. When the disk vanishes or returns the device tells its
// listeners.
//
//   auto disk = std::make_shared<SimDisk>(SimOptions{.size_bytes = 32 << 20});
//   std::unique_ptr<Device> device = open_sim_device(context, disk);
//   …
//   disk->power_cut();
//   auto survivor = disk->surviving_image(seed);
#pragma once

#include <basalt/device.h>

#include <memory>

#include "sim/sim_disk.h"

namespace basalt::sim {

std::unique_ptr<Device> open_sim_device(Context& context, std::shared_ptr<SimDisk> disk);

}  // namespace basalt::sim
