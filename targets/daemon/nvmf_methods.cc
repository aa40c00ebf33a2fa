// The NVMe over Fabrics target: transport, subsystems, namespaces, hosts, listeners.
#include <algorithm>

#include "base/try.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/nvmf_params.h"
#include "targets/daemon/uuid.h"
#include "targets/nvmf/queue.h"
#include "wire/nvme/fabrics.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

bool is_zero(std::span<const uint8_t> id) {
  return std::all_of(id.begin(), id.end(), [](uint8_t byte) { return byte == 0; });
}

struct AccessName {
  const char* name;
  nvme::AccessState state;
};
constexpr AccessName kAccessNames[] = {
    {"optimized", nvme::AccessState::optimized},
    {"non_optimized", nvme::AccessState::non_optimized},
    {"inaccessible", nvme::AccessState::inaccessible},
    {"persistent_loss", nvme::AccessState::persistent_loss},
    {"change", nvme::AccessState::change},
};

Result<nvme::AccessState> access_called(const std::string& name) {
  for (const AccessName& known : kAccessNames) {
    if (name == known.name) return known.state;
  }
  return error(StatusCode::invalid_argument,
               "ana_state " + name + ": expected optimized, non_optimized or inaccessible");
}

std::string name_of_access(nvme::AccessState state) {
  for (const AccessName& known : kAccessNames) {
    if (state == known.state) return known.name;
  }
  return "unknown";
}

// An address, or what a program has called a connection of its own.
Json describe_text(const std::string& text) {
  const auto address = nvmf::ListenAddress::parse(text);
  return address ? describe_address(*address) : Json(text);
}

Json describe_ids(const nvmf::NamespaceIds& ids) {
  Json json = Json::object();
  if (!is_zero(ids.nguid)) json["nguid"] = format_hex(ids.nguid);
  if (!is_zero(ids.eui64)) json["eui64"] = format_hex(ids.eui64);
  if (!is_zero(ids.uuid)) json["uuid"] = format_uuid(ids.uuid);
  return json;
}

}  // namespace

