// basalt nvme …: finds controllers, moves them between drivers, and asks them about themselves.
//
// list, bind and unbind look at sysfs and disturb no controller; discover asks a network. The others drive the
// controller alone, so that no other process may have it open if it is a PCI function.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/pci_devices.h"
#include "nvme/pci_monitor.h"
#include "tool/nvme_session.h"
#include "tool/text.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;
using nvme::SecureErase;

struct NvmeArguments {
  std::string place;  // a PCI address, or a controller's URI
  bool json = false;
  bool force = false;
  // format
  uint64_t block_bytes = 0;
  int format = -1;
  SecureErase erase = SecureErase::none;
};

Result<int> list(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const std::vector<nvme::PciDevice> devices, nvme::PciDevices().list());
  if (arguments.json) {
    Json all = Json::array();
    for (const auto& device : devices) all.push_back(device_json(device));
    print(all);
    return kDone;
  }
  for (const auto& device : devices) std::printf("%s\n", device_text(device).c_str());
  if (devices.empty()) std::printf("no NVMe controllers\n");
  return kDone;
}

std::string event_text(const nvme::PciEvent& event) {
  const std::string& address = event.address;
  switch (event.change) {
    case nvme::PciChange::appeared: return address + " has appeared";
    case nvme::PciChange::bound: return address + " is bound to " + event.driver;
    case nvme::PciChange::unbound: return address + " has no driver";
    case nvme::PciChange::gone: return address + " is gone";
    case nvme::PciChange::missed: break;
  }
  return "some changes were missed: basalt nvme list says what there is now";
}

Json event_json(const nvme::PciEvent& event) {
  Json json = {{"change", nvme::to_string(event.change)}};
  if (event.change == nvme::PciChange::missed) return json;
  json["address"] = event.address;
  json["vendor_id"] = event.vendor_id;
  json["device_id"] = event.device_id;
  if (!event.driver.empty()) json["driver"] = event.driver;
  return json;
}

// Until it is ended by a signal.
Result<int> monitor(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(nvme::PciMonitor monitor, nvme::PciMonitor::open());
  std::fprintf(stderr, "waiting for NVMe controllers to come and go\n");
  while (true) {
    BASALT_TRY_ASSIGN(const auto event, monitor.next(Duration::max()));
    if (!event) continue;
    std::printf("%s\n",
                arguments.json ? event_json(*event).dump().c_str() : event_text(*event).c_str());
    std::fflush(stdout);
  }
}

Result<int> discover(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const auto context, Context::create());
  BASALT_TRY_ASSIGN(const auto found, discover_nvme(*context, arguments.place));
  Json all = Json::array();
  for (const nvme::DiscoveredSubsystem& subsystem : found) {
    if (arguments.json) {
      all.push_back(subsystem_json(subsystem));
    } else {
      std::printf("%s\n", subsystem_text(subsystem).c_str());
    }
  }
  if (arguments.json) print({{"records", all}});
  if (found.empty() && !arguments.json) std::printf("no subsystems\n");
  return kDone;
}

nvme::InUse in_use(const NvmeArguments& arguments) {
  return arguments.force ? nvme::InUse::take_anyway : nvme::InUse::refuse;
}

Result<int> bind(const NvmeArguments& arguments) {
  BASALT_TRY(nvme::PciDevices().bind(arguments.place, in_use(arguments)));
  std::printf("%s is bound to vfio-pci: nvme:pci:%s\n", arguments.place.c_str(),
              arguments.place.c_str());
  return kDone;
}

Result<int> unbind(const NvmeArguments& arguments) {
  const nvme::PciDevices devices;
  BASALT_TRY(devices.unbind(arguments.place, in_use(arguments)));
  BASALT_TRY_ASSIGN(const nvme::PciDevice device, devices.find(arguments.place));
  std::printf("%s is bound to %s\n", arguments.place.c_str(), device.driver.c_str());
  return kDone;
}

