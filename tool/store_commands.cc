// basalt mkfs, info, df, check, dump: commands about a store as a whole.
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/try.h"
#include "tool/command.h"
#include "tool/progress.h"
#include "tool/session.h"
#include "tool/text.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;

struct StoreArguments {
  std::string uri;
  FormatOptions format;
  uint64_t cluster_bytes = FormatOptions{}.cluster_bytes;
  bool json = false;
  bool repair = false;
};
using Arguments = std::shared_ptr<StoreArguments>;

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& help,
                      StoreArguments& arguments) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("device", arguments.uri, "device URI")->required();
  return command;
}

// Names of files may be any bytes; what is no UTF-8 is replaced.
void print(const Json& json) {
  const std::string text = json.dump(2, ' ', false, Json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

Result<int> mkfs(const StoreArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::open_device(arguments.uri, OpenMode::read_write));
  FormatOptions options = arguments.format;
  if (arguments.cluster_bytes > UINT32_MAX) {
    return error(StatusCode::invalid_argument, "--cluster is at most 1 MiB");
  }
  options.cluster_bytes = static_cast<uint32_t>(arguments.cluster_bytes);
  BASALT_TRY(FileSystem::format(session.context(), session.device(), options));
  const DeviceInfo& info = session.device().info();
  std::printf("made a store of %s on %s\n",
              size_text(info.block_count.value * info.block_size).c_str(), info.uri.c_str());
  return kDone;
}

Json space_json(const SpaceInfo& space) {
  return {{"capacity_bytes", space.capacity_bytes},
          {"free_bytes", space.free_bytes},
          {"metadata_capacity_bytes", space.metadata_capacity_bytes},
          {"metadata_free_bytes", space.metadata_free_bytes}};
}

Json device_json(const DeviceInfo& info) {
  return {{"uri", info.uri},
          {"block_size", info.block_size},
          {"block_count", info.block_count.value},
          {"size_bytes", info.block_count.value * info.block_size},
          {"read_only", info.read_only},
          {"volatile_write_cache", info.volatile_write_cache},
          {"persistent", info.persistent},
          {"atomic_write_blocks", info.atomic_write_blocks}};
}

void print_device(const DeviceInfo& info) {
  std::printf("device          %s\n", info.uri.c_str());
  std::printf("size            %s (%s blocks of %u B)\n",
              size_text(info.block_count.value * info.block_size).c_str(),
              grouped(info.block_count.value).c_str(), info.block_size);
  std::printf("write cache     %s\n", info.volatile_write_cache
                                          ? "volatile: syncs flush it or write through it"
                                          : "none, or protected from power loss");
  std::printf("atomic write    %s\n",
              size_text(uint64_t{info.atomic_write_blocks} * info.block_size).c_str());
  if (!info.persistent) std::printf("contents        are lost with this process\n");
}

Result<int> info(const StoreArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  const DeviceInfo& device = session.files().device_info();
  const SpaceInfo space = session.files().space();
  const FileSystemStats stats = session.files().stats();
  if (arguments.json) {
    print({{"device", device_json(device)},
           {"space", space_json(space)},
           {"data_checksums", session.files().has_data_checksums()},
           {"damaged_copies_used", stats.damaged_copies_used},
           {"recovery_notes", session.files().recovery_notes()}});
    return kDone;
  }
  print_device(device);
  std::printf("data            %s, %s free\n", size_text(space.capacity_bytes).c_str(),
              size_text(space.free_bytes).c_str());
  std::printf("metadata        %s, %s free\n", size_text(space.metadata_capacity_bytes).c_str(),
              size_text(space.metadata_free_bytes).c_str());
  std::printf("data checksums  %s\n", session.files().has_data_checksums() ? "yes" : "no");
  std::printf("opening it read %s in %s reads\n", size_text(stats.device_read_bytes).c_str(),
              grouped(stats.device_reads).c_str());
  return kDone;
}

Result<int> df(const StoreArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  const SpaceInfo space = session.files().space();
  if (arguments.json) {
    print(space_json(space));
    return kDone;
  }
  const auto row = [](const char* what, uint64_t capacity, uint64_t free) {
    const uint64_t used = capacity - free;
    std::printf(
        "%-9s %11s %11s %11s %4.0f %%\n", what, size_text(capacity).c_str(),
        size_text(used).c_str(), size_text(free).c_str(),
        capacity == 0 ? 0.0 : 100.0 * static_cast<double>(used) / static_cast<double>(capacity));
  };
  std::printf("%-9s %11s %11s %11s %6s\n", "", "size", "used", "free", "used");
  row("data", space.capacity_bytes, space.free_bytes);
  row("metadata", space.metadata_capacity_bytes, space.metadata_free_bytes);
  return kDone;
}

// FileSystem::check() takes a plain function; one check runs per process.
Progress* check_progress = nullptr;

Result<CheckReport> run_check(const StoreArguments& arguments) {
  const OpenMode mode = arguments.repair ? OpenMode::read_write : OpenMode::read_only;
  BASALT_TRY_ASSIGN(Session session, Session::open_device(arguments.uri, mode));
  Progress progress(arguments.repair ? "checking and repairing" : "checking");
  check_progress = &progress;
  const auto run = arguments.repair ? FileSystem::repair : FileSystem::check;
  auto report = run(session.context(), session.device(),
                    [](double fraction) { check_progress->show(fraction); });
  check_progress = nullptr;
  return report;
}

Json report_json(const CheckReport& report) {
  return {{"clean", report.clean()},
          {"repairs", report.repairs},
          {"problems", report.problems},
          {"notes", report.notes},
          {"blobs", report.blobs},
          {"files", report.files},
          {"directories", report.directories},
          {"metadata_pages", report.metadata_pages},
          {"log_blocks", report.log_blocks}};
}

Result<int> check(const StoreArguments& arguments) {
  const auto report = run_check(arguments);
  if (!report) {
    std::fprintf(stderr, "basalt: check: %s\n", report.error().to_string().c_str());
    if (arguments.json) print({{"clean", false}, {"error", report.error().to_string()}});
    return kCannotRead;
  }
  if (arguments.json) {
    print(report_json(*report));
    return report->clean() ? kDone : kFailed;
  }
  const auto print_each = [](const char* what, const std::vector<std::string>& sentences) {
    for (const std::string& sentence : sentences) std::printf("%s: %s\n", what, sentence.c_str());
  };
  print_each("repaired", report->repairs);
  print_each("problem", report->problems);
  print_each("note", report->notes);
  std::printf("%s: %s files, %s directories, %s blobs, %s metadata pages, %s log blocks\n",
              report->clean() ? "clean" : "NOT CLEAN", grouped(report->files).c_str(),
              grouped(report->directories).c_str(), grouped(report->blobs).c_str(),
              grouped(report->metadata_pages).c_str(), grouped(report->log_blocks).c_str());
  return report->clean() ? kDone : kFailed;
}

Result<int> dump(const StoreArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::open_device(arguments.uri, OpenMode::read_only));
  std::string text;
  const Status status = FileSystem::dump(session.context(), session.device(), text);
  // What could be read is worth seeing also when the rest could not.
  std::fwrite(text.data(), 1, text.size(), stdout);
  BASALT_TRY(status);
  return kDone;
}

