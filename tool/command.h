// What the command groups share: how a command line becomes an action, and what exit statuses mean.
//
// Each group's add_…_commands() declares its subcommands; parsing the command line stores the
// chosen one's Action, which main() then runs. An Action returns the exit status, or a Status that
// main() prints as "basalt: <sentence>" with exit status kFailed.
#pragma once

#include <basalt/status.h>

#include <CLI/CLI.hpp>
#include <functional>

namespace basalt::tool {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;      // the operation failed; check: the store has problems
inline constexpr int kUsage = 2;       // the command line makes no sense
inline constexpr int kCannotRead = 2;  // check: the store cannot be read at all
inline constexpr int kRefused = 125;   // run: the program was not started

using Action = std::function<Result<int>()>;

void add_store_commands(CLI::App& app, Action& action);       // mkfs, info, df, check, dump
void add_scrub_command(CLI::App& app, Action& action);        // scrub
void add_file_commands(CLI::App& app, Action& action);        // ls, mv, rm, mkdir
void add_transfer_commands(CLI::App& app, Action& action);    // cat, put, get
void add_bench_command(CLI::App& app, Action& action);        // bench
void add_nvme_commands(CLI::App& app, Action& action);        // nvme list, bind, identify, …
void add_run_command(CLI::App& app, Action& action);          // run
void add_rpc_command(CLI::App& app, Action& action);          // rpc
void add_completion_commands(CLI::App& app, Action& action);  // completion, complete
void add_top_command(CLI::App& app, Action& action);          // top

}  // namespace basalt::tool
