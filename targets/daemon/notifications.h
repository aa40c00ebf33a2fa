// Notifications: what happened of late to the daemon's devices and subsystems, numbered from 0, the last so many of them.
//
// Threads: one at a time (the control plane's).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace basalt {

struct Notification {
  uint64_t id = 0;
  std::string type;     // one of kTypes
  std::string context;  // what it happened to: a bdev's name, a subsystem's NQN, "NQN/NSID"
};

class Notifications {
 public:
  static constexpr size_t kMaxKept = 1024;
  static constexpr std::string_view kTypes[] = {
      "bdev_register",         "bdev_unregister",       "nvmf_subsystem_create",
      "nvmf_subsystem_delete", "nvmf_subsystem_add_ns", "nvmf_subsystem_remove_ns"};

  void add(std::string_view type, std::string context);
  // Those from number `id` on that are still kept, the oldest `max` of them.
  std::vector<Notification> since(uint64_t id, uint64_t max) const;

 private:
  std::deque<Notification> kept_;
  uint64_t next_id_ = 0;
};

}  // namespace basalt
