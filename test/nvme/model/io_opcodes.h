// Which I/O commands a ControllerModel has, by its options (ONCS).
#pragma once

#include <cstdint>

#include "nvme/model/model_options.h"
#include "wire/nvme/command.h"

namespace basalt::nvme::model {

inline bool is_io_command(uint8_t opcode, const ModelOptions& options) {
  const auto optional = [&](uint16_t bit) { return (options.optional_commands & bit) != 0; };
  switch (static_cast<IoOpcode>(opcode)) {
    case IoOpcode::flush:
    case IoOpcode::write:
    case IoOpcode::read: return true;
    case IoOpcode::write_uncorrectable: return optional(kSupportsWriteUncorrectable);
    case IoOpcode::compare: return optional(kSupportsCompare);
    case IoOpcode::write_zeroes: return optional(kSupportsWriteZeroes);
    case IoOpcode::dataset_management: return optional(kSupportsDatasetManagement);
    case IoOpcode::verify: return optional(kSupportsVerify);
    case IoOpcode::copy: return optional(kSupportsCopy);
    default: return false;
  }
}

inline bool changes_blocks(uint8_t opcode) {
  switch (static_cast<IoOpcode>(opcode)) {
    case IoOpcode::write:
    case IoOpcode::write_uncorrectable:
    case IoOpcode::write_zeroes:
    case IoOpcode::dataset_management:
    case IoOpcode::copy: return true;
    default: return false;
  }
}

}  // namespace basalt::nvme::model
