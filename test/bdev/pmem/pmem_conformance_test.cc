// The conformance suite on pmem: files, which hold their write journal besides the 64 MiB.
#include "bdev/pmem/pmem_device.h"
#include "test/bdev/conformance.h"

namespace basalt {
namespace {

ConformanceTarget target(std::string name, std::string keys) {
  return {.name = std::move(name),
          .register_schemes = register_pmem_scheme,
          .make_uri = [keys = std::move(keys)](const std::string& directory) {
            return "pmem:" + directory + "/disk?size=66M" + keys;
          }};
}

INSTANTIATE_TEST_SUITE_P(Pmem, DeviceConformance,
                         testing::Values(target("block512", ""),
                                         target("block4096", "&block=4096")),
                         conformance_name);

}  // namespace
}  // namespace basalt
