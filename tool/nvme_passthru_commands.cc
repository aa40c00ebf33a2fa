// basalt nvme admin-passthru|io-passthru: any command, word by word.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "base/try.h"
#include "nvme/admin_queue.h"
#include "nvme/commands.h"
#include "tool/nvme_session.h"
#include "tool/text.h"

namespace basalt::tool {
namespace {

struct PassthruArguments {
  std::string place;
  unsigned opcode = 0;
  unsigned flags = 0;
  uint32_t nsid = 0;
  uint32_t words[16] = {};  // 2, 3 and 10 to 15 are used
  uint64_t bytes = 0;
  std::string input;
  bool raw = false;
  unsigned timeout_ms = 60'000;
  bool force = false;
};

nvme::Command command_of(const PassthruArguments& arguments) {
  nvme::Command command;
  command.opcode = static_cast<uint8_t>(arguments.opcode);
  command.flags = static_cast<uint8_t>(arguments.flags);
  command.nsid = arguments.nsid;
  command.cdw2 = arguments.words[2];
  command.cdw3 = arguments.words[3];
  command.cdw10 = arguments.words[10];
  command.cdw11 = arguments.words[11];
  command.cdw12 = arguments.words[12];
  command.cdw13 = arguments.words[13];
  command.cdw14 = arguments.words[14];
  command.cdw15 = arguments.words[15];
  return command;
}

// What goes to the controller: --data-len bytes of the file, or all of it.
Result<std::vector<std::byte>> read_input(const PassthruArguments& arguments) {
  std::vector<char> text;
  if (arguments.input.empty() || arguments.input == "-") {
    text.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    std::ifstream file(arguments.input, std::ios::binary);
    if (!file) return error(StatusCode::not_found, arguments.input + ": cannot be read");
    text.assign(std::istreambuf_iterator<char>(file), {});
  }
  const uint64_t wanted = arguments.bytes != 0 ? arguments.bytes : text.size();
  if (text.size() < wanted) {
    return error(StatusCode::invalid_argument, "--data-len " + std::to_string(wanted) +
                                                   ": there are only " +
                                                   std::to_string(text.size()) + " B to be sent");
  }
  const auto bytes = std::as_bytes(std::span(text)).first(wanted);
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

// Sixteen bytes a line, with their offset.
void dump(std::span<const std::byte> bytes) {
  for (size_t at = 0; at < bytes.size(); at += 16) {
    std::printf("%04zx:", at);
    for (size_t i = at; i < std::min(at + 16, bytes.size()); ++i) {
      std::printf(" %02x", static_cast<unsigned>(bytes[i]));
    }
    std::printf("\n");
  }
}

enum class Queue : uint8_t { admin, io };

// The opcode's lowest bits: which way data goes (base specification 2.0, §3.3.3.1).
constexpr unsigned kToController = 1, kFromController = 2;

Result<int> pass(const PassthruArguments& arguments, Queue queue) {
  const unsigned way = arguments.opcode & 3;
  if (way == (kToController | kFromController)) {
    return error(StatusCode::unsupported, "opcodes whose data goes both ways are not supported");
  }
  if (way == 0 && (arguments.bytes != 0 || !arguments.input.empty())) {
    return error(StatusCode::invalid_argument,
                 "by its opcode the command has no data; leave --data-len and --input-file out");
  }
  if (way == kFromController && !arguments.input.empty()) {
    return error(StatusCode::invalid_argument,
                 "--input-file: by its opcode the command's data comes from the controller");
  }
  if (way != kFromController && !arguments.force) {
    return error(StatusCode::invalid_argument,
                 "a command that is passed as it is may destroy anything; say --force");
  }
  std::vector<std::byte> sent, received;
  if (way == kToController && (arguments.bytes != 0 || !arguments.input.empty())) {
    BASALT_TRY_ASSIGN(sent, read_input(arguments));
  }
  if (std::max<uint64_t>(arguments.bytes, sent.size()) > nvme::AdminQueue::kDataBytes) {
    return error(StatusCode::invalid_argument,
                 "--data-len: " + size_text(nvme::AdminQueue::kDataBytes) + " at most");
  }
  if (way == kFromController) received.resize(arguments.bytes);
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::Command command = command_of(arguments);
  if (command.nsid == 0) command.nsid = nvme.nsid();
  const Duration timeout = std::chrono::milliseconds(arguments.timeout_ms);
  uint64_t result = 0;
  if (queue == Queue::admin) {
    uint32_t word = 0;
    BASALT_TRY(nvme.controller().run_admin(command, sent, received, timeout, &word));
    result = word;
  } else {
    BASALT_TRY(nvme.run_io(command, sent, received, timeout, &result));
  }
  if (arguments.raw) {
    std::fwrite(received.data(), 1, received.size(), stdout);
    return kDone;
  }
  std::printf("result: 0x%08llx\n", static_cast<unsigned long long>(result));
  dump(received);
  return kDone;
}
Result<int> admin_passthru(const PassthruArguments& arguments) {
  return pass(arguments, Queue::admin);
}
Result<int> io_passthru(const PassthruArguments& arguments) { return pass(arguments, Queue::io); }

}  // namespace

void add_nvme_passthru_commands(CLI::App& group, Action& action) {
  const auto arguments = std::make_shared<PassthruArguments>();
  const auto add = [&](const char* name, const char* help,
                       Result<int> (*run)(const PassthruArguments&)) {
    CLI::App* command = add_nvme_command(group, action, name, help, arguments, run);
    command->add_option("controller", arguments->place, "a controller, or a namespace of it")
        ->required();
    command->add_option("-o,--opcode", arguments->opcode, "as 0x06")
        ->required()
        ->check(CLI::Range(0u, 255u));
    command->add_option("--flags", arguments->flags, "the command's second byte")
        ->check(CLI::Range(0u, 255u));
    command->add_option("-n,--namespace-id", arguments->nsid, "(default: the one named, or 0)");
    for (const unsigned word : {2u, 3u, 10u, 11u, 12u, 13u, 14u, 15u}) {
      command->add_option("--cdw" + std::to_string(word), arguments->words[word],
                          "command word " + std::to_string(word));
    }
    add_size_option(*command, "-l,--data-len", arguments->bytes,
                    "bytes of data; the opcode says which way it goes");
    command->add_option("-i,--input-file", arguments->input,
                        "what goes to the controller (default: standard input)");
    command->add_flag("-b,--raw-binary", arguments->raw, "print the data alone, as it is");
    command->add_option("-t,--timeout", arguments->timeout_ms, "ms (default: 60000)")
        ->check(CLI::Range(1u, 86'400'000u));
    command->add_flag("--force", arguments->force, "really");
  };
  add("admin-passthru", "any admin command", admin_passthru);
  add("io-passthru", "any I/O command", io_passthru);
}

}  // namespace basalt::tool
