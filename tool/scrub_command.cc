// basalt scrub: verifies the metadata, then reads every file of a store that nobody has mounted for writing.
#include <algorithm>
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

struct ScrubArguments {
  std::string uri;
  uint64_t bytes_per_second = 0;
  bool json = false;
};

struct Findings {
  CheckReport metadata;
  ScrubReport files;
  bool checksums = false;
  bool clean() const { return metadata.clean() && files.damages.empty(); }
};

Result<Findings> scrub(const ScrubArguments& arguments) {
  Findings found;
  {
    BASALT_TRY_ASSIGN(Session session, Session::open_device(arguments.uri, OpenMode::read_only));
    BASALT_TRY_ASSIGN(found.metadata, FileSystem::check(session.context(), session.device()));
  }
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  FileSystem& files = session.files();
  found.checksums = files.has_data_checksums();
  const SpaceInfo space = files.space();
  const uint64_t used = space.capacity_bytes - space.free_bytes;
  Progress progress("scrubbing");
  ScrubOptions options;
  options.bytes_per_second = arguments.bytes_per_second;
  options.keep_going = [&](const ScrubReport& so_far) {
    progress.show(std::min(so_far.bytes_read, used), used);
    return true;
  };
  BASALT_TRY_ASSIGN(found.files, files.scrub(options));
  return found;
}

void print_json(const Findings& found) {
  Json damages = Json::array();
  for (const ScrubDamage& damage : found.files.damages) {
    damages.push_back({{"path", damage.path},
                       {"offset", damage.offset},
                       {"length", damage.length},
                       {"error", damage.status.to_string()}});
  }
  const Json json = {{"clean", found.clean()},
                     {"problems", found.metadata.problems},
                     {"notes", found.metadata.notes},
                     {"damages", damages},
                     {"files", found.files.files},
                     {"metadata_bytes", found.files.metadata_bytes},
                     {"bytes_read", found.files.bytes_read},
                     {"bytes_verified", found.files.bytes_verified},
                     {"data_checksums", found.checksums}};
  // Names of files may be any bytes; what is no UTF-8 is replaced.
  std::printf("%s\n", json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void print_text(const Findings& found) {
  for (const std::string& problem : found.metadata.problems) {
    std::printf("problem: %s\n", problem.c_str());
  }
  for (const std::string& note : found.metadata.notes) std::printf("note: %s\n", note.c_str());
  for (const ScrubDamage& damage : found.files.damages) {
    std::printf("damage: %s\n", to_string(damage).c_str());
  }
  std::printf("%s: %s files, %s read, %s of it verified by checksums\n",
              found.clean() ? "clean" : "NOT CLEAN", grouped(found.files.files).c_str(),
              size_text(found.files.bytes_read).c_str(),
              size_text(found.files.bytes_verified).c_str());
  if (!found.checksums && found.files.bytes_verified < found.files.bytes_read) {
    std::printf("the store keeps no checksums of tables; mkfs --checksums makes one that does\n");
  }
}

Result<int> run(const ScrubArguments& arguments) {
  const auto found = scrub(arguments);
  if (!found) {
    std::fprintf(stderr, "basalt: scrub: %s\n", found.error().to_string().c_str());
    return kCannotRead;
  }
  arguments.json ? print_json(*found) : print_text(*found);
  return found->clean() ? kDone : kFailed;
}

}  // namespace

void add_scrub_command(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ScrubArguments>();
  CLI::App* command = app.add_subcommand("scrub",
                                         "verify the metadata and read every file; exit status 0: "
                                         "clean, 1: damage, 2: cannot be read");
  command->add_option("device", arguments->uri, "device URI")->required();
  add_size_option(*command, "--rate", arguments->bytes_per_second,
                  "bytes of files to read per second at most, such as 50M (default: no limit)");
  command->add_flag("--json", arguments->json, "for scripts");
  command->callback([arguments, &action] { action = [arguments] { return run(*arguments); }; });
}

}  // namespace basalt::tool
