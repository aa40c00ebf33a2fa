// The device below dies and returns: hosts see a status they try again with, the target stays, and I/O goes on.
#include <gtest/gtest.h>

#include "nvme/commands.h"
#include "test/nvme/kept_log.h"
#include "test/sim/sim_device.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

TEST(NvmfLostDevice, GoesOnWhenItReturns) {
  nvme::KeptLog log;
  ServedTarget served({}, 1, {}, &log);
  const auto disk = std::make_shared<sim::SimDisk>(sim::SimOptions{.size_bytes = 1 << 20});
  const std::shared_ptr<Device> device = sim::open_sim_device(*served.context, disk);
  ASSERT_TRUE(served.target->add_namespace(ServedTarget::kNqn, device));
  RawHost host(served.address), io(served.address);
  io.become_io(ServedTarget::kNqn, host.become_admin(ServedTarget::kNqn));
  const uint32_t block = device->info().block_size;
  const std::vector<std::byte> ones(block, std::byte{1});
  const auto write = nvme::write_command(1, 0, 1), read = nvme::read_command(1, 0, 1);
  EXPECT_TRUE(io.run(write, ones).status().ok());
  EXPECT_TRUE(io.run(nvme::flush_command(1)).status().ok());

  disk->vanish();
  for (int i = 0; i < 20; ++i) {
    const auto status = io.run(read, {}, block).status();
    EXPECT_TRUE(status.is(nvme::kNamespaceNotReady)) << nvme::describe(status);
    EXPECT_FALSE(status.do_not_retry());
  }
  // The controller is there as ever.
  nvme::Command identify;
  identify.opcode = static_cast<uint8_t>(nvme::AdminOpcode::identify);
  identify.cdw10 = 1;
  EXPECT_TRUE(host.run(identify, {}, 4096).status().ok());

  disk->come_back(sim::SimDisk::Cache::kept);
  EXPECT_EQ(io.run(read, {}, block).data, ones);
  EXPECT_TRUE(io.run(write, ones).status().ok());
}

TEST(NvmfLostDevice, FailedCommandsAreToldAsWhatTheyAre) {
  nvme::KeptLog log;
  ServedTarget served({}, 1, {}, &log);
  const auto disk = std::make_shared<sim::SimDisk>(sim::SimOptions{.size_bytes = 1 << 20});
  const std::shared_ptr<Device> device = sim::open_sim_device(*served.context, disk);
  ASSERT_TRUE(served.target->add_namespace(ServedTarget::kNqn, device));
  RawHost host(served.address), io(served.address);
  io.become_io(ServedTarget::kNqn, host.become_admin(ServedTarget::kNqn));
  const uint32_t block = device->info().block_size;
  disk->inject({.ops = {Op::read, Op::write}, .first = Lba{0}, .block_count = BlockCount{1}});
  EXPECT_TRUE(
      io.run(nvme::read_command(1, 0, 1), {}, block).status().is(nvme::kUnrecoveredReadError));
  EXPECT_TRUE(io.run(nvme::write_command(1, 0, 1), std::vector<std::byte>(block))
                  .status()
                  .is(nvme::kWriteFault));
  EXPECT_TRUE(io.run(nvme::read_command(1, 1, 1), {}, block).status().ok());
}

}  // namespace
}  // namespace basalt
