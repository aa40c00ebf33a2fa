// What hosts have written and not flushed is durable after a controller's shutdown, and after the target's end; what they are
// told when a device is another size.
#include <gtest/gtest.h>

#include "test/bdev/limited_device.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/host_commands.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/targets/nvmf/served_target.h"
#include "wire/nvme/registers.h"

namespace basalt {
namespace {

constexpr const char* kNqn = ServedTarget::kNqn;

class NvmfShutdown : public testing::Test {
 protected:
  NvmfShutdown() : served_({}, 1, {}, &log_) {
    register_limited_scheme(*served_.context);
    served_.add("limited:1M?cache=1");
    device_ = served_.devices[0];
  }
  // Not flushed.
  void write(RawHost& io) {
    const std::vector<std::byte> ones(512, std::byte{1});
    EXPECT_TRUE(io.run(transfer(nvme::IoOpcode::write, 7, 1), ones).status().ok());
    EXPECT_EQ(durable_blocks(*device_, 7, 1), std::vector<std::byte>(512));
  }
  bool is_durable() const {
    return durable_blocks(*device_, 7, 1) == std::vector<std::byte>(512, std::byte{1});
  }

  nvme::KeptLog log_;
  ServedTarget served_;
  std::shared_ptr<Device> device_;
};

TEST_F(NvmfShutdown, OfAControllerFlushes) {
  RawHost host(served_.address), io(served_.address);
  io.become_io(kNqn, host.become_admin(kNqn));
  write(io);
  EXPECT_TRUE(host.run(nvme::property_set_command(
                           nvme::Register::configuration,
                           nvme::kEnable | nvme::kEntrySizes | nvme::kShutdownNormal))
                  .status()
                  .ok());
  const auto shutdown_status = [&] {
    const RawAnswer status = host.run(nvme::property_get_command(nvme::Register::status, false));
    return status.completion.result >> 2 & 3;
  };
  EXPECT_TRUE(wait_until([&] { return shutdown_status() == 2; }));
  EXPECT_TRUE(is_durable());
  EXPECT_EQ(commands_seen(*device_, Op::flush), 1u);
}

// The host is gone before its shutdown is complete.
TEST_F(NvmfShutdown, IsFinishedWithoutTheHost) {
  {
    RawHost host(served_.address), io(served_.address);
    io.become_io(kNqn, host.become_admin(kNqn));
    write(io);
    host.submit(nvme::property_set_command(
        nvme::Register::configuration, nvme::kEnable | nvme::kEntrySizes | nvme::kShutdownNormal));
  }
  EXPECT_TRUE(wait_until([&] { return is_durable(); }));
  served_.target.reset();
}

TEST_F(NvmfShutdown, OfTheTargetFlushes) {
  RawHost host(served_.address), io(served_.address);
  io.become_io(kNqn, host.become_admin(kNqn));
  write(io);
  served_.target.reset();
  EXPECT_TRUE(is_durable());
  EXPECT_TRUE(io.is_closed());
}

TEST_F(NvmfShutdown, AFlushThatFailsIsLogged) {
  RawHost host(served_.address), io(served_.address);
  io.become_io(kNqn, host.become_admin(kNqn));
  write(io);
  remove_limited(*device_);
  served_.target.reset();
  EXPECT_EQ(log_.count("flush of limited:"), 1u) << log_.text();
}

TEST_F(NvmfShutdown, AnotherSizeIsTold) {
  RawHost host(served_.address);
  host.become_admin(kNqn);
  const auto size = [&] {
    const RawAnswer answer =
        host.run(identify(nvme::IdentifyKind::name_space, 1), {}, nvme::kIdentifyBytes);
    nvme::IdentifyNamespace data;
    std::memcpy(static_cast<void*>(&data), answer.data.data(), sizeof data);
    return uint64_t{data.size};
  };
  EXPECT_EQ(size(), 2048u);
  EXPECT_TRUE(host.run(enable_events(nvme::kReportNamespaces)).status().ok());
  host.submit(admin(nvme::AdminOpcode::async_event_request));
  resize_limited(*device_, 1024);
  EXPECT_EQ(host.answer().completion.result & 0xffff, 2u | nvme::kNamespacesChanged << 8);
  EXPECT_EQ(size(), 1024u);
}

}  // namespace
}  // namespace basalt
