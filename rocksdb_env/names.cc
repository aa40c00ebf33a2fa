// Purely lexical: no call here looks at the store.
#include "rocksdb_env/names.h"

#include <algorithm>

namespace basalt::rocksdb_env {

std::string normalize_path(std::string_view path) {
  std::string result;
  result.reserve(path.size() + 1);
  size_t position = 0;
  while (position < path.size()) {
    const size_t end = std::min(path.find('/', position), path.size());
    const std::string_view component = path.substr(position, end - position);
    position = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      result.resize(result.empty() ? 0 : result.rfind('/'));
    } else {
      result.append("/").append(component);
    }
  }
  if (result.empty()) result.push_back('/');
  return result;
}

std::string_view parent_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

FileKind file_kind_of(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (name.ends_with(".log") || name.starts_with("MANIFEST-")) return FileKind::log;
  if (name == "LOG" || name.ends_with("_LOG")) return FileKind::log;
  return FileKind::table;
}

}  // namespace basalt::rocksdb_env
