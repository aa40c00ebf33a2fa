// basalt nvme list-ns|create-ns|delete-ns|attach-ns|detach-ns, zones|zone, resv-…: namespaces as a whole.
//
// NVM Express base specification 2.0: namespace management and attachment (§5.22, §5.23), reservations (§7.2-7.5);
// zoned namespace command set specification 1.1, §3.4.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "base/try.h"
#include "nvme/commands.h"
#include "tool/nvme_session.h"
#include "tool/text.h"
#include "wire/nvme/reservations.h"
#include "wire/nvme/zoned.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;
using nvme::ReservationType;

struct NamespaceArguments {
  std::string place;
  bool json = false;
  bool force = false;
  uint64_t size = 0;  // blocks
  unsigned format = 0;
  std::vector<uint16_t> controllers;
  uint64_t zone = 0;  // first block
  bool all = false;
  nvme::ZoneAction zone_action = nvme::ZoneAction::reset;
  uint64_t key = 0, other_key = 0;
  ReservationType type = ReservationType::write_exclusive;
  bool ignore_key = false;
};
constexpr Duration kPatience = std::chrono::minutes(1);

// ---- Management

Result<int> list_namespaces(const NamespaceArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  // All there are, attached or not: 1024 at a time.
  Json all = Json::array();
  for (uint32_t after = 0;;) {
    std::array<le32, 1024> ids{};
    BASALT_TRY(
        nvme.receive(nvme::identify_command(arguments.all ? nvme::IdentifyKind::allocated_namespaces
                                                          : nvme::IdentifyKind::active_namespaces,
                                            after),
                     ids));
    for (const uint32_t nsid : ids) {
      if (nsid <= after) {
        if (arguments.json) print(all);
        return kDone;
      }
      after = nsid;
      if (arguments.json) {
        all.push_back(nsid);
      } else {
        std::printf("%u\n", nsid);
      }
    }
  }
}

Result<int> create_namespace(const NamespaceArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::IdentifyNamespace data{};
  data.size = data.capacity = arguments.size;
  data.format = static_cast<uint8_t>((arguments.format & 0xf) | (arguments.format >> 4 & 3) << 5);
  uint32_t nsid = 0;
  BASALT_TRY(nvme.controller().run_admin(nvme::create_namespace_command(),
                                         std::as_bytes(std::span(&data, 1)), {}, kPatience, &nsid));
  if (arguments.json) {
    print({{"nsid", nsid}});
  } else {
    std::printf("created namespace %u; attach-ns lets a controller have it\n", nsid);
  }
  return kDone;
}

Result<int> delete_namespace(const NamespaceArguments& arguments) {
  if (!arguments.force) {
    return error(StatusCode::invalid_argument,
                 "delete-ns takes a namespace and its data away; say --force");
  }
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  BASALT_TRY(
      nvme.controller().run_admin(nvme::delete_namespace_command(nvme.nsid()), {}, {}, kPatience));
  return kDone;
}

Result<int> attach(const NamespaceArguments& arguments, bool attach) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  std::vector<uint16_t> ids = arguments.controllers;
  if (ids.empty()) ids.push_back(nvme.controller().identity().controller_id);
  std::sort(ids.begin(), ids.end());
  nvme::ControllerList list{};
  if (ids.size() > std::size(list.ids)) {
    return error(StatusCode::invalid_argument,
                 "--controllers: more than " + std::to_string(std::size(list.ids)));
  }
  list.count = static_cast<uint16_t>(ids.size());
  std::copy(ids.begin(), ids.end(), list.ids);
  BASALT_TRY(nvme.controller().run_admin(nvme::attach_namespace_command(nvme.nsid(), attach),
                                         std::as_bytes(std::span(&list, 1)), {}, kPatience));
  return kDone;
}
Result<int> attach_namespace(const NamespaceArguments& arguments) {
  return attach(arguments, true);
}
Result<int> detach_namespace(const NamespaceArguments& arguments) {
  return attach(arguments, false);
}

// ---- Zones

const std::map<std::string, nvme::ZoneAction> kZoneActions = {
    {"open", nvme::ZoneAction::open},
    {"close", nvme::ZoneAction::close},
    {"finish", nvme::ZoneAction::finish},
    {"reset", nvme::ZoneAction::reset},
    {"offline", nvme::ZoneAction::offline}};

const char* zone_state_name(nvme::ZoneState state) {
  switch (state) {
    case nvme::ZoneState::empty: return "empty";
    case nvme::ZoneState::implicitly_opened: return "implicitly opened";
    case nvme::ZoneState::explicitly_opened: return "explicitly opened";
    case nvme::ZoneState::closed: return "closed";
    case nvme::ZoneState::read_only: return "read only";
    case nvme::ZoneState::full: return "full";
    case nvme::ZoneState::offline: return "offline";
  }
  return "unrecognized";
}

