// See daemon.h. The methods are in the files named …_methods.cc.
#include "targets/daemon/daemon.h"

#include <basalt/devices.h>

#include <utility>

#include "base/try.h"
#include "bdev/nvme/nvme_uri.h"
#include "targets/daemon/service_log.h"

namespace basalt {

using rpc::Json;

namespace {

constexpr std::string_view kConfigKey = "config";

// Its answer is good whether or not what others have changed could be kept. Every other call fails then, also one that changes
// nothing now: made once more, it must not say that what it did the first time is kept.
bool only_asks(const std::string& method) {
  return method == "save_config" || method.find("_get_") != std::string::npos;
}

// Beside the configuration, in the same store.
class KeptReservations final : public nvmf::ReservationStore {
 public:
  explicit KeptReservations(StateStore& state) : state_(state) {}
  Result<std::string> load(std::string_view key) override { return state_.get(full(key)); }
  Status save(std::string_view key, std::string_view value) override {
    return state_.put(full(key), value);
  }
  Status erase(std::string_view key) override { return state_.erase(full(key)); }

 private:
  static std::string full(std::string_view key) { return "reservations " + std::string(key); }
  StateStore& state_;
};

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::create(const DaemonOptions& options) {
  std::unique_ptr<LogSink> own_log;
  if (options.log == nullptr) {
    BASALT_TRY_ASSIGN(own_log, ServiceLog::create({}));
  }
  auto log =
      std::make_unique<LogFilter>(own_log != nullptr ? *own_log : *options.log, options.log_level);
  ContextOptions context_options;
  context_options.log = log.get();
  BASALT_TRY_ASSIGN(auto context, Context::create(context_options));
  register_standard_schemes(*context);
  std::unique_ptr<Daemon> daemon(
      new Daemon(std::move(own_log), std::move(log), std::move(context)));
  nvmf::TargetOptions target_options;
  if (!options.state_directory.empty()) {
    BASALT_TRY_ASSIGN(daemon->state_,
                      StateStore::open(options.state_directory, daemon->log_.get()));
    daemon->kept_reservations_ = std::make_unique<KeptReservations>(*daemon->state_);
    target_options.reservations = daemon->kept_reservations_.get();
  }
  std::vector<Reactor*> all;
  for (const int core : options.cores.empty() ? std::vector<int>{-1} : options.cores) {
    ReactorOptions reactor_options;
    reactor_options.name = "reactor-" + std::to_string(all.size());
    reactor_options.core = core;
    BASALT_TRY_ASSIGN(auto reactor, Reactor::create(daemon->context_->clock(), reactor_options));
    daemon->reactors_.push_back(std::move(reactor));
    all.push_back(daemon->reactors_.back().get());
  }
  daemon->target_ = std::make_unique<nvmf::Target>(*daemon->context_, all, target_options);
  daemon->add_framework_methods();
  daemon->add_log_methods();
  daemon->add_keyring_methods();
  daemon->add_bdev_methods();
  daemon->add_layer_methods();
  daemon->add_nvme_methods();
  daemon->add_nvmf_methods();
  daemon->add_nvmf_visibility_methods();
  daemon->add_metrics_methods();
  return daemon;
}

Daemon::Daemon(std::unique_ptr<LogSink> own_log, std::unique_ptr<LogFilter> log,
               std::unique_ptr<Context> context)
    : own_log_(std::move(own_log)),
      log_(std::move(log)),
      context_(std::move(context)),
      bdevs_(*context_, notifications_) {}

Daemon::~Daemon() {
  // First: a call, or what a host has outstanding, may be waiting for a target that is lost.
  stop_reconnecting_nvme(*context_);
  server_.reset();
  metrics_server_.reset();
  target_.reset();
  // Layers before what they stand on.
  while (!bdevs_.all().empty()) {
    [[maybe_unused]] const Status removed = bdevs_.remove(bdevs_.all().back()->name);
  }
}

Status Daemon::configure(const Json& config) {
  const bool within = std::exchange(configuring_, true);
  Status made = make_calls(config);
  configuring_ = within;
  return made;
}

Status Daemon::make_calls(const Json& config) {
  const auto wrong = [](const std::string& what) {
    return Status(StatusCode::invalid_argument,
                  what +
                      "; a configuration is {\"subsystems\": [{\"subsystem\": NAME, \"config\": "
                      "[{\"method\": NAME, \"params\": {…}}, …]}, …]}");
  };
  if (!config.is_object() || !config.contains("subsystems") || !config["subsystems"].is_array()) {
    return wrong("no \"subsystems\"");
  }
  for (const Json& subsystem : config["subsystems"]) {
    if (!subsystem.is_object() || !subsystem.contains("config")) return wrong("no \"config\"");
    if (subsystem["config"].is_null()) continue;
    if (!subsystem["config"].is_array()) return wrong("\"config\" is not a list");
    for (const Json& call_made : subsystem["config"]) {
      if (!call_made.is_object() || !call_made.contains("method") ||
          !call_made["method"].is_string()) {
        return wrong("a call without a method's name");
      }
      const auto method = call_made["method"].get<std::string>();
      const Result<Json> result =
          call(method, call_made.contains("params") ? call_made["params"] : Json());
      if (!result) return result.error().with_context(method);
    }
  }
  return {};
}

Result<bool> Daemon::restore() {
  if (state_ == nullptr) return false;
  const Result<std::string> kept = state_->get(kConfigKey);
  if (!kept && kept.error().code() == StatusCode::not_found) return false;
  if (!kept) return error(kept.error());
  const Json config = Json::parse(*kept, nullptr, false);
  const std::string what = state_->name() + ": the configuration kept there";
  if (config.is_discarded()) return error(StatusCode::corruption, what + " is not JSON");
  bdevs_.set_may_create(false);
  const Status made = configure(config);
  bdevs_.set_may_create(true);
  if (!made.ok()) return error(made.with_context(what));
  kept_config_ = *kept;
  return true;
}

Status Daemon::keep() {
  if (state_ == nullptr) return {};
  BASALT_TRY(keep_config());
  dispatcher_.after_each([this](const std::string& method) -> Status {
    if (configuring_) return {};
    const Status kept = keep_config();
    if (kept.ok() || only_asks(method)) return {};
    const Status status = kept.with_context(
        method + " was done, but could not be kept: it is lost if basaltd ends now");
    context_->log().log(LogLevel::error, "daemon", status.to_string());
    return status;
  });
  return {};
}

// Whatever the call was: what it has changed shows in the configuration.
Status Daemon::keep_config() {
  std::string text = config().dump();
  if (text == kept_config_) return {};
  BASALT_TRY(state_->put(kConfigKey, text));
  kept_config_ = std::move(text);
  return {};
}

Json Daemon::config() const {
  return {{"subsystems", Json::array({{{"subsystem", "keyring"}, {"config", keyring_config()}},
                                      {{"subsystem", "bdev"}, {"config", bdev_config()}},
                                      {{"subsystem", "nvmf"}, {"config", nvmf_config()}}})}};
}

Status Daemon::serve(const std::string& socket_path) {
  BASALT_TRY_ASSIGN(server_, rpc::RpcServer::create(socket_path, dispatcher_, context_->log()));
  return {};
}

Result<std::string> Daemon::serve_metrics(const nvmf::ListenAddress& address) {
  if (metrics_server_ != nullptr) {
    return error(StatusCode::already_exists, "metrics are served on " + metrics_server_->url());
  }
  BASALT_TRY_ASSIGN(metrics_server_, MetricsServer::open(address, [this] { return metrics(); }));
  return metrics_server_->url();
}

std::string Daemon::name_of(const Device& device) const {
  for (const auto& bdev : bdevs_.all()) {
    if (bdev->device.get() == &device) return bdev->name;
  }
  return "";
}

}  // namespace basalt
