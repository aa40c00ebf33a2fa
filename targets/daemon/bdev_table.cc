// See bdev_table.h.
#include "targets/daemon/bdev_table.h"

#include <algorithm>

#include "base/try.h"

namespace basalt {

Status BdevTable::add(Bdev bdev, const std::string& uri, OpenMode mode) {
  if (bdev.name.empty()) return {StatusCode::invalid_argument, "a bdev's name is not empty"};
  if (find(bdev.name)) {
    return {StatusCode::already_exists, "there is a bdev " + bdev.name + " already"};
  }
  BASALT_TRY_ASSIGN(bdev.device, open_device(context_, uri, {.mode = mode}));
  const MutexLock lock(mutex_);
  bdevs_.push_back(std::make_unique<Bdev>(std::move(bdev)));
  return {};
}

Result<const Bdev*> BdevTable::find(const std::string& name) const {
  std::string names;
  for (const auto& bdev : bdevs_) {
    if (bdev->name == name) return bdev.get();
    names += (names.empty() ? "" : ", ") + bdev->name;
  }
  return error(StatusCode::not_found,
               "no bdev " + name + "; there are: " + (names.empty() ? "none" : names));
}

Status BdevTable::remove(const std::string& name) {
  if (const auto found = find(name); !found) return found.error();
  const auto place = std::find_if(bdevs_.begin(), bdevs_.end(),
                                  [&](const auto& bdev) { return bdev->name == name; });
  std::unique_ptr<Bdev> removed;  // closed outside of the lock
  const MutexLock lock(mutex_);
  removed = std::move(*place);
  bdevs_.erase(place);
  return {};
}

std::vector<std::pair<const Device*, std::string>> BdevTable::device_names() const {
  const MutexLock lock(mutex_);
  std::vector<std::pair<const Device*, std::string>> all;
  for (const auto& bdev : bdevs_) all.emplace_back(bdev->device.get(), bdev->name);
  return all;
}

std::string BdevTable::free_name(const std::string& prefix) const {
  unsigned number = 0;
  while (find(prefix + std::to_string(number))) ++number;
  return prefix + std::to_string(number);
}

}  // namespace basalt