Json namespaces_json(const nvme::Controller& controller) {
  Json all = Json::array();
  for (const nvme::NamespaceInfo& space : controller.namespaces()) {
    all.push_back({{"nsid", space.nsid},
                   {"block_count", space.block_count},
                   {"block_bytes", space.block_bytes},
                   {"metadata_bytes", space.metadata_bytes}});
  }
  return all;
}

Result<int> identify(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  if (nvme.nsid() != 0) {
    BASALT_TRY_ASSIGN(const nvme::IdentifyNamespace data, nvme.identify_namespace(nvme.nsid()));
    print(namespace_fields(data), arguments.json);
    return kDone;
  }
  const NvmeFields fields = controller_fields(nvme.controller().identity());
  if (arguments.json) {
    Json json = as_json(fields);
    json["namespaces"] = namespaces_json(nvme.controller());
    print(json);
    return kDone;
  }
  print(fields, false);
  for (const nvme::NamespaceInfo& space : nvme.controller().namespaces()) {
    std::printf("namespace %u: %s in blocks of %u B%s\n", space.nsid,
                size_text(space.block_count * space.block_bytes).c_str(), space.block_bytes,
                space.metadata_bytes != 0
                    ? (" with " + std::to_string(space.metadata_bytes) + " B of metadata").c_str()
                    : "");
  }
  return kDone;
}

Result<int> smart(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::HealthLog log{};
  BASALT_TRY(nvme.receive(nvme::log_page_command(nvme::LogPage::health, sizeof log), log));
  print(health_fields(log), arguments.json);
  return kDone;
}

Result<int> error_log(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  std::vector<nvme::ErrorLogEntry> log(nvme.controller().identity().error_log_entries + 1u);
  const auto bytes = std::as_writable_bytes(std::span(log));
  BASALT_TRY(nvme.controller().run_admin(
      nvme::log_page_command(nvme::LogPage::error_information, static_cast<uint32_t>(bytes.size())),
      {}, bytes));
  Json all = Json::array();
  for (const nvme::ErrorLogEntry& entry : log) {
    if (entry.count == 0) continue;
    const NvmeFields fields = error_fields(entry);
    if (arguments.json) {
      all.push_back(as_json(fields));
    } else {
      std::printf("%s\n", as_text(fields).c_str());
    }
  }
  if (arguments.json) print(all);
  return kDone;
}

// The format to use, by index or by block size: without metadata, and of these the fastest.
Result<unsigned> choose_format(const NvmeArguments& arguments,
                               const nvme::IdentifyNamespace& data) {
  const unsigned count = std::min<unsigned>(data.format_count + 1u, 64);
  if (arguments.format >= 0) {
    const auto index = static_cast<unsigned>(arguments.format);
    if (index < count && data.formats[index].data_shift != 0) return index;
    return error(StatusCode::invalid_argument, "--lbaf " + std::to_string(index) +
                                                   ": the namespace has no such format; " +
                                                   "basalt nvme identify lists them");
  }
  std::optional<unsigned> best;
  std::string sizes;
  for (unsigned i = 0; i < count; ++i) {
    const nvme::LbaFormat& format = data.formats[i];
    if (format.data_shift == 0 || format.metadata_bytes != 0) continue;
    const uint64_t bytes = uint64_t{1} << (format.data_shift & 63);
    sizes += (sizes.empty() ? "" : ", ") + std::to_string(bytes);
    const auto rank = [&](unsigned f) { return data.formats[f].relative_performance & 3; };
    if (bytes == arguments.block_bytes && (!best || rank(i) < rank(*best))) best = i;
  }
  if (best) return *best;
  return error(StatusCode::invalid_argument,
               "--block-size " + std::to_string(arguments.block_bytes) +
                   ": the namespace has formats without metadata of: " + sizes + " B");
}

