// The device below takes its time: what is outstanding is counted, also when its namespace goes meanwhile.
#include <gtest/gtest.h>

#include "nvme/commands.h"
#include "test/sim/sim_device.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

// Goal: a namespace is removed while commands are at its device, which another namespace keeps in use: its counters stay as
// long as those need them, and no longer.
TEST(NvmfSlowDevice, CountsForANamespaceThatHasGone) {
  ServedTarget served({});
  const auto disk = std::make_shared<sim::SimDisk>(
      sim::SimOptions{.size_bytes = 1 << 20, .max_delay_polls = 1 << 20});
  const std::shared_ptr<Device> device = sim::open_sim_device(*served.context, disk);
  ASSERT_TRUE(served.target->add_namespace(ServedTarget::kNqn, device));
  ASSERT_TRUE(served.target->add_namespace(ServedTarget::kNqn, device));
  RawHost host(served.address), io(served.address);
  io.become_io(ServedTarget::kNqn, host.become_admin(ServedTarget::kNqn));
  const auto subsystem = served.target->find_subsystem(ServedTarget::kNqn);
  const std::weak_ptr<nvmf::ReactorCounters> counters = (*subsystem->namespaces())[1]->counters;
  const auto host_totals = [&] { return subsystem->accounts().by_host()[0].totals; };

  constexpr uint16_t kCommands = 16;
  const uint32_t block = device->info().block_size;
  for (uint16_t cid = 0; cid < kCommands; ++cid) {
    nvme::Command read = nvme::read_command(2, cid, 1);
    read.cid = cid;
    io.submit(read, {}, block);
  }
  for (int i = 0; i < 2000 && counters.lock()->total().outstanding < kCommands; ++i) {
    sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_GT(counters.lock()->total().outstanding, 0u);
  ServedTarget::expect_ok(served.target->remove_namespace(ServedTarget::kNqn, 2));
  ASSERT_GT(host_totals().outstanding, 0u) << "the device was too fast for this test";
  EXPECT_FALSE(counters.expired());
  for (uint16_t i = 0; i < kCommands; ++i) EXPECT_TRUE(io.answer().status().ok());
  EXPECT_EQ(host_totals().outstanding, 0u);
  EXPECT_EQ(host_totals().of(nvmf::IoKind::read).operations(), kCommands);
  EXPECT_GT(host_totals().of(nvmf::IoKind::read).nanoseconds, 0u) << "of more than one loop";
  // Looked for when something changes.
  ASSERT_TRUE(served.target->add_namespace(ServedTarget::kNqn, device));
  EXPECT_TRUE(counters.expired());
}

}  // namespace
}  // namespace basalt
