// Commands as hosts send them, for tests with a RawHost; and waiting for what comes of them.
#pragma once

#include <algorithm>
#include <functional>

#include "base/sync.h"
#include "nvme/commands.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/log_page.h"

namespace basalt {

inline bool wait_until(const std::function<bool()>& happened) {
  for (int i = 0; i < 20'000; ++i) {
    if (happened()) return true;
    sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

inline nvme::Command admin(nvme::AdminOpcode opcode) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  return command;
}
inline nvme::Command identify(nvme::IdentifyKind kind, uint32_t nsid = 0) {
  nvme::Command command = admin(nvme::AdminOpcode::identify);
  command.nsid = nsid;
  command.cdw10 = static_cast<uint32_t>(kind);
  return command;
}
inline nvme::Command transfer(nvme::IoOpcode opcode, uint64_t lba, uint32_t blocks,
                              uint32_t nsid = 1) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(opcode);
  command.nsid = nsid;
  command.cdw10 = static_cast<uint32_t>(lba);
  command.cdw11 = static_cast<uint32_t>(lba >> 32);
  command.cdw12 = blocks - 1;
  return command;
}
inline nvme::Command get_log(nvme::LogPage page, size_t bytes) {
  nvme::Command command = admin(nvme::AdminOpcode::get_log_page);
  command.cdw10 = static_cast<uint32_t>(page) | static_cast<uint32_t>(bytes / 4 - 1) << 16;
  return command;
}

// The host is told of those from then on.
inline nvme::Command enable_events(uint32_t which) {
  nvme::Command command = admin(nvme::AdminOpcode::set_features);
  command.cdw10 = static_cast<uint32_t>(nvme::Feature::async_event_config);
  command.cdw11 = which;
  return command;
}

}  // namespace basalt
