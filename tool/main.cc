// basalt: the program for people who look after stores. Parses the command line, runs one command,
// turns its result into an exit status. The commands are in their own files, a group each.
#include <cstdio>

#include "tool/command.h"

int main(int argc, char** argv) {
  using namespace basalt::tool;
  CLI::App app(
      "Makes, fills, inspects, checks and measures Basalt stores.\n"
      "A device is named by a URI: file:/path?size=8G, uring:/dev/sdb, ram:1G, null:1T, "
      "pmem:/path, nvme:pci:0000:01:00.0/1.",
      "basalt");
  app.set_version_flag("--version", BASALT_VERSION);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);

  Action action;
  add_store_commands(app, action);
  add_scrub_command(app, action);
  add_file_commands(app, action);
  add_transfer_commands(app, action);
  add_bench_command(app, action);
  add_nvme_commands(app, action);
  add_run_command(app, action);
  add_rpc_command(app, action);
  add_top_command(app, action);
  add_completion_commands(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }

  const auto status = action();
  if (!status) {
    std::fprintf(stderr, "basalt: %s\n", status.error().to_string().c_str());
    return kFailed;
  }
  if (std::fflush(stdout) != 0) {
    std::perror("basalt: writing the output");
    return kFailed;
  }
  return *status;
}
