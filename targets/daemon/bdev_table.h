// BdevTable: the devices a daemon has open, by the names its operator gave them.
//
// Each keeps the call that made it, which is what is saved as configuration. Those that come and go are notified.
// Threads: one at a time (the control plane's); device_names() any.
#pragma once

#include <basalt/context.h>
#include <basalt/device.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/sync.h"
#include "targets/daemon/notifications.h"
#include "targets/rpc/params.h"

namespace basalt {

struct Bdev {
  std::string name;
  std::string product;  // what SPDK's clients call its kind: "Malloc disk", …
  std::string uuid;     // empty: none was given
  std::shared_ptr<Device> device;
  std::string method;      // that made it
  rpc::Json params;        // and with what
  std::string base;        // the bdev it stands on; empty: none
  std::string controller;  // whose call made it, and others with it; empty: its own
};

class BdevTable {
 public:
  BdevTable(Context& context, Notifications& notifications)
      : context_(context), notifications_(notifications) {}

  // Opens `uri` and takes the rest of `bdev` as it is. Errors: already_exists; open_device()'s.
  Status add(Bdev bdev, const std::string& uri, OpenMode mode = OpenMode::read_write);
  // Whether files that are missing may be made (size=), as at first. Not while what was there before is opened again.
  void set_may_create(bool may) { may_create_ = may; }
  // With its device, which is open. Errors: already_exists.
  Status add(Bdev bdev);
  // Errors: not_found, naming those there are.
  Result<const Bdev*> find(const std::string& name) const;
  // In the order they were made.
  const std::vector<std::unique_ptr<Bdev>>& all() const { return bdevs_; }
  // The first that stands on `name`, or that the controller's call made; null: none.
  const Bdev* first_over(const std::string& name) const;
  const Bdev* first_of(const std::string& controller) const;
  // Saved from now on as made with these. Of one there is.
  void set_params(const std::string& name, rpc::Json params);
  // not_found. What others hold of its device is theirs to give up before.
  Status remove(const std::string& name);
  // In the same order. A device may be removed by the time its address is looked at.
  std::vector<std::pair<const Device*, std::string>> device_names() const;
  // already_exists.
  Status check_free(const std::string& name) const;
  // A name nobody has: "Malloc0", "Malloc1", ….
  std::string free_name(const std::string& prefix) const;

 private:
  template <class Wanted>
  const Bdev* first(Wanted wanted) const;

  Context& context_;
  Notifications& notifications_;
  bool may_create_ = true;
  // Held, for moments, while the list is changed, and where others than the control plane look at it.
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Bdev>> bdevs_;
};

}  // namespace basalt