// The zoned namespace that `nvme` is of.
Result<nvme::NamespaceInfo> zoned_namespace(const NvmeSession& nvme) {
  for (const nvme::NamespaceInfo& space : nvme.controller().namespaces()) {
    if (space.nsid == nvme.nsid() && space.command_set == nvme::CommandSet::zoned) return space;
  }
  return error(StatusCode::unsupported,
               "namespace " + std::to_string(nvme.nsid()) + " has no zones");
}

Result<int> report_zones(const NamespaceArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  BASALT_TRY_ASSIGN(const nvme::NamespaceInfo space, zoned_namespace(nvme));
  constexpr uint32_t kBytes = 64 * 1024;
  Json all = Json::array();
  std::vector<std::byte> report(std::min<uint64_t>(kBytes, nvme.controller().max_transfer_bytes()));
  for (uint64_t first = 0; first < space.block_count;) {
    BASALT_TRY(nvme.run_io(
        nvme::zone_report_command(nvme.nsid(), first, static_cast<uint32_t>(report.size())), {},
        report, kPatience));
    nvme::ZoneReportHeader header;
    std::memcpy(static_cast<void*>(&header), report.data(), sizeof header);
    const size_t room = (report.size() - sizeof header) / sizeof(nvme::ZoneDescriptor);
    const size_t count = std::min<uint64_t>(header.count, room);
    if (count == 0) break;
    for (size_t i = 0; i < count; ++i) {
      nvme::ZoneDescriptor zone;
      std::memcpy(static_cast<void*>(&zone),
                  report.data() + sizeof header + i * sizeof(nvme::ZoneDescriptor), sizeof zone);
      const char* state = zone_state_name(zone.zone_state());
      if (arguments.json) {
        all.push_back({{"slba", uint64_t{zone.first_block}},
                       {"wp", uint64_t{zone.write_pointer}},
                       {"cap", uint64_t{zone.capacity}},
                       {"state", state}});
      } else {
        std::printf("slba: %llu  wp: %llu  cap: %llu  state: %s\n",
                    static_cast<unsigned long long>(zone.first_block),
                    static_cast<unsigned long long>(zone.write_pointer),
                    static_cast<unsigned long long>(zone.capacity), state);
      }
      if (zone.first_block < first) {
        return error(StatusCode::corruption, "the report of zones goes backwards at block " +
                                                 std::to_string(zone.first_block));
      }
      first = zone.first_block + space.zone_blocks;
    }
  }
  if (arguments.json) print(all);
  return kDone;
}

Result<int> change_zone(const NamespaceArguments& arguments) {
  const bool loses = arguments.zone_action == nvme::ZoneAction::reset ||
                     arguments.zone_action == nvme::ZoneAction::offline;
  if (loses && !arguments.force) {
    return error(StatusCode::invalid_argument,
                 "a zone that is reset or taken offline loses its data; say --force");
  }
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  BASALT_TRY_ASSIGN([[maybe_unused]] const nvme::NamespaceInfo zoned, zoned_namespace(nvme));
  BASALT_TRY(
      nvme.run_io(nvme::zone_action_command(nvme.nsid(), arguments.zone, arguments.zone_action,
                                            arguments.all ? nvme::kAllZones : 0),
                  {}, {}, kPatience));
  return kDone;
}

// ---- Reservations

Result<int> reserve(const NamespaceArguments& arguments, const nvme::Command& command) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  nvme::Command mine = command;
  mine.nsid = nvme.nsid();
  nvme::ReservationKeys keys{};
  keys.current = arguments.key;
  keys.other = arguments.other_key;
  // Release takes the first key alone.
  const size_t bytes = mine.opcode == static_cast<uint8_t>(nvme::IoOpcode::reservation_release)
                           ? sizeof keys.current
                           : sizeof keys;
  BASALT_TRY(nvme.run_io(mine, std::as_bytes(std::span(&keys, 1)).first(bytes), {}, kPatience));
  return kDone;
}

Result<int> reservation_register(const NamespaceArguments& arguments) {
  const bool has_key = arguments.key != 0, has_other = arguments.other_key != 0;
  const auto action = has_key && has_other ? nvme::ReservationRegister::replace
                      : has_key            ? nvme::ReservationRegister::remove
                                           : nvme::ReservationRegister::add;
  return reserve(arguments, nvme::reservation_register_command(0, action, arguments.ignore_key));
}
Result<int> reservation_acquire(const NamespaceArguments& arguments) {
  const auto action = arguments.other_key != 0 ? nvme::ReservationAcquire::preempt
                                               : nvme::ReservationAcquire::acquire;
  return reserve(arguments, nvme::reservation_acquire_command(0, action, arguments.type));
}
Result<int> reservation_release(const NamespaceArguments& arguments) {
  const auto action =
      arguments.all ? nvme::ReservationRelease::clear : nvme::ReservationRelease::release;
  return reserve(arguments, nvme::reservation_release_command(0, action, arguments.type));
}

