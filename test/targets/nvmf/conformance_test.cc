// The conformance suite of block devices over the target: Basalt's own host on a loopback connection, devices of several
// kinds behind it.
#include <gtest/gtest.h>

#include "bdev/nvme/nvme_device.h"
#include "test/bdev/conformance.h"
#include "test/targets/nvmf/served_target.h"

namespace basalt {
namespace {

// The target of the conformance case that runs; its device is closed before the next is made.
std::unique_ptr<ServedTarget> of_this_case;

ConformanceTarget exported(std::string name, std::string uri, std::string keys = "",
                           unsigned reactors = 1, nvmf::TargetOptions options = {}) {
  return {.name = std::move(name),
          .register_schemes = register_nvme_scheme,
          .make_uri = [=](const std::string& directory) {
            std::string with_directory = uri;
            if (const size_t at = uri.find('@'); at != std::string::npos) {
              with_directory.replace(at, 1, directory);
            }
            of_this_case.reset();
            of_this_case = std::make_unique<ServedTarget>(std::vector<std::string>{with_directory},
                                                          reactors, options);
            return of_this_case->uri(1, keys);
          }};
}

INSTANTIATE_TEST_SUITE_P(
    Nvmf, DeviceConformance,
    testing::Values(exported("ram512", "ram:64M"), exported("ram4096", "ram:64M?block=4096"),
                    exported("digests", "ram:64M", "?header_digest&data_digest"),
                    exported("file", "file:@/disk?size=64M"),
                    exported("two_reactors", "ram:64M?block=4096", "", 2),
                    exported("nothing_in_capsules", "ram:64M", "", 1, {.io_capsule_data = 0}),
                    // Two large buffers for everybody: commands wait for memory.
                    exported("little_memory", "ram:64M", "", 1, {.buffer_bytes_per_reactor = 1})),
    conformance_name);

}  // namespace
}  // namespace basalt
