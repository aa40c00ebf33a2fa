// See notifications.h.
#include "targets/daemon/notifications.h"

#include <utility>

namespace basalt {

void Notifications::add(std::string_view type, std::string context) {
  if (kept_.size() == kMaxKept) kept_.pop_front();
  kept_.push_back({next_id_++, std::string(type), std::move(context)});
}

std::vector<Notification> Notifications::since(uint64_t id, uint64_t max) const {
  std::vector<Notification> found;
  for (const Notification& notification : kept_) {
    if (notification.id >= id && found.size() < max) found.push_back(notification);
  }
  return found;
}

}  // namespace basalt