Result<int> format(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  const uint32_t nsid = nvme.nsid();
  const nvme::IdentifyController controller = nvme.controller().identity();
  if ((controller.optional_admin_commands & nvme::kSupportsFormat) == 0) {
    return error(StatusCode::unsupported,
                 arguments.place + ": the controller has no format command");
  }
  BASALT_TRY_ASSIGN(const nvme::IdentifyNamespace data, nvme.identify_namespace(nsid));
  unsigned index = nvme::format_index(data);
  if (arguments.format >= 0 || arguments.block_bytes != 0) {
    BASALT_TRY_ASSIGN(index, choose_format(arguments, data));
  }
  const bool all = (controller.format_attributes & 1) != 0;
  if (!arguments.force) {
    return error(
        StatusCode::invalid_argument,
        "format erases " +
            (all ? std::string("every namespace of this controller, which formats all at once")
                 : "namespace " + std::to_string(nsid)) +
            ", " +
            size_text(uint64_t{data.size}
                      << (data.formats[nvme::format_index(data)].data_shift & 63)) +
            "; say --force");
  }
  // As long as the medium takes: a drive may erase for hours.
  BASALT_TRY(nvme.controller().run_admin(nvme::format_command(nsid, index, arguments.erase), {}, {},
                                         std::chrono::hours(24)));
  std::printf("formatted with blocks of %llu B\n", 1ULL << (data.formats[index].data_shift & 63));
  return kDone;
}

Result<int> reset(const NvmeArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  BASALT_TRY(nvme.controller().reset("asked for by hand"));
  return kDone;
}

}  // namespace

void add_nvme_commands(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("nvme", "NVMe controllers");
  group->require_subcommand(1);
  const auto arguments = std::make_shared<NvmeArguments>();
  const auto add = [&](const char* name, const char* help,
                       Result<int> (*run)(const NvmeArguments&)) {
    return add_nvme_command(*group, action, name, help, arguments, run);
  };
  const auto takes_address = [&](CLI::App* command) {
    command->add_option("address", arguments->place, "PCI address, such as 0000:01:00.0")
        ->required();
    command->add_flag("--force", arguments->force, "even if it is in use");
  };
  const auto takes_controller = [&](CLI::App* command, const char* help) {
    command->add_option("controller", arguments->place, help)->required();
    return command;
  };
  const auto takes_json = [&](CLI::App* command) {
    command->add_flag("--json", arguments->json, "for scripts");
  };
  takes_json(add("list", "controllers, their drivers, and who uses their disks", list));
  takes_json(add("monitor", "says when controllers come, go, and change drivers", monitor));
  takes_address(add("bind", "take a controller from the kernel, for nvme:pci:", bind));
  takes_address(add("unbind", "give a controller back to the kernel", unbind));
  takes_json(
      takes_controller(add("discover", "what an NVMe/TCP discovery controller knows of", discover),
                       "HOST[:PORT] (default port: 8009), keys as of nvme:tcp: behind it"));
  takes_json(takes_controller(
      add("identify", "what a controller, or with /NAMESPACE a namespace, says of itself",
          identify),
      kControllerHelp));
  takes_json(takes_controller(add("smart", "the SMART / health log", smart), kControllerHelp));
  takes_json(takes_controller(add("error-log", "the errors a controller remembers", error_log),
                              kControllerHelp));
  takes_controller(add("reset", "reset a controller", reset), kControllerHelp);
  CLI::App* formatting = takes_controller(
      add("format", "erase a namespace, and change its block size", format), kNamespaceHelp);
  formatting->add_flag("--force", arguments->force, "really");
  CLI::Option* size = add_size_option(*formatting, "--block-size", arguments->block_bytes,
                                      "bytes (default: as it is)");
  formatting->add_option("--lbaf", arguments->format, "the format by its number, instead")
      ->check(CLI::Range(0, 63))
      ->excludes(size);
  formatting
      ->add_option("--secure-erase", arguments->erase,
                   "what is to be unrecoverable (default: none)")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, SecureErase>{{"none", SecureErase::none},
                                             {"user-data", SecureErase::user_data},
                                             {"crypto", SecureErase::cryptographic}}));
  add_nvme_setting_commands(*group, action);
  add_nvme_namespace_commands(*group, action);
  add_nvme_passthru_commands(*group, action);
}

}  // namespace basalt::tool
