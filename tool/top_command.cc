// basalt top: what a target daemon is doing, again and again.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
#include "base/try.h"
#include "targets/rpc/client.h"
#include "tool/command.h"
#include "tool/top_report.h"

namespace basalt::tool {
namespace {

using rpc::Json;

struct TopArguments {
  std::string socket = "/var/tmp/basalt.sock";
  double interval_seconds = 1;
  bool once = false;
};

Result<Json> look(const TopArguments& arguments) {
  BASALT_TRY_ASSIGN(Json answer, rpc::call(arguments.socket, "basalt_get_metrics", Json()));
  if (answer.contains("result") && answer["result"].is_object()) return Json(answer["result"]);
  const Json told = answer.contains("error") ? answer["error"] : Json();
  const bool has_words =
      told.is_object() && told.contains("message") && told["message"].is_string();
  return error(StatusCode::unsupported,
               arguments.socket + ": " +
                   (has_words ? told["message"].get<std::string>()
                              : "an answer that is none; is it a basaltd of this version?"));
}

// A terminal shows as much of it as there is room for; everything else gets all of it.
void show(std::vector<std::string> lines) {
  winsize size{};
  if (::isatty(STDOUT_FILENO) == 1 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
      size.ws_row > 1 && size.ws_col > 0) {
    const size_t rows = size.ws_row - 1u;
    if (lines.size() > rows) {
      const size_t hidden = lines.size() - rows + 1;
      lines.resize(rows - 1);
      lines.push_back("... " + std::to_string(hidden) + " lines more");
    }
    for (std::string& line : lines) line.resize(std::min<size_t>(line.size(), size.ws_col));
    std::fputs("\033[H\033[J", stdout);  // to the upper left corner, and all after it cleared
  }
  for (const std::string& line : lines) std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

Result<int> top(const TopArguments& arguments) {
  const auto interval = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(arguments.interval_seconds));
  BASALT_TRY_ASSIGN(Json before, look(arguments));
  for (bool first = true;; first = false) {
    sleep_for(interval);
    BASALT_TRY_ASSIGN(Json after, look(arguments));
    if (!first && ::isatty(STDOUT_FILENO) != 1) std::printf("\n");
    show(top_report(before, after));
    if (arguments.once) return kDone;
    before = std::move(after);
  }
}

}  // namespace

void add_top_command(CLI::App& app, Action& action) {
  auto* const command = app.add_subcommand(
      "top",
      "shows what basaltd does: its devices, namespaces, hosts and reactors, with operations and "
      "bytes per second, latencies of reads and writes, and commands outstanding");
  auto arguments = std::make_shared<TopArguments>();
  command->add_option("-s,--socket,--rpc-socket", arguments->socket, "the daemon's socket")
      ->capture_default_str();
  command
      ->add_option("-i,--interval", arguments->interval_seconds,
                   "seconds from one look to the next")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  command->add_flag("--once", arguments->once, "one interval, then end");
  command->callback([&action, arguments] { action = [arguments] { return top(*arguments); }; });
}

}  // namespace basalt::tool
