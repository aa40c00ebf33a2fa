// The conformance suite on the devices of the core itself: ram:, null:, part:, delay: and error:
// over both, and a device with every restriction, under several sets of limits and with very little bounce memory.
#include "bdev/delay/delay_device.h"
#include "bdev/error/error_device.h"
#include "bdev/null/null_device.h"
#include "bdev/part/part_device.h"
#include "bdev/ram/ram_device.h"
#include "test/bdev/conformance.h"
#include "test/bdev/limited_device.h"

namespace basalt {
namespace {

void register_all(Context& context) {
  register_ram_scheme(context);
  register_null_scheme(context);
  register_part_scheme(context);
  register_delay_scheme(context);
  register_error_scheme(context);
  register_limited_scheme(context);
}

ConformanceTarget target(std::string name, std::string uri) {
  return {.name = std::move(name),
          .register_schemes = register_all,
          .make_uri = [uri = std::move(uri)](const std::string&) { return uri; }};
}

ConformanceTarget storing_nothing(ConformanceTarget target) {
  target.stores_data = false;
  return target;
}

ConformanceTarget layer(ConformanceTarget target) {
  target.layer = true;
  return target;
}

ConformanceTarget with_little_memory(ConformanceTarget target) {
  target.options.bounce_bytes_per_channel = 16384;
  return target;
}

INSTANTIATE_TEST_SUITE_P(
    Core, DeviceConformance,
    testing::Values(target("ram", "ram:64M"), target("ram4096", "ram:64M?block=4096"),
                    storing_nothing(target("null", "null:64M")),
                    layer(target("part", "part:(ram:100M)?offset=1M&size=64M")),
                    layer(storing_nothing(target("part_of_null", "part:(null:64M)"))),
                    layer(target("part_of_part",
                                 "part:(part:(ram:80M?block=4096)?offset=4M)?offset=4K&size=64M")),
                    layer(target("part_of_limited",
                                 "part:(limited:65M?align=512&transfer=64)?offset=1M"))),
    conformance_name);

INSTANTIATE_TEST_SUITE_P(
    Trying, DeviceConformance,
    testing::Values(layer(target("error", "error:(ram:64M)")),
                    layer(target("error_of_limited", "error:(limited:64M?align=512&transfer=64)")),
                    layer(storing_nothing(target("error_of_null", "error:(null:64M)"))),
                    layer(target("delay",
                                 "delay:(ram:64M)?read_us=20&write_us=30&write_p99_us=900")),
                    layer(target("no_delay", "delay:(ram:64M?block=4096)")),
                    layer(target("delay_of_limited",
                                 "delay:(limited:64M?align=512&transfer=64)?"
                                 "read_us=50&read_p99_us=0")),
                    layer(storing_nothing(target("delay_of_error",
                                                 "delay:(error:(null:64M))?"
                                                 "read_us=10&write_us=10")))),
    conformance_name);

// What the core does for devices that can do little: each restriction alone, then all.
INSTANTIATE_TEST_SUITE_P(
    Limited, DeviceConformance,
    testing::Values(
        target("unlimited", "limited:64M?cache=0&slots=1000"),
        target("few_slots", "limited:64M?slots=1"),
        target("small_transfers", "limited:64M?transfer=8"),
        target("one_vector", "limited:64M?vectors=1&slots=64"),
        target("aligned512", "limited:64M?align=512&slots=64"),
        target("aligned4096", "limited:64M?align=4096&slots=64"),
        target("registered", "limited:64M?registered=1&slots=64"),
        target("native_fua", "limited:64M?fua=1"),
        target("everything_native", "limited:64M?ops=all&transfer=4100&zeroes=100&vectors=200"),
        target("everything_native_aligned", "limited:64M?ops=all&align=512&transfer=100&slots=64"),
        target("block4096", "limited:64M?block=4096&align=512&transfer=32&vectors=4"),
        target("everything", "limited:64M?align=512&transfer=16&zeroes=7&vectors=2&registered=1"),
        with_little_memory(target("little_memory", "limited:64M?align=4096&transfer=256"))),
    conformance_name);

}  // namespace
}  // namespace basalt