void add_mkfs(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<StoreArguments>();
  CLI::App* command = add_command(app, "mkfs", "make an empty store on a device", *arguments);
  command->add_flag("--force", arguments->format.force,
                    "overwrite a device that holds something known");
  command->add_option("--label", arguments->format.label, "a name for people, at most 63 bytes");
  command->add_flag("--checksums", arguments->format.data_checksums,
                    "keep a checksum of every 4 KiB of table files, verified by every read");
  add_size_option(*command, "--cluster", arguments->cluster_bytes,
                  "allocation unit, 16K ... 1M (default 64K)");
  add_size_option(*command, "--journal", arguments->format.journal_bytes,
                  "size of the journal (default: by the device's size)");
  add_size_option(*command, "--metadata", arguments->format.metadata_bytes,
                  "space for metadata, per copy (default: by the device's size)");
  command->callback([arguments, &action] { action = [arguments] { return mkfs(*arguments); }; });
}

// `options` adds those of the one command.
void add_report(CLI::App& app, Action& action, const std::string& name, const std::string& help,
                Result<int> (*run)(const StoreArguments&),
                void (*options)(CLI::App& command, StoreArguments& arguments) = nullptr) {
  auto arguments = std::make_shared<StoreArguments>();
  CLI::App* command = add_command(app, name, help, *arguments);
  command->add_flag("--json", arguments->json, "for scripts");
  if (options != nullptr) options(*command, *arguments);
  command->callback(
      [arguments, run, &action] { action = [arguments, run] { return run(*arguments); }; });
}

void add_check_options(CLI::App& command, StoreArguments& arguments) {
  command.add_flag("--repair", arguments.repair,
                   "rewrite each damaged copy of metadata whose other copy is good; exit status 0: "
                   "clean, or all repaired, 1: problems remain, 2: cannot be read or written");
}

}  // namespace

void add_store_commands(CLI::App& app, Action& action) {
  add_mkfs(app, action);
  add_report(app, action, "info", "what a store's device is and how full it is", info);
  add_report(app, action, "df", "space used and free", df);
  add_report(app, action, "check",
             "verify every structure; exit status 0: clean, 1: problems, 2: cannot be read", check,
             add_check_options);

  auto arguments = std::make_shared<StoreArguments>();
  CLI::App* command =
      add_command(app, "dump", "print the metadata, one structure a line", *arguments);
  command->callback([arguments, &action] { action = [arguments] { return dump(*arguments); }; });
}

}  // namespace basalt::tool