Result<int> reservation_report(const NamespaceArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open_namespace(arguments.place));
  std::vector<std::byte> report(4096);
  BASALT_TRY(nvme.run_io(
      nvme::reservation_report_command(nvme.nsid(), static_cast<uint32_t>(report.size())), {},
      report, kPatience));
  nvme::ReservationReportHeader header;
  std::memcpy(static_cast<void*>(&header), report.data(), sizeof header);
  const size_t room = (report.size() - sizeof header) / sizeof(nvme::RegisteredHost);
  const size_t count = std::min<size_t>(header.registered, room);
  print(reservation_fields(header, std::span(report).subspan(sizeof header), count),
        arguments.json);
  return kDone;
}

}  // namespace

void add_nvme_namespace_commands(CLI::App& group, Action& action) {
  const auto arguments = std::make_shared<NamespaceArguments>();
  const auto add = [&](const char* name, const char* help,
                       Result<int> (*run)(const NamespaceArguments&),
                       const char* place = kNamespaceHelp) {
    CLI::App* command = add_nvme_command(group, action, name, help, arguments, run);
    command
        ->add_option(place == kNamespaceHelp ? "namespace" : "controller", arguments->place, place)
        ->required();
    return command;
  };
  const auto takes_json = [&](CLI::App* command) {
    command->add_flag("--json", arguments->json, "for scripts");
    return command;
  };
  const auto takes_controllers = [&](CLI::App* command) {
    command
        ->add_option("-c,--controllers", arguments->controllers,
                     "their ids (cntlid), with commas between (default: this one)")
        ->delimiter(',');
  };
  takes_json(add("list-ns", "a controller's namespaces", list_namespaces, kControllerHelp))
      ->add_flag("-a,--all", arguments->all, "of the subsystem, attached or not");
  CLI::App* creating =
      takes_json(add("create-ns", "make a namespace", create_namespace, kControllerHelp));
  creating->add_option("-s,--nsze", arguments->size, "blocks")->required();
  creating->add_option("-f,--flbas", arguments->format, "the format by its number (default: 0)")
      ->check(CLI::Range(0u, 63u));
  add("delete-ns", "take a namespace and its data away", delete_namespace)
      ->add_flag("--force", arguments->force, "really");
  takes_controllers(add("attach-ns", "let controllers have a namespace", attach_namespace));
  takes_controllers(add("detach-ns", "take a namespace from controllers", detach_namespace));

  takes_json(add("zones", "a zoned namespace's zones and their states", report_zones));
  CLI::App* zone =
      add("zone", "open, close, finish, reset a zone, or take it offline", change_zone);
  zone->add_option("-s,--start-lba", arguments->zone, "the zone's first block")->required();
  zone->add_option("-a,--action", arguments->zone_action, "what to do")
      ->required()
      ->transform(CLI::CheckedTransformer(kZoneActions));
  zone->add_flag("--select-all", arguments->all, "all zones, whatever --start-lba");
  zone->add_flag("--force", arguments->force, "even if data is lost");

  const auto takes_key = [&](CLI::App* command, const char* name, uint64_t& key, const char* help) {
    command->add_option(name, key, help);
    return command;
  };
  const auto takes_type = [&](CLI::App* command) {
    command->add_option("-t,--rtype", arguments->type, "of reservation (default: write-exclusive)")
        ->transform(CLI::CheckedTransformer(reservation_types()));
  };
  CLI::App* registering =
      add("resv-register", "register a key (--nrkey), change it (both), or give it up (--crkey)",
          reservation_register);
  takes_key(registering, "--crkey", arguments->key, "the key registered now");
  takes_key(registering, "--nrkey", arguments->other_key, "the new one");
  registering->add_flag("-i,--iekey", arguments->ignore_key, "whatever the key now is");
  CLI::App* acquiring =
      add("resv-acquire", "reserve, with --prkey in the place of others", reservation_acquire);
  takes_key(acquiring, "--crkey", arguments->key, "this host's key")
      ->get_option("--crkey")
      ->required();
  takes_key(acquiring, "--prkey", arguments->other_key, "the key of whom to take it from");
  takes_type(acquiring);
  CLI::App* releasing = add("resv-release", "give a reservation back", reservation_release);
  takes_key(releasing, "--crkey", arguments->key, "this host's key")
      ->get_option("--crkey")
      ->required();
  releasing->add_flag("--clear", arguments->all, "and everybody's keys with it");
  takes_type(releasing);
  takes_json(
      add("resv-report", "who has registered, and who holds the reservation", reservation_report));
}

}  // namespace basalt::tool
