// See bdev_table.h.
#include "targets/daemon/bdev_table.h"

#include <algorithm>

#include "base/try.h"

namespace basalt {

Status BdevTable::check_free(const std::string& name) const {
  if (name.empty()) return {StatusCode::invalid_argument, "a bdev's name is not empty"};
  if (!find(name)) return {};
  return {StatusCode::already_exists, "there is a bdev " + name + " already"};
}

Status BdevTable::add(Bdev bdev, const std::string& uri, OpenMode mode) {
  BASALT_TRY(check_free(bdev.name));
  BASALT_TRY_ASSIGN(bdev.device,
                    open_device(context_, uri, {.mode = mode, .may_create = may_create_}));
  return add(std::move(bdev));
}

Status BdevTable::add(Bdev bdev) {
  BASALT_TRY(check_free(bdev.name));
  {
    const MutexLock lock(mutex_);
    bdevs_.push_back(std::make_unique<Bdev>(std::move(bdev)));
  }
  notifications_.add("bdev_register", bdevs_.back()->name);
  return {};
}

template <class Wanted>
const Bdev* BdevTable::first(Wanted wanted) const {
  for (const auto& bdev : bdevs_) {
    if (wanted(*bdev)) return bdev.get();
  }
  return nullptr;
}

const Bdev* BdevTable::first_over(const std::string& name) const {
  return first([&](const Bdev& bdev) { return bdev.base == name; });
}

const Bdev* BdevTable::first_of(const std::string& controller) const {
  return first([&](const Bdev& bdev) { return bdev.controller == controller; });
}

void BdevTable::set_params(const std::string& name, rpc::Json params) {
  for (const auto& bdev : bdevs_) {
    if (bdev->name == name) bdev->params = std::move(params);
  }
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
  std::unique_ptr<Bdev> gone;  // closed outside of the lock; `name` may be its own
  {
    const MutexLock lock(mutex_);
    gone = std::move(*place);
    bdevs_.erase(place);
  }
  notifications_.add("bdev_unregister", gone->name);
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
