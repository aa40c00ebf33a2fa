// BdevTable: the devices a daemon has open, by the names its operator gave them.
//
// Each keeps the call that made it, which is what is saved as configuration.
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
#include "targets/rpc/params.h"

namespace basalt {

struct Bdev {
  std::string name;
  std::string product;  // what SPDK's clients call its kind: "Malloc disk", …
  std::string uuid;     // empty: none was given
  std::shared_ptr<Device> device;
  std::string method;  // that made it
  rpc::Json params;    // and with what
};

class BdevTable {
 public:
  explicit BdevTable(Context& context) : context_(context) {}

  // Opens `uri` and takes the rest of `bdev` as it is. Errors: already_exists; open_device()'s.
  Status add(Bdev bdev, const std::string& uri, OpenMode mode = OpenMode::read_write);
  // Errors: not_found, naming those there are.
  Result<const Bdev*> find(const std::string& name) const;
  // In the order they were made.
  const std::vector<std::unique_ptr<Bdev>>& all() const { return bdevs_; }
  // not_found. What others hold of its device is theirs to give up before.
  Status remove(const std::string& name);
  // In the same order. A device may be removed by the time its address is looked at.
  std::vector<std::pair<const Device*, std::string>> device_names() const;
  // A name nobody has: "Malloc0", "Malloc1", ….
  std::string free_name(const std::string& prefix) const;

 private:
  Context& context_;
  mutable Mutex
      mutex_;  // held, for moments, while the list is changed, and where others than the control plane look at it
  std::vector<std::unique_ptr<Bdev>> bdevs_;
};

}  // namespace basalt
