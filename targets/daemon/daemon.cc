// See daemon.h. The methods are in the files named …_methods.cc.
#include "targets/daemon/daemon.h"

#include <basalt/devices.h>

#include "base/try.h"

namespace basalt {

using rpc::Json;

Result<std::unique_ptr<Daemon>> Daemon::create(const DaemonOptions& options) {
  ContextOptions context_options;
  context_options.log = options.log;
  BASALT_TRY_ASSIGN(auto context, Context::create(context_options));
  register_standard_schemes(*context);
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(context)));
  std::vector<Reactor*> all;
  for (const int core : options.cores.empty() ? std::vector<int>{-1} : options.cores) {
    ReactorOptions reactor_options;
    reactor_options.name = "reactor-" + std::to_string(all.size());
    reactor_options.core = core;
    BASALT_TRY_ASSIGN(auto reactor, Reactor::create(daemon->context_->clock(), reactor_options));
    daemon->reactors_.push_back(std::move(reactor));
    all.push_back(daemon->reactors_.back().get());
  }
  daemon->target_ = std::make_unique<nvmf::Target>(*daemon->context_, all, nvmf::TargetOptions{});
  daemon->add_framework_methods();
  daemon->add_keyring_methods();
  daemon->add_bdev_methods();
  daemon->add_nvmf_methods();
  daemon->add_nvmf_visibility_methods();
  return daemon;
}

Daemon::Daemon(std::unique_ptr<Context> context)
    : context_(std::move(context)), bdevs_(*context_) {}

Daemon::~Daemon() {
  server_.reset();
  target_.reset();
}

Status Daemon::configure(const Json& config) {
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

Status Daemon::serve(const std::string& socket_path) {
  BASALT_TRY_ASSIGN(server_, rpc::RpcServer::create(socket_path, dispatcher_, context_->log()));
  return {};
}

std::string Daemon::name_of(const Device& device) const {
  for (const auto& bdev : bdevs_.all()) {
    if (bdev->device.get() == &device) return bdev->name;
  }
  return "";
}

}  // namespace basalt
