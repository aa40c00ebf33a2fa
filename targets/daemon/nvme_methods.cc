// Controllers that Basalt's own driver reaches, and a bdev for each of their namespaces.
#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/try.h"
#include "bdev/nvme/nvme_uri.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/uuid.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

constexpr const char* kNvme = "NVMe disk";
constexpr const char* kAttach = "bdev_nvme_attach_controller";

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// As SPDK spells it; empty: there is no such transport here.
std::string transport_called(const std::string& text) {
  for (const char* known : {"TCP", "PCIe", "VFIOUSER"}) {
    if (lower(text) == lower(known)) return known;
  }
  return "";
}

// The address of a target as a URI has it: "10.0.0.1:4420", "[::1]:4420".
Result<std::string> tcp_address(Params& params, const std::string& address) {
  const std::string port = params.text("trsvcid", "4420");
  const std::string family = lower(params.text("adrfam", ""));
  const bool is_ipv6 = address.find(':') != std::string::npos;
  if (!family.empty() && family != (is_ipv6 ? "ipv6" : "ipv4")) {
    return error(StatusCode::invalid_argument,
                 "adrfam " + family + ": " + address + " is no such address");
  }
  return (is_ipv6 ? "[" + address + "]" : address) + ":" + port;
}

Json describe(const NvmeAttachment& attachment) {
  Json trid = {{"trtype", attachment.trtype}};
  for (const char* name : {"adrfam", "traddr", "trsvcid", "subnqn"}) {
    if (attachment.params.contains(name)) trid[name] = attachment.params[name];
  }
  const nvme::Controller& controller = attachment.lease->controller();
  const char* state = controller.gone() != StatusCode::ok ? "failed"
                      : controller.is_up()                ? "enabled"
                                                          : "resetting";
  Json one = {{"state", state},
              {"trid", trid},
              {"cntlid", uint16_t{controller.identity().controller_id}},
              {"num_resets", controller.reset_count()}};
  if (attachment.params.contains("hostnqn")) one["host"] = {{"nqn", attachment.params["hostnqn"]}};
  return {{"name", attachment.name}, {"ctrlrs", Json::array({one})}};
}

}  // namespace

void Daemon::add_nvme_methods() {
  dispatcher_.add(kAttach, [this](Params& params) -> Result<Json> {
    NvmeAttachment attachment;
    attachment.name = params.text("name");
    const std::string type = params.text("trtype"), address = params.text("traddr");
    attachment.trtype = transport_called(type);
    if (attachment.trtype.empty() && !type.empty()) {
      return error(StatusCode::unsupported,
                   "trtype " + type + ": there are TCP, PCIe and VFIOUSER");
    }
    attachment.uri.scheme = "nvme";
    // A name has one controller here: devices over several paths are bdev_basalt_create's, with multipath= in the URI.
    params.only("multipath", "disable");
    if (attachment.trtype == "TCP") {
      const auto where = tcp_address(params, address);
      if (!where) return tl::unexpected(where.error());
      attachment.uri.argument = "tcp:" + *where + "/" + params.text("subnqn");
      if (const std::string host = params.text("hostnqn", ""); !host.empty()) {
        attachment.uri.set("hostnqn", host);
      }
      if (params.flag("hdgst", false)) attachment.uri.set("header_digest", "on");
      if (params.flag("ddgst", false)) attachment.uri.set("data_digest", "on");
      if (params.raw("ctrlr_loss_timeout_sec") != nullptr) {
        attachment.uri.set("reconnect",
                           std::to_string(params.number("ctrlr_loss_timeout_sec", 0, 86400)));
      }
      for (const auto& [parameter, option] :
           {std::pair("dhchap_key", "dhchap_secret_file"),
            std::pair("dhchap_ctrlr_key", "dhchap_ctrl_secret_file"),
            std::pair("psk", "tls_key_file")}) {
        const std::string key = params.text(parameter, "");
        if (key.empty()) continue;
        BASALT_TRY_ASSIGN(const std::string path, key_path(key));
        attachment.uri.set(option, path);
      }
    } else if (attachment.trtype == "PCIe") {
      attachment.uri.argument = "pci:" + address;
    } else if (attachment.trtype == "VFIOUSER") {
      // SPDK names the directory that its socket is in.
      std::error_code unknown;
      const bool is_directory = std::filesystem::is_directory(address, unknown);
      attachment.uri.argument = "vfio-user:" + address + (is_directory ? "/cntrl" : "");
    }
    BASALT_TRY(params.done());
    attachment.params = params.values();
    return attach_controller(std::move(attachment));
  });
  dispatcher_.add("bdev_nvme_detach_controller", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name");
    std::vector<std::pair<std::string, std::string>> path;  // that it must have
    for (const char* part : {"traddr", "adrfam", "trsvcid", "subnqn"}) {
      if (params.raw(part) != nullptr) path.emplace_back(part, params.text(part));
    }
    const std::string type = params.text("trtype", "");
    BASALT_TRY(params.done());
    const auto found = attachments_.find(name);
    if (found == attachments_.end()) {
      return error(StatusCode::not_found, "no controller " + name);
    }
    Params given(found->second.params);
    bool same = type.empty() || transport_called(type) == found->second.trtype;
    for (const auto& [part, value] : path) same = same && given.text(part, "") == value;
    if (!same) return error(StatusCode::not_found, name + " is not attached by that path");
    BASALT_TRY(detach_controller(name));
    return Json(true);
  });
  dispatcher_.add("bdev_nvme_get_controllers", [this](Params& params) -> Result<Json> {
    const std::string name = params.text("name", "");
    BASALT_TRY(params.done());
    if (!name.empty() && attachments_.count(name) == 0) {
      return error(StatusCode::not_found, "no controller " + name);
    }
    Json list = Json::array();
    for (const auto& [known, attachment] : attachments_) {
      if (name.empty() || name == known) list.push_back(describe(attachment));
    }
    return list;
  });
}

