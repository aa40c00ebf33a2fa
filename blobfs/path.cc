#include "blobfs/path.h"

namespace basalt::blobfs {

namespace {

tl::unexpected<Status> bad_path(std::string_view path, std::string_view why) {
  return error(StatusCode::invalid_argument,
               "path \"" + std::string(path.substr(0, 300)) + "\": " + std::string(why));
}

}  // namespace

Result<PathComponents> split_path(std::string_view path) {
  if (path.size() > kMaxPathBytes) return bad_path(path, "longer than 4096 bytes");
  if (path.empty() || path.front() != '/') return bad_path(path, "must begin with '/'");
  if (path.find('\0') != path.npos) return bad_path(path, "holds a NUL byte");
  PathComponents components;
  while (!path.empty()) {
    path.remove_prefix(1);  // the '/'
    const std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(name.size());
    if (name.empty() || name == ".") continue;
    if (name == "..") return bad_path(name, "\"..\" is not supported");
    if (name.size() > kMaxNameBytes) return bad_path(name, "a name has at most 255 bytes");
    components.push_back(name);
  }
  return components;
}

std::string join_path(const PathComponents& components) {
  if (components.empty()) return "/";
  std::string path;
  for (const std::string_view name : components) path.append("/").append(name);
  return path;
}

}  // namespace basalt::blobfs
