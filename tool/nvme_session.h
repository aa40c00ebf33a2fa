// What the commands of `basalt nvme` share: a controller they drive alone, and how they are declared.
#pragma once

#include <basalt/context.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "bdev/nvme/nvme_uri.h"
#include "tool/command.h"
#include "tool/nvme_reports.h"

namespace basalt::tool {

inline constexpr const char* kControllerHelp =
    "nvme:pci:ADDRESS, nvme:vfio-user:SOCKET or nvme:tcp:HOST:PORT/NQN";
inline constexpr const char* kNamespaceHelp =
    "a controller (nvme:pci:ADDRESS …) with /NAMESPACE behind it";

struct NvmeSession {
  std::unique_ptr<Context> context;
  NvmeController opened;

  static Result<NvmeSession> open(const std::string& place);
  nvme::Controller& controller() const { return *opened.controller; }
  // The namespace that `place` names; invalid_argument when it names none.
  static Result<NvmeSession> open_namespace(const std::string& place);
  uint32_t nsid() const { return opened.nsid; }

  template <typename Data>
  Status receive(const nvme::Command& command, Data& data) const {
    return controller().run_admin(command, {}, std::as_writable_bytes(std::span(&data, 1)));
  }
  Result<nvme::IdentifyNamespace> identify_namespace(uint32_t nsid) const;
  // An I/O command, on a queue pair of its own; `sent` goes to the controller, or `received` is filled by it. `result`:
  // words 0 and 1 of the completion. An error says which command failed, and how.
  Status run_io(const nvme::Command& command, std::span<const std::byte> sent,
                std::span<std::byte> received, Duration timeout, uint64_t* result = nullptr) const;
};

// Names come from devices: what is no UTF-8 is replaced.
void print(const nlohmann::ordered_json& json);
void print(const NvmeFields& fields, bool json);

// Declares a command of the group; Arguments are shared by whoever fills and reads them.
template <class Arguments>
CLI::App* add_nvme_command(CLI::App& group, Action& action, const char* name, const char* help,
                           const std::shared_ptr<Arguments>& arguments,
                           Result<int> (*run)(const Arguments&)) {
  CLI::App* command = group.add_subcommand(name, help);
  command->callback([arguments, &action, run] { action = [=] { return run(*arguments); }; });
  return command;
}

void add_nvme_setting_commands(CLI::App& group, Action& action);    // features, firmware, sanitize
void add_nvme_namespace_commands(CLI::App& group, Action& action);  // …-ns, zones, resv-…
void add_nvme_passthru_commands(CLI::App& group, Action& action);

}  // namespace basalt::tool
