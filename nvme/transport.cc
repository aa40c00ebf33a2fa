// See transport.h.
#include "nvme/transport.h"

#include <algorithm>

#include "base/sync.h"
#include "base/try.h"
#include "nvme/hex.h"
#include "nvme/page.h"

namespace basalt::nvme {

std::string milliseconds(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count()) +
         " ms";
}

Duration ready_timeout(Capabilities capabilities) {
  return std::chrono::milliseconds(500) * std::max(capabilities.ready_timeout_halves(), 2u);
}

uint32_t enabling_configuration(Capabilities capabilities) {
  const uint32_t command_sets = capabilities.more_command_sets() ? kCommandSetAll : kCommandSetNvm;
  return kEntrySizes | command_sets | page_size_field(0) | kEnable;
}

Status check_capabilities(Capabilities capabilities) {
  if (capabilities.value == ~uint64_t{0}) {
    return {StatusCode::device_removed, "its registers read as all ones: the function is gone"};
  }
  if (!capabilities.nvm_command_set() && !capabilities.more_command_sets()) {
    return {StatusCode::unsupported,
            "the controller has no I/O command set (CAP " + hex(capabilities.value) + ")"};
  }
  if (capabilities.min_page_bytes() > kPageBytes) {
    return {StatusCode::unsupported, "the controller's smallest page is " +
                                         std::to_string(capabilities.min_page_bytes()) +
                                         " B; this driver uses pages of 4096 B"};
  }
  if (capabilities.max_queue_entries() < 2) {
    return {StatusCode::corruption, "the controller's queues have " +
                                        std::to_string(capabilities.max_queue_entries()) +
                                        " entry; two are the least (CAP.MQES)"};
  }
  return {};
}

Status wait_ready(Transport& transport, Clock& clock, bool ready, Duration timeout) {
  const Duration end = clock.now() + timeout;
  for (Duration pause = std::chrono::microseconds(50);;
       pause = std::min<Duration>(2 * pause, std::chrono::milliseconds(10))) {
    BASALT_TRY_ASSIGN(const uint32_t raw, transport.read32(Register::status));
    const ControllerStatus status{raw};
    if (status.gone()) return {StatusCode::device_removed, "its registers read as all ones"};
    if (status.ready() == ready) return {};
    if (ready && status.fatal()) {
      return {StatusCode::io_error, "enable: fatal error (CSTS " + hex(raw) + ")"};
    }
    if (clock.now() >= end) {
      return {StatusCode::timed_out,
              std::string(ready ? "enable: not ready" : "disable: still ready") + " after " +
                  milliseconds(timeout) + " (CSTS " + hex(raw) + ")"};
    }
    sleep_for(pause);
  }
}

}  // namespace basalt::nvme
