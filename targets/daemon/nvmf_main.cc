// basalt-nvmf: exports devices over NVMe/TCP, as its command line says, until it is told to end.
#include <basalt/context.h>
#include <basalt/devices.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/try.h"
#include "bdev/nvme/nvme_uri.h"
#include "reactor/reactor.h"
#include "targets/daemon/key_file.h"
#include "targets/daemon/log_options.h"
#include "targets/daemon/service.h"
#include "targets/nvmf/target.h"

namespace basalt {
namespace {

struct Arguments {
  std::vector<std::string> listen{"127.0.0.1:4420"};
  std::string nqn = "nqn.2014-08.org.nvmexpress:basalt";
  std::string serial = "1";
  std::vector<std::string> hosts;
  std::string secret_file, controller_secret_file, tls_key_file;
  std::vector<int> cores;
  std::string user;
  LogArguments log;
  std::vector<std::string> devices;
};

// What the hosts have to know; nothing: they are let in by their names.
Result<nvmf::HostKeys> read_keys(const Arguments& arguments) {
  nvmf::HostKeys keys;
  const bool any = !arguments.secret_file.empty() || !arguments.controller_secret_file.empty() ||
                   !arguments.tls_key_file.empty();
  if (any && arguments.hosts.empty()) {
    return error(StatusCode::invalid_argument,
                 "secrets and keys are those of the hosts that --host names");
  }
  if (!arguments.tls_key_file.empty()) {
    BASALT_TRY_ASSIGN(keys.tls, read_key_file_as<nvme::auth::TlsKey>(arguments.tls_key_file));
  }
  if (arguments.secret_file.empty()) {
    if (arguments.controller_secret_file.empty()) return keys;
    return error(
        StatusCode::invalid_argument,
        "--dhchap-ctrl-secret-file proves the target to hosts that prove themselves, which "
        "takes --dhchap-secret-file");
  }
  BASALT_TRY_ASSIGN(auto host, read_key_file_as<nvme::auth::Secret>(arguments.secret_file));
  keys.secrets = nvmf::HostSecrets{std::move(host), {}};
  if (!arguments.controller_secret_file.empty()) {
    BASALT_TRY_ASSIGN(keys.secrets->controller,
                      read_key_file_as<nvme::auth::Secret>(arguments.controller_secret_file));
  }
  return keys;
}

Status serve(const Arguments& arguments) {
  const TerminationSignals signals;
  BASALT_TRY_ASSIGN(const auto service_log, ServiceLog::create(arguments.log.log));
  LogFilter log(*service_log, arguments.log.level);
  ContextOptions options;
  options.log = &log;
  BASALT_TRY_ASSIGN(const auto context, Context::create(options));
  register_standard_schemes(*context);
  std::vector<std::unique_ptr<Reactor>> reactors;
  std::vector<Reactor*> all;
  for (const int core : arguments.cores.empty() ? std::vector<int>{-1} : arguments.cores) {
    const std::string name = "reactor-" + std::to_string(reactors.size());
    BASALT_TRY_ASSIGN(auto reactor,
                      Reactor::create(context->clock(), {.name = name, .core = core}));
    reactors.push_back(std::move(reactor));
    all.push_back(reactors.back().get());
  }
  nvmf::Target target(*context, all, {});
  BASALT_TRY(target.create_subsystem({.nqn = arguments.nqn,
                                      .serial = arguments.serial,
                                      .allow_any_host = arguments.hosts.empty()}));
  BASALT_TRY_ASSIGN(const auto keys, read_keys(arguments));
  for (const std::string& host : arguments.hosts) {
    BASALT_TRY(target.add_host(arguments.nqn, host, keys));
  }
  const auto security = keys.tls ? nvmf::Security::tls : nvmf::Security::none;
  for (const std::string& uri : arguments.devices) {
    BASALT_TRY_ASSIGN(std::shared_ptr<Device> device, open_device(*context, uri));
    const DeviceInfo info = device->info();
    BASALT_TRY_ASSIGN(const uint32_t nsid, target.add_namespace(arguments.nqn, std::move(device)));
    std::printf("namespace %u: %s, %llu blocks of %u B\n", nsid, info.uri.c_str(),
                static_cast<unsigned long long>(info.block_count.value), info.block_size);
  }
  for (const std::string& text : arguments.listen) {
    auto wanted = nvmf::ListenAddress::parse(text);
    if (!wanted) return wanted.error().with_context("--listen");
    BASALT_TRY_ASSIGN(const nvmf::ListenAddress address,
                      target.add_listener(arguments.nqn, *wanted, security));
    std::printf("listening on %s as %s%s\n", address.to_string().c_str(), arguments.nqn.c_str(),
                keys.tls ? ", through TLS" : "");
  }
  std::fflush(stdout);
  if (!arguments.user.empty()) BASALT_TRY(become_user(arguments.user));
  notify_service_manager("READY=1");
  signals.wait();
  notify_service_manager("STOPPING=1");
  // What hosts have outstanding may be waiting for a target that is lost.
  stop_reconnecting_nvme(*context);
  return {};
}

}  // namespace
}  // namespace basalt

int main(int argc, char** argv) {
  basalt::Arguments arguments;
  CLI::App app(
      "Exports devices over NVMe/TCP until it gets SIGTERM.\n"
      "  basalt-nvmf --listen 10.0.0.1:4420 --nqn nqn.2024-01.com.example:disk "
      "file:/srv/disk?size=64G\n"
      "and on another machine\n"
      "  nvme connect -t tcp -a 10.0.0.1 -s 4420 -n nqn.2024-01.com.example:disk",
      "basalt-nvmf");
  app.set_version_flag("--version", BASALT_VERSION);
  app.add_option("device", arguments.devices,
                 "URIs of the devices; their order numbers the namespaces")
      ->required();
  app.add_option("--listen", arguments.listen,
                 "ADDRESS:PORT to listen on; port 0: any that is free")
      ->capture_default_str();
  app.add_option("--nqn", arguments.nqn, "the subsystem's name")->capture_default_str();
  app.add_option("--serial", arguments.serial, "its serial number")->capture_default_str();
  app.add_option("--host", arguments.hosts, "names of the hosts let in; none given: all");
  app.add_option(
      "--dhchap-secret-file", arguments.secret_file,
      "a file with the secret these hosts must know (DHHC-1:…, as nvme gen-dhchap-key makes it)");
  app.add_option(
      "--dhchap-ctrl-secret-file", arguments.controller_secret_file,
      "a file with the secret by which this target proves itself to hosts that ask for it");
  app.add_option(
      "--tls-key-file", arguments.tls_key_file,
      "a file with the TLS key of these hosts (NVMeTLSkey-1:…, as nvme gen-tls-key makes "
      "it); it listens through TLS only");
  app.add_option("--core", arguments.cores,
                 "cores to run on, one thread each; none given: one thread, anywhere");
  app.add_option(
      "--user", arguments.user,
      "who to be once everything given here is open; what is opened later he must be allowed to");
  basalt::add_log_options(app, arguments.log);
  CLI11_PARSE(app, argc, argv);
  const basalt::Status status = basalt::serve(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "basalt-nvmf: %s\n", status.to_string().c_str());
  return 1;
}
