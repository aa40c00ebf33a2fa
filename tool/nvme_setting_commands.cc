// basalt nvme get-feature|set-feature|fw-log|fw-download|fw-commit|sanitize|sanitize-log|ana-log.
//
// NVM Express base specification 2.0: features (§5.15, §5.27), firmware (§5.12, §5.13), sanitize (§5.24).
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <vector>

#include "base/try.h"
#include "nvme/access_states.h"
#include "nvme/commands.h"
#include "tool/nvme_session.h"
#include "tool/text.h"
#include "wire/nvme/admin.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;

struct SettingArguments {
  std::string place;
  bool json = false;
  bool force = false;
  unsigned feature = 0;
  nvme::FeatureSelect select = nvme::FeatureSelect::current;
  uint32_t value = 0;
  bool save = false;
  std::string image;
  uint64_t piece = 0;
  unsigned slot = 0;
  nvme::FirmwareAction firmware = nvme::FirmwareAction::store_and_activate_at_reset;
  nvme::SanitizeAction sanitize = nvme::SanitizeAction::block_erase;
};

// ---- Features

Result<int> get_feature(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::Command command =
      nvme::get_feature_command(static_cast<nvme::Feature>(arguments.feature), nvme.nsid());
  command.cdw10 = command.cdw10 | static_cast<uint32_t>(arguments.select) << 8;
  uint32_t value = 0;
  BASALT_TRY(nvme.controller().run_admin(command, {}, {}, {}, &value));
  if (arguments.json) {
    print({{"feature", arguments.feature}, {"value", value}});
  } else if (arguments.select == nvme::FeatureSelect::capabilities) {
    std::printf("saveable %s, per namespace %s, changeable %s\n",
                (value & nvme::kFeatureSaveable) != 0 ? "yes" : "no",
                (value & nvme::kFeaturePerNamespace) != 0 ? "yes" : "no",
                (value & nvme::kFeatureChangeable) != 0 ? "yes" : "no");
  } else {
    std::printf("0x%08x\n", value);
  }
  return kDone;
}

Result<int> set_feature(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::Command command = nvme::set_feature_command(static_cast<nvme::Feature>(arguments.feature),
                                                    arguments.value, nvme.nsid());
  if (arguments.save) command.cdw10 = command.cdw10 | nvme::kSaveFeature;
  BASALT_TRY(nvme.controller().run_admin(command));
  return kDone;
}

// ---- Firmware

Result<int> firmware_log(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::FirmwareLog log{};
  BASALT_TRY(nvme.receive(nvme::log_page_command(nvme::LogPage::firmware_slots, sizeof log), log));
  print(firmware_fields(log), arguments.json);
  return kDone;
}

Result<int> firmware_download(const SettingArguments& arguments) {
  std::ifstream file(arguments.image, std::ios::binary);
  const std::vector<char> image{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) {
    return error(StatusCode::not_found, arguments.image + ": cannot be read");
  }
  if (image.empty() || image.size() % 4 != 0) {
    return error(StatusCode::invalid_argument,
                 arguments.image + ": an image is a multiple of 4 B long; this is " +
                     std::to_string(image.size()) + " B");
  }
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  // The controller's granularity (FWUG) divides 4 KiB, or is what is given.
  const uint64_t piece = arguments.piece != 0 ? arguments.piece : 4096;
  if (piece % 4 != 0 || piece > nvme::AdminQueue::kDataBytes) {
    return error(StatusCode::invalid_argument, "--xfer: a multiple of 4 B, and at most " +
                                                   size_text(nvme::AdminQueue::kDataBytes) +
                                                   ", is sent at a time");
  }
  const auto bytes = std::as_bytes(std::span(image));
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const auto some = bytes.subspan(at, std::min<size_t>(piece, bytes.size() - at));
    BASALT_TRY(nvme.controller().run_admin(
        nvme::firmware_download_command(static_cast<uint32_t>(at),
                                        static_cast<uint32_t>(some.size())),
        some));
  }
  std::printf("downloaded %s; fw-commit makes it a slot's\n", size_text(bytes.size()).c_str());
  return kDone;
}

Result<int> firmware_commit(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  BASALT_TRY(
      nvme.controller().run_admin(nvme::firmware_commit_command(arguments.slot, arguments.firmware),
                                  {}, {}, std::chrono::minutes(5)));
  return kDone;
}

// ---- Sanitize

Result<int> sanitize(const SettingArguments& arguments) {
  if (!arguments.force && arguments.sanitize != nvme::SanitizeAction::exit_failure_mode) {
    return error(StatusCode::invalid_argument,
                 "sanitize erases every namespace of the controller's subsystem; say --force");
  }
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  BASALT_TRY(nvme.controller().run_admin(nvme::sanitize_command(arguments.sanitize)));
  std::printf("begun; sanitize-log tells how far it is\n");
  return kDone;
}