Result<Json> Daemon::attach_controller(NvmeAttachment attachment) {
  const std::string name = attachment.name;
  if (name.empty()) return error(StatusCode::invalid_argument, "a controller's name is not empty");
  if (attachments_.count(name) != 0) {
    return error(StatusCode::already_exists,
                 "there is a controller " + name +
                     " already, and each has one path; "
                     "bdev_basalt_create opens a device over several, with multipath= in its URI");
  }
  BASALT_TRY_ASSIGN(auto lease, lease_nvme_controller(*context_, attachment.uri));
  attachment.lease.emplace(std::move(lease));
  const NvmeAttachment& attached = attachments_.emplace(name, std::move(attachment)).first->second;
  Json names = Json::array();
  for (const nvme::NamespaceInfo& space : attached.lease->controller().namespaces()) {
    Bdev bdev;
    bdev.name = name + "n" + std::to_string(space.nsid);
    bdev.product = kNvme;
    bdev.method = kAttach;
    bdev.controller = name;
    if (space.uuid != decltype(space.uuid){}) bdev.uuid = format_uuid(space.uuid);
    const std::string bdev_name = bdev.name;
    const Status added = bdevs_.add(std::move(bdev), attached.device_uri(space.nsid));
    if (added.ok()) {
      names.push_back(bdev_name);
    } else if (added.code() == StatusCode::unsupported) {
      context_->log().log(LogLevel::warning, "daemon",
                          bdev_name + " is left out: " + added.to_string());
    } else {
      BASALT_TRY(detach_controller(name));
      return error(added.with_context(bdev_name));
    }
  }
  return names;
}

Status Daemon::detach_controller(const std::string& name) {
  const auto& all = bdevs_.all();
  const auto its = std::count_if(all.begin(), all.end(),
                                 [&](const auto& bdev) { return bdev->controller == name; });
  const SharedControllers::Lease& lease = *attachments_.at(name).lease;
  // What hosts have outstanding does not wait for a target that is lost, unless others still want it.
  const bool alone = lease.is_alone_with(static_cast<size_t>(its));
  if (alone) lease.controller().set_reconnecting(false);
  while (const Bdev* bdev = bdevs_.first_of(name)) {
    if (const Status deleted = delete_bdev(std::string(bdev->name)); !deleted.ok()) {
      if (alone) lease.controller().set_reconnecting(true);
      return deleted;
    }
  }
  attachments_.erase(name);
  return {};
}

}  // namespace basalt
