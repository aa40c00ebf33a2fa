// The conformance suite on files (direct and buffered, small and large blocks, shallow queue), on layers over them, and,
// as root where loop devices are allowed, on block devices with small and large logical blocks.
#include <optional>

#include "bdev/delay/delay_device.h"
#include "bdev/part/part_device.h"
#include "bdev/uring/uring_device.h"
#include "test/bdev/conformance.h"
#include "test/bdev/uring/loop_device.h"

namespace basalt {
namespace {

ConformanceTarget file_target(std::string name, std::string keys) {
  return {.name = std::move(name),
          .register_schemes = register_uring_scheme,
          .make_uri = [keys = std::move(keys)](const std::string& directory) {
            return "file:" + directory + "/disk?size=64M" + keys;
          }};
}

INSTANTIATE_TEST_SUITE_P(File, DeviceConformance,
                         testing::Values(file_target("direct", ""),
                                         file_target("block4096", "&block=4096&reserve=1"),
                                         file_target("buffered", "&direct=0&discard=0"),
                                         file_target("depth2", "&depth=2")),
                         conformance_name);

// Layers over a channel that sleeps, which those over memory do not.
ConformanceTarget layer_target(std::string name, std::string scheme, std::string keys) {
  return {.name = std::move(name),
          .register_schemes =
              [](Context& context) {
                register_uring_scheme(context);
                register_part_scheme(context);
                register_delay_scheme(context);
              },
          .make_uri =
              [scheme = std::move(scheme), keys = std::move(keys)](const std::string& directory) {
                return scheme + ":(file:" + directory + "/disk?size=64M)" + keys;
              },
          .layer = true};
}

INSTANTIATE_TEST_SUITE_P(Layer, DeviceConformance,
                         testing::Values(layer_target("part", "part", ""),
                                         layer_target("no_delay", "delay", ""),
                                         layer_target("delay", "delay", "?read_us=40&write_us=20")),
                         conformance_name);

// Lives until the next case asks for one, or the process ends.
std::optional<LoopDevice> loop_device;

ConformanceTarget loop_target(std::string name, uint32_t block_size) {
  return {.name = std::move(name),
          .register_schemes = register_uring_scheme,
          .make_uri = [block_size](const std::string& directory) -> std::string {
            loop_device.reset();
            auto made = LoopDevice::create(directory + "/backing", 64 << 20, block_size);
            if (!made) return "uring:" + made.error().to_string();
            loop_device.emplace(std::move(*made));
            return "uring:" + loop_device->path();
          }};
}

std::vector<ConformanceTarget> loop_targets() {
  static const bool possible = why_no_loop_devices().empty();
  if (!possible) return {};
  return {loop_target("loop512", 512), loop_target("loop4096", 4096)};
}

INSTANTIATE_TEST_SUITE_P(Block, DeviceConformance, testing::ValuesIn(loop_targets()),
                         conformance_name);

// Goal: say why the cases on block devices are missing, where they are.
TEST(BlockDevices, AreTested) {
  const std::string why = why_no_loop_devices();
  if (!why.empty()) GTEST_SKIP() << "no loop devices here: " << why;
  EXPECT_EQ(loop_targets().size(), 2u);
}

}  // namespace
}  // namespace basalt