Result<int> sanitize_log(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  nvme::SanitizeLog log{};
  BASALT_TRY(nvme.receive(nvme::log_page_command(nvme::LogPage::sanitize_status, sizeof log), log));
  print(sanitize_fields(log), arguments.json);
  return kDone;
}

// ---- Asymmetric access

Result<int> access_log(const SettingArguments& arguments) {
  BASALT_TRY_ASSIGN(const NvmeSession nvme, NvmeSession::open(arguments.place));
  if ((nvme.controller().identity().multipath & nvme::kReportsAccess) == 0) {
    return error(StatusCode::unsupported,
                 arguments.place + ": the controller does not report how namespaces are reached");
  }
  Json all = Json::array();
  for (const nvme::NamespaceInfo& space : nvme.controller().namespaces()) {
    const char* state = access_state_name(nvme.controller().access_state(space.nsid));
    if (arguments.json) {
      all.push_back({{"nsid", space.nsid}, {"state", state}});
    } else {
      std::printf("namespace %u: %s\n", space.nsid, state);
    }
  }
  if (arguments.json) print(all);
  return kDone;
}

}  // namespace

void add_nvme_setting_commands(CLI::App& group, Action& action) {
  const auto arguments = std::make_shared<SettingArguments>();
  const auto add = [&](const char* name, const char* help,
                       Result<int> (*run)(const SettingArguments&),
                       const char* place = kControllerHelp) {
    CLI::App* command = add_nvme_command(group, action, name, help, arguments, run);
    command->add_option("controller", arguments->place, place)->required();
    return command;
  };
  const auto takes_json = [&](CLI::App* command) {
    command->add_flag("--json", arguments->json, "for scripts");
  };
  const auto takes_feature = [&](CLI::App* command) {
    command->add_option("-f,--feature-id", arguments->feature, "the feature's number, as 6 or 0x06")
        ->required()
        ->check(CLI::Range(0u, 255u));
    return command;
  };
  constexpr const char* kMaybeNamespace = "a controller, or a namespace of it";
  CLI::App* getting =
      takes_feature(add("get-feature", "a feature's value", get_feature, kMaybeNamespace));
  getting->add_option("-s,--sel", arguments->select, "which value (default: current)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, nvme::FeatureSelect>{
          {"current", nvme::FeatureSelect::current},
          {"default", nvme::FeatureSelect::defaults},
          {"saved", nvme::FeatureSelect::saved},
          {"capabilities", nvme::FeatureSelect::capabilities}}));
  takes_json(getting);
  CLI::App* setting = takes_feature(
      add("set-feature", "change a feature, until the next reset", set_feature, kMaybeNamespace));
  setting->add_option("-v,--value", arguments->value, "command word 11")->required();
  setting->add_flag("--save", arguments->save, "beyond resets and loss of power, too");

  takes_json(add("fw-log", "firmware slots and their revisions", firmware_log));
  CLI::App* download = add("fw-download", "send a firmware image", firmware_download);
  download->add_option("-f,--fw", arguments->image, "the image's file")->required();
  add_size_option(*download, "-x,--xfer", arguments->piece, "bytes at a time (default: 4K)");
  CLI::App* commit = add("fw-commit", "make the image sent a slot's", firmware_commit);
  commit->add_option("-s,--slot", arguments->slot, "1 to 7 (default: the controller chooses)")
      ->check(CLI::Range(0u, 7u));
  commit
      ->add_option("-a,--action", arguments->firmware,
                   "store, activate (at the next reset, of what is stored already), "
                   "store-and-activate (the default), or now")
      ->transform(CLI::CheckedTransformer(std::map<std::string, nvme::FirmwareAction>{
          {"store", nvme::FirmwareAction::store},
          {"activate", nvme::FirmwareAction::activate_at_reset},
          {"store-and-activate", nvme::FirmwareAction::store_and_activate_at_reset},
          {"now", nvme::FirmwareAction::store_and_activate_now}}));

  CLI::App* erasing = add("sanitize", "make all data of all namespaces unrecoverable", sanitize);
  erasing->add_flag("--force", arguments->force, "really");
  erasing->add_option("-a,--sanact", arguments->sanitize, "how (default: block-erase)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, nvme::SanitizeAction>{
          {"exit-failure", nvme::SanitizeAction::exit_failure_mode},
          {"block-erase", nvme::SanitizeAction::block_erase},
          {"overwrite", nvme::SanitizeAction::overwrite},
          {"crypto-erase", nvme::SanitizeAction::crypto_erase}}));
  takes_json(add("sanitize-log", "how far sanitizing is, and how it went", sanitize_log));
  takes_json(add("ana-log", "how each namespace is reached through this controller", access_log));
}

}  // namespace basalt::tool
