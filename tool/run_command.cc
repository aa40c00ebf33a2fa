// basalt run <device URI> -- db_bench …: starts a stock RocksDB tool with the plugin preloaded and
// --fs_uri=basalt://<device URI> added, and refuses to start one that would not use the plugin.
//
// The refusals matter: a tool whose --fs_uri nobody answers crashes, and one with an unanswered
// --env_uri quietly works on the kernel's file system instead. The last proof is the loader's own:
// it is asked which libraries it would load for this program with this LD_PRELOAD.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "base/try.h"
#include "bdev/uri.h"
#include "tool/command.h"
#include "tool/elf_program.h"

namespace basalt::tool {
namespace {

namespace fs = std::filesystem;

struct RunArguments {
  std::string uri;
  std::string cache;
  std::string plugin;
  std::string create;
  bool print = false;
  std::vector<std::string> command;
};

// RocksDB's own tools that hand --fs_uri to FileSystem::CreateFromString().
constexpr std::array kTools = {"db_bench", "ldb", "sst_dump", "db_stress"};

tl::unexpected<Status> refuse(std::string why) {
  return error(StatusCode::invalid_argument, std::move(why));
}

Result<std::string> find_program(const std::string& name) {
  const auto runnable = [](const fs::path& path) {
    std::error_code failed;
    return fs::is_regular_file(path, failed) && access(path.c_str(), X_OK) == 0;
  };
  if (name.find('/') != std::string::npos) {
    if (!runnable(name)) return refuse(name + " is not an executable file");
    return fs::canonical(name).string();
  }
  const char* variable = std::getenv("PATH");
  std::string_view path = variable ? variable : "/usr/local/bin:/usr/bin:/bin";
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    const fs::path candidate = fs::path(path.substr(0, end)) / name;
    if (runnable(candidate)) return fs::canonical(candidate).string();
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return refuse("there is no program \"" + name + "\" in PATH (Debian: apt install rocksdb-tools)");
}

Status check_tool_name(const std::string& program) {
  const std::string name = fs::path(program).filename().string();
  if (std::find(kTools.begin(), kTools.end(), name) != kTools.end()) return {};
  std::string known;
  for (const char* tool : kTools) known += (known.empty() ? "" : ", ") + std::string(tool);
  return Status(StatusCode::invalid_argument,
                name + " is not known to take --fs_uri (" + known + " are); it was not started");
}

// An option as gflags and ldb read it: one or two dashes, alone or with "=value".
bool is_option(std::string_view argument, std::string_view name) {
  if (!argument.starts_with('-')) return false;
  argument.remove_prefix(argument.starts_with("--") ? 2 : 1);
  return argument == name || (argument.starts_with(name) && argument[name.size()] == '=');
}

Status check_arguments(const std::vector<std::string>& command) {
  for (size_t i = 1; i < command.size(); ++i) {
    for (const char* option : {"fs_uri", "env_uri", "flagfile"}) {
      if (is_option(command[i], option)) {
        return Status(StatusCode::invalid_argument,
                      command[i] +
                          " could name another file system than the one asked for; "
                          "leave it out");
      }
    }
  }
  return {};
}

// Programs that run with more rights than their user ignore LD_PRELOAD.
Status check_privileges(const std::string& program) {
  struct stat info {};
  if (stat(program.c_str(), &info) != 0) {
    return Status(StatusCode::io_error, program + ": " + std::strerror(errno));
  }
  if ((info.st_mode & (S_ISUID | S_ISGID)) != 0) {
    return Status(StatusCode::invalid_argument,
                  program + " is setuid or setgid; the loader ignores LD_PRELOAD for it");
  }
  if (getxattr(program.c_str(), "security.capability", nullptr, 0) > 0) {
    return Status(StatusCode::invalid_argument,
                  program + " has file capabilities; the loader ignores LD_PRELOAD for it");
  }
  return {};
}

std::string rocksdb_soname(const ElfProgram& program) {
  for (const std::string& library : program.needed) {
    if (library.starts_with("librocksdb.so")) return library;
  }
  return "";
}

// The plugin registers itself in the librocksdb it links; the program must use the same one.
Status check_libraries(const std::string& program, const std::string& plugin) {
  BASALT_TRY_ASSIGN(const ElfProgram elf, read_elf(program));
  if (!elf.dynamic) {
    return Status(StatusCode::invalid_argument,
                  program + " is statically linked; the loader has no part in it, nor LD_PRELOAD");
  }
  BASALT_TRY_ASSIGN(const ElfProgram plugin_elf, read_elf(plugin));
  const std::string ours = rocksdb_soname(plugin_elf);
  const std::string theirs = rocksdb_soname(elf);
  if (theirs.empty()) {
    return Status(StatusCode::invalid_argument, program +
                                                    " has RocksDB built in instead of linking " +
                                                    ours + "; the plugin cannot register with it");
  }
  if (ours != theirs) {
    return Status(StatusCode::invalid_argument, program + " links " + theirs + ", the plugin " +
                                                    ours + "; build the plugin for that version");
  }
  return {};
}

Result<std::string> find_plugin(const std::string& given) {
  std::vector<fs::path> candidates;
  if (!given.empty()) {
    candidates.emplace_back(given);
  } else {
    std::error_code failed;
    const fs::path own = fs::read_symlink("/proc/self/exe", failed);
    candidates.push_back(own.parent_path().parent_path() / "rocksdb_env/librocksdb_basalt.so");
    candidates.push_back(own.parent_path().parent_path() / "lib/librocksdb_basalt.so");
    candidates.emplace_back(BASALT_PLUGIN_INSTALLED);
  }
  std::string tried;
  for (const fs::path& candidate : candidates) {
    std::error_code failed;
    if (fs::is_regular_file(candidate, failed)) return fs::canonical(candidate).string();
    tried += (tried.empty() ? "" : ", ") + candidate.string();
  }
  return refuse("librocksdb_basalt.so was not found (looked for " + tried + "); give --plugin");
}

std::string preload_value(const std::string& plugin) {
  const char* before = std::getenv("LD_PRELOAD");
  return before && *before ? plugin + ":" + before : plugin;
}

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

// Asks the loader what it would load, without running the program.
Result<std::string> trace_loader(const std::string& program, const std::string& preload) {
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return error(StatusCode::io_error, std::string("pipe: ") + std::strerror(errno));
  }
  std::vector<std::string> variables = {"LD_TRACE_LOADED_OBJECTS=1", "LD_WARN=1", "LD_BIND_NOW=1",
                                        "LD_PRELOAD=" + preload};
  if (const char* path = std::getenv("LD_LIBRARY_PATH")) {
    variables.push_back(std::string("LD_LIBRARY_PATH=") + path);
  }
  std::vector<char*> environment;
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::array<char*, 2> arguments = {const_cast<char*>(program.c_str()), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDERR_FILENO);
  pid_t child = 0;
  const int failed =
      posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_fds[1]);
  std::string text = failed == 0 ? read_all(pipe_fds[0]) : "";
  close(pipe_fds[0]);
  if (failed != 0) {
    return error(StatusCode::io_error, "cannot start " + program + ": " + std::strerror(failed));
  }
  waitpid(child, nullptr, 0);
  return text;
}

