// See shared_controllers.h.
#include "bdev/nvme/shared_controllers.h"

#include <vector>

#include "base/try.h"

namespace basalt {

SharedControllers::Lease::~Lease() {
  if (entry_ == nullptr) return;
  const MutexLock lock(entry_->mutex);
  const auto open = entry_->open.find(nsid_);
  if (open->second > 1) {
    --open->second;
    return;
  }
  entry_->open.erase(open);
  if (entry_->open.empty()) entry_->controller.reset();
}

nvme::Controller& SharedControllers::Lease::controller() const { return *entry_->controller; }

bool SharedControllers::Lease::is_alone_with(size_t namespaces) const {
  const MutexLock lock(entry_->mutex);
  if (entry_->open.size() != 1 + namespaces) return false;
  const int holders = entry_->open.at(nsid_);
  return holders == 1 || holders == kWriter;
}

void SharedControllers::stop_reconnecting() {
  std::vector<std::shared_ptr<Entry>> entries;
  {
    const MutexLock lock(mutex_);
    for (const auto& [function, entry] : entries_) entries.push_back(entry);
  }
  for (const auto& entry : entries) {
    const MutexLock lock(entry->mutex);
    if (entry->controller != nullptr) entry->controller->set_reconnecting(false);
  }
}

Result<SharedControllers::Lease> SharedControllers::lease(const std::string& function,
                                                          uint32_t nsid, OpenMode mode,
                                                          const std::string& settings,
                                                          const BringUp& bring_up) {
  std::shared_ptr<Entry> entry;
  {
    const MutexLock lock(mutex_);
    auto& found = entries_[function];
    if (found == nullptr) found = std::make_shared<Entry>();
    entry = found;
  }
  const MutexLock lock(entry->mutex);
  if (entry->controller == nullptr) {
    BASALT_TRY_ASSIGN(entry->controller, bring_up());
    entry->settings = settings;
  } else if (settings != entry->settings) {
    return error(StatusCode::invalid_argument,
                 "another namespace of this controller is open with " + entry->settings +
                     "; give the same, or close it first");
  }
  const bool writes = mode != OpenMode::read_only;
  const auto open = entry->open.find(nsid);
  if (open != entry->open.end() && (writes || open->second == kWriter)) {
    return error(StatusCode::busy, "namespace " + std::to_string(nsid) +
                                       " is open in this process" +
                                       (open->second == kWriter ? " for writing" : ""));
  }
  if (writes) {
    entry->open[nsid] = kWriter;
  } else {
    ++entry->open[nsid];
  }
  return Lease(std::move(entry), nsid);
}

}  // namespace basalt
