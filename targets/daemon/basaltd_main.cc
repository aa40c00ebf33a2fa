// basaltd: the target daemon. What it exports is told over JSON-RPC, or by a file of such calls when it starts.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "base/try.h"
#include "targets/daemon/daemon.h"
#include "targets/daemon/log_options.h"
#include "targets/daemon/service.h"

namespace basalt {
namespace {

struct Arguments {
  std::string socket = "/var/tmp/basalt.sock";
  std::string config;
  bool replace_config = false;
  std::string state;
  std::string metrics;
  std::vector<int> cores;
  std::string user;
  LogArguments log;
};

Status serve(const Arguments& arguments) {
  const TerminationSignals signals;
  BASALT_TRY_ASSIGN(const auto log, ServiceLog::create(arguments.log.log));
  BASALT_TRY_ASSIGN(const auto daemon, Daemon::create({.cores = arguments.cores,
                                                       .log = log.get(),
                                                       .log_level = arguments.log.level,
                                                       .state_directory = arguments.state}));
  bool restored = false;
  if (!arguments.replace_config) {
    BASALT_TRY_ASSIGN(restored, daemon->restore());
  }
  if (restored && !arguments.config.empty()) {
    std::fprintf(stderr,
                 "basaltd: %s is not read: the configuration kept in %s is the later one "
                 "(--replace-config takes the file's instead)\n",
                 arguments.config.c_str(), arguments.state.c_str());
  } else if (!arguments.config.empty()) {
    std::ifstream file(arguments.config);
    if (!file) {
      return {StatusCode::not_found, arguments.config + ": cannot be read"};
    }
    const rpc::Json config = rpc::Json::parse(file, nullptr, false);
    if (config.is_discarded()) {
      return {StatusCode::invalid_argument, arguments.config + ": is not JSON"};
    }
    if (Status status = daemon->configure(config); !status.ok()) {
      return status.with_context(arguments.config);
    }
  }
  BASALT_TRY(daemon->keep());
  // Before calls come, which ask for it.
  if (!arguments.metrics.empty()) {
    BASALT_TRY_ASSIGN(const nvmf::ListenAddress address, parse_metrics_address(arguments.metrics));
    BASALT_TRY_ASSIGN(const std::string url, daemon->serve_metrics(address));
    std::printf("metrics for Prometheus on %s\n", url.c_str());
  }
  BASALT_TRY(daemon->serve(arguments.socket));
  std::printf("basaltd is ready; JSON-RPC on %s\n", arguments.socket.c_str());
  std::fflush(stdout);
  if (!arguments.user.empty()) BASALT_TRY(become_user(arguments.user));
  notify_service_manager("READY=1");
  signals.wait();
  notify_service_manager("STOPPING=1");
  return {};
}

}  // namespace
}  // namespace basalt

int main(int argc, char** argv) {
  basalt::Arguments arguments;
  CLI::App app(
      "Serves targets until it gets SIGTERM, configured by JSON-RPC with SPDK's methods.\n"
      "  basaltd --config /etc/basalt/config.json",
      "basaltd");
  app.set_version_flag("--version", BASALT_VERSION);
  app.add_option("-r,--rpc-socket", arguments.socket, "the unix socket for JSON-RPC, mode 0600")
      ->capture_default_str();
  auto* const config =
      app.add_option("-c,--config", arguments.config,
                     "a file as save_config writes it, to start with; not read where "
                     "--state has a configuration already");
  auto* const state = app.add_option(
      "--state", arguments.state,
      "a directory where the configuration, as calls change it, and hosts' reservations are kept "
      "through power loss; none given: neither is");
  app.add_flag(
         "--replace-config", arguments.replace_config,
         "what --config says takes the place of the configuration in --state; reservations stay")
      ->needs(config)
      ->needs(state);
  app.add_option("--metrics", arguments.metrics,
                 "PORT or ADDRESS:PORT to serve metrics for Prometheus on; of 127.0.0.1 unless an "
                 "address is given; not given: nowhere");
  app.add_option("--core", arguments.cores,
                 "cores to run on, one thread each; none given: one thread, anywhere");
  app.add_option(
      "--user", arguments.user,
      "who to be once everything given here is open; what is opened later he must be allowed to");
  basalt::add_log_options(app, arguments.log);
  CLI11_PARSE(app, argc, argv);
  const basalt::Status status = basalt::serve(arguments);
  if (status.ok()) return 0;
  std::fprintf(stderr, "basaltd: %s\n", status.to_string().c_str());
  return 1;
}
