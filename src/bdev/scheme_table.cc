#include "bdev/scheme_table.h"

#include "base/check.h"

namespace basalt {

void SchemeTable::add(std::string_view scheme, std::string_view example, OpenScheme open,
                      std::shared_ptr<void> state) {
  MutexLock lock(mutex_);
  if (const Entry* entry = find_locked(scheme)) {
    BASALT_CHECK(entry->open == open, "two backends register one URI scheme");
    return;
  }
  entries_.push_back({std::string(scheme), std::string(example), open, std::move(state)});
}

const SchemeTable::Entry* SchemeTable::find_locked(std::string_view scheme) const {
  for (const Entry& entry : entries_) {
    if (entry.scheme == scheme) return &entry;
  }
  return nullptr;
}

OpenScheme SchemeTable::find(std::string_view scheme) const {
  MutexLock lock(mutex_);
  const Entry* entry = find_locked(scheme);
  return entry != nullptr ? entry->open : nullptr;
}

std::shared_ptr<void> SchemeTable::state(std::string_view scheme) const {
  MutexLock lock(mutex_);
  const Entry* entry = find_locked(scheme);
  return entry != nullptr ? entry->state : nullptr;
}

std::vector<std::string> SchemeTable::names() const {
  MutexLock lock(mutex_);
  std::vector<std::string> all;
  for (const Entry& entry : entries_) all.push_back(entry.scheme);
  return all;
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
