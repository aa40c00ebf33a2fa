// See describe_io.h.
#include "nvme/describe_io.h"

#include <cstdio>

#include "wire/nvme/status.h"

namespace basalt::nvme {

namespace {

const char* opcode_name(IoOpcode opcode) {
  switch (opcode) {
    case IoOpcode::flush: return "flush";
    case IoOpcode::write: return "write";
    case IoOpcode::read: return "read";
    case IoOpcode::write_uncorrectable: return "write uncorrectable";
    case IoOpcode::compare: return "compare";
    case IoOpcode::write_zeroes: return "write zeroes";
    case IoOpcode::dataset_management: return "dataset management";
    case IoOpcode::verify: return "verify";
    case IoOpcode::reservation_register: return "reservation register";
    case IoOpcode::reservation_report: return "reservation report";
    case IoOpcode::reservation_acquire: return "reservation acquire";
    case IoOpcode::reservation_release: return "reservation release";
    case IoOpcode::copy: return "copy";
    case IoOpcode::zone_management_send: return "zone management send";
    case IoOpcode::zone_management_receive: return "zone management receive";
    case IoOpcode::zone_append: return "zone append";
  }
  return nullptr;
}

bool has_blocks(IoOpcode opcode) {
  switch (opcode) {
    case IoOpcode::write:
    case IoOpcode::read:
    case IoOpcode::write_uncorrectable:
    case IoOpcode::compare:
    case IoOpcode::write_zeroes:
    case IoOpcode::verify:
    case IoOpcode::zone_append: return true;
    default: return false;
  }
}

}  // namespace

std::string describe_io(const Request& request) {
  const Command& command = request.command;
  const auto opcode = static_cast<IoOpcode>(command.opcode);
  std::string text;
  if (const char* name = opcode_name(opcode)) {
    text = name;
  } else {
    char code[24];
    std::snprintf(code, sizeof code, "command 0x%02x", command.opcode);
    text = code;
  }
  text += " of namespace " + std::to_string(command.nsid);
  if (has_blocks(opcode)) {
    const uint64_t lba = command.cdw10 | uint64_t{command.cdw11} << 32;
    text += ", LBA " + std::to_string(lba) + "+" + std::to_string((command.cdw12 & 0xffff) + 1u);
  }
  const CompletionStatus status = request.completion.status();
  return text + ": " +
         (status.ok() ? std::string(to_string(request.status)) + ", without an answer"
                      : describe(status));
}

}  // namespace basalt::nvme