void Daemon::add_nvmf_methods() {
  const auto subsystem_called =
      [this](const std::string& nqn) -> Result<std::shared_ptr<nvmf::Subsystem>> {
    auto found = target_->find_subsystem(nqn);
    if (found == nullptr) return error(StatusCode::not_found, "no subsystem " + nqn);
    return found;
  };

  dispatcher_.add("nvmf_create_transport", [this](Params& params) -> Result<Json> {
    const std::string type = params.text("trtype");
    nvmf::TargetOptions options = target_->options();
    options.max_io_queues = static_cast<uint16_t>(
        params.number_or("max_io_qpairs_per_ctrlr", options.max_io_queues, 1, 1024));
    options.io_capsule_data = static_cast<uint32_t>(
        params.number_or("in_capsule_data_size", options.io_capsule_data, 0, 8192));
    options.buffer_bytes_per_reactor =
        params.number_or("num_shared_buffers", options.buffer_bytes_per_reactor / 131072, 1,
                         1 << 20) *
        131072;
    params.only("max_queue_depth", nvmf::Controller::kMaxQueueEntries);
    params.only("max_io_size", 131072);
    params.only("io_unit_size", 131072);
    params.only("max_aq_depth", nvmf::Controller::kMaxQueueEntries);
    params.only("c2h_success", true);
    for (const char* name :
         {"zcopy", "no_srq", "dif_insert_or_strip", "no_wr_batching", "disable_mappable_bar0",
          "disable_adaptive_irq", "disable_shadow_doorbells", "disable_command_passthru"}) {
      params.only(name, false);
    }
    no_target_name(params);
    BASALT_TRY(params.done());
    if (!is_tcp(type)) {
      return error(StatusCode::unsupported, "trtype " + type + ": there is TCP");
    }
    if (!transport_.is_null()) {
      return error(StatusCode::already_exists, "the TCP transport was created already");
    }
    BASALT_TRY(target_->configure(options));
    transport_ = params.values();
    return Json(true);
  });
  dispatcher_.add("nvmf_get_transports", [this](Params& params) -> Result<Json> {
    const std::string type = params.text("trtype", "TCP");
    no_target_name(params);
    BASALT_TRY(params.done());
    Json list = Json::array();
    if (transport_.is_null() || !is_tcp(type)) return list;
    const nvmf::TargetOptions& options = target_->options();
    list.push_back({{"trtype", "TCP"},
                    {"max_queue_depth", nvmf::Controller::kMaxQueueEntries},
                    {"max_io_qpairs_per_ctrlr", options.max_io_queues},
                    {"in_capsule_data_size", options.io_capsule_data},
                    {"max_io_size", nvmf::Queue::max_data()},
                    {"io_unit_size", nvmf::Queue::max_data()},
                    {"max_aq_depth", nvmf::Controller::kMaxQueueEntries},
                    {"num_shared_buffers", options.buffer_bytes_per_reactor / 131072},
                    {"c2h_success", true}});
    return list;
  });

  dispatcher_.add("nvmf_create_subsystem", [this](Params& params) -> Result<Json> {
    nvmf::SubsystemOptions options;
    options.nqn = params.text("nqn");
    options.serial = params.text("serial_number", options.serial);
    options.model = params.text("model_number", options.model);
    options.allow_any_host = params.flag("allow_any_host", false);
    options.max_namespaces =
        static_cast<uint32_t>(params.number_or("max_namespaces", options.max_namespaces, 0, 1024));
    if (options.max_namespaces == 0) options.max_namespaces = 32;  // "as the target likes"
    options.min_controller_id =
        static_cast<uint16_t>(params.number_or("min_cntlid", options.min_controller_id, 1, 0xffef));
    options.max_controller_id =
        static_cast<uint16_t>(params.number_or("max_cntlid", options.max_controller_id, 1, 0xffef));
    options.reports_access = params.flag("ana_reporting", false);
    params.only("passthrough", false);
    params.only("enable_nssr", false);
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(target_->create_subsystem(options));
    notifications_.add("nvmf_subsystem_create", options.nqn);
    return Json(true);
  });
  dispatcher_.add("nvmf_delete_subsystem", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(target_->delete_subsystem(nqn));
    notifications_.add("nvmf_subsystem_delete", nqn);
    std::erase_if(host_keys_, [&](const auto& known) { return known.first.first == nqn; });
    return Json(true);
  });
  dispatcher_.add("nvmf_get_subsystems", [this, subsystem_called](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn", "");
    no_target_name(params);
    BASALT_TRY(params.done());
    std::vector<std::shared_ptr<nvmf::Subsystem>> wanted = target_->subsystems();
    if (!nqn.empty()) {
      BASALT_TRY_ASSIGN(auto one, subsystem_called(nqn));
      wanted = {one};
    }
    Json list = Json::array();
    for (const auto& subsystem : wanted) {
      Json addresses = Json::array(), hosts = Json::array(), spaces = Json::array();
      for (const auto& listening : target_->listeners_of(*subsystem)) {
        addresses.push_back(describe_address(listening.address));
      }
      for (const std::string& host : subsystem->hosts()) hosts.push_back({{"nqn", host}});
      Json json = {{"nqn", subsystem->nqn()},
                   {"subtype", subsystem->is_discovery() ? "Discovery" : "NVMe"},
                   {"listen_addresses", addresses},
                   {"allow_any_host", subsystem->any_host_allowed()},
                   {"hosts", hosts}};
      if (!subsystem->is_discovery()) {
        const nvmf::SubsystemOptions& options = subsystem->options();
        const auto table = subsystem->namespaces();
        for (const auto& space : *table) {
          if (space == nullptr) continue;
          const std::string name = name_of(*space->device);
          Json one = {{"nsid", space->nsid}, {"bdev_name", name}, {"name", name}};
          one.update(describe_ids(space->ids));
          if (const auto seen_by = subsystem->hosts_that_see(space->nsid)) {
            one["no_auto_visible"] = true;
            one["hosts"] = *seen_by;
          }
          spaces.push_back(one);
        }
        json.update({{"serial_number", options.serial},
                     {"model_number", options.model},
                     {"max_namespaces", options.max_namespaces},
                     {"min_cntlid", options.min_controller_id},
                     {"max_cntlid", options.max_controller_id},
                     {"namespaces", spaces}});
      }
      list.push_back(json);
    }
    return list;
  });

  dispatcher_.add("nvmf_subsystem_add_ns", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    Params space = params.object("namespace");
    nvmf::NamespaceOptions options;
    const std::string name = space.text("bdev_name");
    options.nsid = static_cast<uint32_t>(space.number_or("nsid", 0, 0, 0xffff'fffe));
    const std::string nguid = space.text("nguid", ""), eui64 = space.text("eui64", "");
    std::string uuid = space.text("uuid", "");
    options.for_all = !space.flag("no_auto_visible", false);
    space.only("hide_metadata", false);
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(space.done());
    BASALT_TRY_ASSIGN(const Bdev* bdev, bdevs_.find(name));
    if (!nguid.empty()) BASALT_TRY(parse_hex(nguid, options.ids.nguid, "nguid"));
    if (!eui64.empty()) BASALT_TRY(parse_hex(eui64, options.ids.eui64, "eui64"));
    if (uuid.empty()) uuid = bdev->uuid;
    if (!uuid.empty()) {
      BASALT_TRY_ASSIGN(options.ids.uuid, parse_uuid(uuid));
    }
    BASALT_TRY_ASSIGN(const uint32_t nsid, target_->add_namespace(nqn, bdev->device, options));
    notifications_.add("nvmf_subsystem_add_ns", nqn + "/" + std::to_string(nsid));
    return Json(nsid);
  });
  dispatcher_.add("nvmf_subsystem_remove_ns", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    const auto nsid = static_cast<uint32_t>(params.number("nsid", 1, 0xffff'fffe));
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(remove_namespace(nqn, nsid));
    return Json(true);
  });

  dispatcher_.add("nvmf_subsystem_add_listener", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    const auto address = take_address(params.object("listen_address"));
    const bool secure = params.flag("secure_channel", false);
    const std::string access = params.text("ana_state", "optimized");
    no_target_name(params);
    BASALT_TRY(params.done());
    if (!address) return tl::unexpected(address.error());
    BASALT_TRY_ASSIGN(const nvme::AccessState state, access_called(access));
    if (transport_.is_null()) {
      return error(StatusCode::invalid_argument,
                   "there is no transport yet: nvmf_create_transport, trtype TCP, comes first");
    }
    const auto security = secure ? nvmf::Security::tls : nvmf::Security::none;
    BASALT_TRY_ASSIGN([[maybe_unused]] const auto listening,
                      target_->add_listener(nqn, *address, security, state));
    return Json(true);
  });
  dispatcher_.add("nvmf_subsystem_listener_set_ana_state", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    const auto address = take_address(params.object("listen_address"));
    const std::string access = params.text("ana_state");
    params.only("anagrpid", nvmf::Controller::kAccessGroup);
    no_target_name(params);
    BASALT_TRY(params.done());
    if (!address) return tl::unexpected(address.error());
    BASALT_TRY_ASSIGN(const nvme::AccessState state, access_called(access));
    BASALT_TRY(target_->set_access(nqn, *address, state));
    return Json(true);
  });
  dispatcher_.add("nvmf_subsystem_remove_listener", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    const auto address = take_address(params.object("listen_address"));
    no_target_name(params);
    BASALT_TRY(params.done());
    if (!address) return tl::unexpected(address.error());
    BASALT_TRY(target_->remove_listener(nqn, *address));
    return Json(true);
  });
  dispatcher_.add(
      "nvmf_subsystem_get_listeners", [this, subsystem_called](Params& params) -> Result<Json> {
        const std::string nqn = params.text("nqn");
        no_target_name(params);
        BASALT_TRY(params.done());
        BASALT_TRY_ASSIGN(const auto subsystem, subsystem_called(nqn));
        Json list = Json::array();
        for (const auto& [address, security] : target_->listeners_of(*subsystem)) {
          const std::string access = name_of_access(subsystem->access(address.to_string()));
          list.push_back(
              {{"address", describe_address(address)},
               {"secure_channel", security == nvmf::Security::tls},
               {"ana_states", Json::array({{{"ana_group", nvmf::Controller::kAccessGroup},
                                            {"ana_state", access}}})}});
        }
        return list;
      });

  dispatcher_.add("nvmf_subsystem_add_host", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn"), host = params.text("host");
    const std::string key = params.text("dhchap_key", "");
    const std::string controller_key = params.text("dhchap_ctrlr_key", "");
    const std::string psk = params.text("psk", "");
    no_target_name(params);
    BASALT_TRY(params.done());
    nvmf::HostKeys keys;
    std::optional<nvmf::HostSecrets>& secrets = keys.secrets;
    if (!key.empty()) {
      BASALT_TRY_ASSIGN(auto secret, read_key<nvme::auth::Secret>(key));
      secrets.emplace(nvmf::HostSecrets{std::move(secret), {}});
    }
    if (!psk.empty()) {
      BASALT_TRY_ASSIGN(keys.tls, read_key<nvme::auth::TlsKey>(psk));
    }
    if (!controller_key.empty()) {
      if (!secrets) {
        return error(StatusCode::invalid_argument,
                     "dhchap_ctrlr_key alone: the controller proves itself to hosts that do, which "
                     "takes a dhchap_key");
      }
      BASALT_TRY_ASSIGN(secrets->controller, read_key<nvme::auth::Secret>(controller_key));
    }
    const bool has_keys = secrets || keys.tls;
    BASALT_TRY(target_->add_host(nqn, host, std::move(keys)));
    if (has_keys) host_keys_[{nqn, host}] = params.values();
    return Json(true);
  });
  dispatcher_.add("nvmf_subsystem_remove_host", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn"), host = params.text("host");
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(target_->remove_host(nqn, host));
    host_keys_.erase({nqn, host});
    return Json(true);
  });
  dispatcher_.add("nvmf_subsystem_allow_any_host", [this](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    const bool allow = params.flag("allow_any_host");
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY(target_->allow_any_host(nqn, allow));
    return Json(true);
  });
  dispatcher_.add("nvmf_subsystem_get_controllers",
                  [subsystem_called](Params& params) -> Result<Json> {
                    const std::string nqn = params.text("nqn");
                    no_target_name(params);
                    BASALT_TRY(params.done());
                    BASALT_TRY_ASSIGN(const auto subsystem, subsystem_called(nqn));
                    Json list = Json::array();
                    for (const auto& controller : subsystem->controllers()) {
                      list.push_back({{"cntlid", controller->id()},
                                      {"hostnqn", controller->host().nqn},
                                      {"hostid", format_uuid(controller->host().id)},
                                      {"num_io_qpairs", controller->io_queue_count()}});
                    }
                    return list;
                  });
  dispatcher_.add("nvmf_subsystem_get_qpairs", [subsystem_called](Params& params) -> Result<Json> {
    const std::string nqn = params.text("nqn");
    no_target_name(params);
    BASALT_TRY(params.done());
    BASALT_TRY_ASSIGN(const auto subsystem, subsystem_called(nqn));
    Json list = Json::array();
    for (const auto& queue : subsystem->accounts().queues) {
      list.push_back({{"cntlid", queue->controller_id},
                      {"qid", queue->queue_id},
                      {"state", queue->admitted.load() ? "enabled" : "authenticating"},
                      {"hostnqn", queue->host},
                      {"listen_address", describe_text(queue->listener)},
                      {"peer_address", describe_text(queue->peer)},
                      {"poll_group", queue->reactor}});
    }
    return list;
  });
  dispatcher_.add("nvmf_get_stats", [this](Params& params) -> Result<Json> {
    no_target_name(params);
    BASALT_TRY(params.done());
    Json groups = Json::array();
    for (const auto& group : target_->groups()) {
      groups.push_back({{"name", group.reactor},
                        {"admin_qpairs", group.all_admin_queues},
                        {"io_qpairs", group.all_io_queues},
                        {"current_admin_qpairs", group.admin_queues},
                        {"current_io_qpairs", group.io_queues},
                        {"pending_bdev_io", group.outstanding},
                        {"completed_nvme_io", group.io_commands},
                        {"transports", Json::array({{{"trtype", "TCP"}}})}});
    }
    return Json{{"tick_rate", 1'000'000'000}, {"poll_groups", groups}};
  });
}

Status Daemon::remove_namespace(const std::string& nqn, uint32_t nsid) {
  BASALT_TRY(target_->remove_namespace(nqn, nsid));
  notifications_.add("nvmf_subsystem_remove_ns", nqn + "/" + std::to_string(nsid));
  return {};
}

Json Daemon::nvmf_config() const {
  Json calls = Json::array();
  const auto add = [&](const char* method, Json params) {
    calls.push_back({{"method", method}, {"params", std::move(params)}});
  };
  if (!transport_.is_null()) add("nvmf_create_transport", transport_);
  for (const auto& subsystem : target_->subsystems()) {
    const nvmf::SubsystemOptions& options = subsystem->options();
    const std::string& nqn = subsystem->nqn();
    if (subsystem->is_discovery()) {  // there from the start
      if (!subsystem->any_host_allowed()) {
        add("nvmf_subsystem_allow_any_host", {{"nqn", nqn}, {"allow_any_host", false}});
      }
    } else {
      add("nvmf_create_subsystem", {{"nqn", nqn},
                                    {"serial_number", options.serial},
                                    {"model_number", options.model},
                                    {"allow_any_host", subsystem->any_host_allowed()},
                                    {"ana_reporting", options.reports_access},
                                    {"max_namespaces", options.max_namespaces},
                                    {"min_cntlid", options.min_controller_id},
                                    {"max_cntlid", options.max_controller_id}});
    }
    for (const std::string& host : subsystem->hosts()) {
      const auto with_keys = host_keys_.find({nqn, host});
      add("nvmf_subsystem_add_host",
          with_keys != host_keys_.end() ? with_keys->second : Json{{"nqn", nqn}, {"host", host}});
    }
    const auto table = subsystem->namespaces();
    for (const auto& space : *table) {
      if (space == nullptr) continue;
      Json json = {{"nsid", space->nsid}, {"bdev_name", name_of(*space->device)}};
      json.update(describe_ids(space->ids));
      const auto seen_by = subsystem->hosts_that_see(space->nsid);
      if (seen_by) json["no_auto_visible"] = true;
      add("nvmf_subsystem_add_ns", {{"nqn", nqn}, {"namespace", json}});
      if (!seen_by) continue;
      for (const std::string& host : *seen_by) {
        add("nvmf_ns_add_host", {{"nqn", nqn}, {"nsid", space->nsid}, {"host", host}});
      }
    }
    for (const auto& [address, security] : target_->listeners_of(*subsystem)) {
      // Discovery is reached through all there are.
      if (!subsystem->listens_on(address.to_string())) continue;
      Json params = {{"nqn", nqn}, {"listen_address", describe_address(address)}};
      const nvme::AccessState access = subsystem->access(address.to_string());
      if (access != nvme::AccessState::optimized) params["ana_state"] = name_of_access(access);
      if (security == nvmf::Security::tls) params["secure_channel"] = true;
      add("nvmf_subsystem_add_listener", params);
    }
  }
  for (const nvmf::Referral& referral : target_->referrals()) {
    add("nvmf_discovery_add_referral", describe_referral(referral));
  }
  return calls;
}

}  // namespace basalt