// The loader must list the plugin and find everything it needs.
Status check_loader(const std::string& program, const std::string& plugin) {
  BASALT_TRY_ASSIGN(const std::string text, trace_loader(program, preload_value(plugin)));
  for (const char* trouble : {"cannot be preloaded", "not found", "undefined symbol"}) {
    const size_t at = text.find(trouble);
    if (at == std::string::npos) continue;
    const size_t begin = text.rfind('\n', at) + 1;  // npos + 1 is 0
    const size_t first = text.find_first_not_of(" \t", begin);
    return Status(
        StatusCode::invalid_argument,
        "the loader cannot load the plugin: " + text.substr(first, text.find('\n', at) - first));
  }
  if (text.find(plugin + " (0x") == std::string::npos) {
    return Status(StatusCode::invalid_argument,
                  "the loader would not load " + plugin + " into " + program);
  }
  return {};
}

// The device URI with the plugin's own keys added.
Result<std::string> file_system_uri(const RunArguments& arguments) {
  BASALT_TRY_ASSIGN(Uri uri, parse_uri(arguments.uri));
  if (!arguments.create.empty()) uri.set("create", arguments.create);
  if (!arguments.cache.empty()) uri.set("cache", arguments.cache);
  return "basalt://" + uri.to_string();
}

Result<std::vector<std::string>> prepare(const RunArguments& arguments, std::string& plugin) {
  BASALT_TRY_ASSIGN(const std::string program, find_program(arguments.command.front()));
  BASALT_TRY(check_tool_name(program));
  BASALT_TRY(check_arguments(arguments.command));
  BASALT_TRY(check_privileges(program));
  BASALT_TRY_ASSIGN(plugin, find_plugin(arguments.plugin));
  BASALT_TRY(check_libraries(program, plugin));
  BASALT_TRY(check_loader(program, plugin));

  BASALT_TRY_ASSIGN(const std::string uri, file_system_uri(arguments));
  std::vector<std::string> command = {program, "--fs_uri=" + uri};
  command.insert(command.end(), arguments.command.begin() + 1, arguments.command.end());
  return command;
}

Result<int> run(const RunArguments& arguments) {
  std::string plugin;
  auto command = prepare(arguments, plugin);
  if (!command) {
    std::fprintf(stderr, "basalt: run: %s\n", std::string(command.error().message()).c_str());
    return kRefused;
  }
  const std::string preload = preload_value(plugin);
  if (arguments.print) {
    std::printf("LD_PRELOAD=%s", preload.c_str());
    for (const std::string& word : *command) std::printf(" '%s'", word.c_str());
    std::printf("\n");
    return kDone;
  }
  setenv("LD_PRELOAD", preload.c_str(), 1);
  std::vector<char*> words;
  for (std::string& word : *command) words.push_back(word.data());
  words.push_back(nullptr);
  execv(words[0], words.data());
  std::fprintf(stderr, "basalt: run: cannot start %s: %s\n", words[0], std::strerror(errno));
  return kRefused;
}

}  // namespace

void add_run_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<RunArguments>();
  CLI::App* command = app.add_subcommand(
      "run", "run db_bench, ldb, sst_dump or db_stress on a store, through the RocksDB plugin");
  command->add_option("device", arguments->uri, "device URI")->required();
  command->add_option("--create", arguments->create,
                      "make a store of this size if there is none, for example 8G");
  command->add_option("--cache", arguments->cache, "size of the page cache, for example 256M");
  command->add_option("--plugin", arguments->plugin, "librocksdb_basalt.so to preload");
  command->add_flag("--print", arguments->print, "print the command line instead of running it");
  command->add_option("program", arguments->command, "after --: the tool and its arguments")
      ->required();
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace basalt::tool
