// basalt ls, mv, rm, mkdir: commands about names. They follow the habits of their POSIX namesakes.
#include <cinttypes>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/try.h"
#include "tool/command.h"
#include "tool/session.h"
#include "tool/text.h"

namespace basalt::tool {
namespace {

using Json = nlohmann::ordered_json;

struct FileArguments {
  std::string uri;
  std::string path = "/";
  std::string target;
  bool details = false;
  bool recursive = false;
  bool parents = false;
  bool json = false;
};

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() || directory.back() == '/' ? directory + name : directory + "/" + name;
}

const char* kind_text(const FileInfo& info) {
  if (info.is_directory) return "directory";
  return info.kind == FileKind::log ? "log" : "table";
}

Json entry_json(const std::string& path, const FileInfo& info) {
  return {{"path", path},
          {"kind", kind_text(info)},
          {"size_bytes", info.size_bytes},
          {"allocated_bytes", info.allocated_bytes},
          {"file_id", info.file_id},
          {"link_count", info.link_count},
          {"modified", std::chrono::duration<double>(info.modified).count()}};
}

void print_entry(const FileArguments& arguments, const std::string& shown, const FileInfo& info) {
  if (arguments.details) {
    std::printf("%-9s %3u %14" PRIu64 " %s %s%s\n", kind_text(info), info.link_count,
                info.size_bytes, time_text(info.modified).c_str(), shown.c_str(),
                info.is_directory ? "/" : "");
  } else {
    std::printf("%s%s\n", shown.c_str(), info.is_directory ? "/" : "");
  }
}

// Lists `directory`; names are shown with `prefix` in front (the path below the argument).
Status list(FileSystem& files, const FileArguments& arguments, const std::string& directory,
            const std::string& prefix, Json& out) {
  BASALT_TRY_ASSIGN(const auto entries, files.list(directory));
  for (const DirectoryEntry& entry : entries) {
    const std::string path = join(directory, entry.name);
    FileInfo info;
    info.is_directory = entry.is_directory;
    if (arguments.details || arguments.json) {
      BASALT_TRY_ASSIGN(info, files.stat(path));
    }
    if (arguments.json) {
      out.push_back(entry_json(path, info));
    } else {
      print_entry(arguments, prefix + entry.name, info);
    }
    if (arguments.recursive && entry.is_directory) {
      BASALT_TRY(list(files, arguments, path, prefix + entry.name + "/", out));
    }
  }
  return {};
}

Result<int> ls(const FileArguments& arguments) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_only));
  Json out = Json::array();
  BASALT_TRY_ASSIGN(const FileInfo info, session.files().stat(arguments.path));
  if (info.is_directory) {
    BASALT_TRY(list(session.files(), arguments, arguments.path, "", out));
  } else if (arguments.json) {
    out.push_back(entry_json(arguments.path, info));
  } else {
    print_entry(arguments, arguments.path, info);
  }
  if (arguments.json) std::printf("%s\n", out.dump(2).c_str());
  return kDone;
}

// Moving onto a directory moves into it.
Status move(FileSystem& files, const FileArguments& arguments) {
  std::string target = arguments.target;
  const auto info = files.stat(target);
  if (info && info->is_directory) {
    std::string source = arguments.path;
    while (source.size() > 1 && source.back() == '/') source.pop_back();
    target = join(target, source.substr(source.rfind('/') + 1));
  }
  return files.rename(arguments.path, target);
}

Status remove_tree(FileSystem& files, const std::string& path) {
  BASALT_TRY_ASSIGN(const FileInfo info, files.stat(path));
  if (!info.is_directory) return files.remove(path);
  BASALT_TRY_ASSIGN(const auto entries, files.list(path));
  for (const DirectoryEntry& entry : entries) {
    BASALT_TRY(remove_tree(files, join(path, entry.name)));
  }
  return path == "/" ? Status{} : files.remove_directory(path);
}

Status remove(FileSystem& files, const FileArguments& arguments) {
  if (arguments.recursive) return remove_tree(files, arguments.path);
  BASALT_TRY_ASSIGN(const FileInfo info, files.stat(arguments.path));
  return info.is_directory ? files.remove_directory(arguments.path) : files.remove(arguments.path);
}

Status make_directory(FileSystem& files, const FileArguments& arguments) {
  if (!arguments.parents) return files.make_directory(arguments.path);
  for (size_t end = arguments.path.find('/', 1);; end = arguments.path.find('/', end + 1)) {
    const std::string part = arguments.path.substr(0, end);
    const auto info = files.stat(part);
    if (!info || !info->is_directory) BASALT_TRY(files.make_directory(part));
    if (end == std::string::npos) return {};
  }
}

// A command that changes names: mount, change, unmount.
Result<int> change(const FileArguments& arguments,
                   Status (*apply)(FileSystem&, const FileArguments&)) {
  BASALT_TRY_ASSIGN(Session session, Session::mount(arguments.uri, OpenMode::read_write));
  const Status applied = apply(session.files(), arguments);
  const Status finished = session.finish();
  BASALT_TRY(applied);
  BASALT_TRY(finished);
  return kDone;
}

using Change = Status (*)(FileSystem&, const FileArguments&);

CLI::App* add_change(CLI::App& app, Action& action, const std::string& name,
                     const std::string& help, Change apply,
                     const std::shared_ptr<FileArguments>& arguments) {
  CLI::App* command = app.add_subcommand(name, help);
  command->add_option("device", arguments->uri, "device URI")->required();
  command->add_option("path", arguments->path, "absolute path in the store")->required();
  command->callback([arguments, apply, &action] {
    action = [arguments, apply] { return change(*arguments, apply); };
  });
  return command;
}

}  // namespace

void add_file_commands(CLI::App& app, Action& action) {
  auto listed = std::make_shared<FileArguments>();
  CLI::App* command = app.add_subcommand("ls", "list a directory, or show a file");
  command->add_option("device", listed->uri, "device URI")->required();
  command->add_option("path", listed->path, "absolute path in the store (default /)");
  command->add_flag("-l,--long", listed->details, "kind, links, size, time");
  command->add_flag("-R,--recursive", listed->recursive, "directories below too");
  command->add_flag("--json", listed->json, "for scripts");
  command->callback([listed, &action] { action = [listed] { return ls(*listed); }; });

  auto moved = std::make_shared<FileArguments>();
  add_change(app, action, "mv", "rename a file or a directory", move, moved)
      ->add_option("target", moved->target, "the new path, or a directory to move into")
      ->required();

  auto removed = std::make_shared<FileArguments>();
  add_change(app, action, "rm", "remove a file or an empty directory", remove, removed)
      ->add_flag("-r,--recursive", removed->recursive, "a directory with all it holds");

  auto made = std::make_shared<FileArguments>();
  add_change(app, action, "mkdir", "make a directory", make_directory, made)
      ->add_flag("-p,--parents", made->parents, "missing parents too; existing is no error");
}

}  // namespace basalt::tool
