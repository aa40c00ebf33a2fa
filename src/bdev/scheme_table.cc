#include "bdev/scheme_table.h"

#include "base/check.h"

namespace basalt {

void SchemeTable::add(std::string_view scheme, std::string_view example, OpenScheme open) {
  MutexLock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.scheme != scheme) continue;
    BASALT_CHECK(entry.open == open, "two backends register one URI scheme");
    return;
  }
  entries_.push_back({std::string(scheme), std::string(example), open});
}

OpenScheme SchemeTable::find(std::string_view scheme) const {
  MutexLock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.scheme == scheme) return entry.open;
  }
  return nullptr;
}

std::string SchemeTable::known() const {
  MutexLock lock(mutex_);
  std::string out;
  for (const Entry& entry : entries_) {
    out += (out.empty() ? "" : ", ") + entry.scheme + ": (" + entry.example + ")";
  }
  return out.empty() ? "none" : out;
}

}  // namespace basalt
