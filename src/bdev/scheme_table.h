// SchemeTable: which function opens which URI scheme, one table per Context.
//
// Backends are separate link targets; each has a register_<scheme>_scheme(Context&) that adds
// itself, so a program links and offers exactly the backends it wants. Any thread.
#pragma once

#include <basalt/device.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "bdev/uri.h"

namespace basalt {

// Opens the device a parsed URI names. Must use UriOptions::finish() so that unknown keys are
// errors.
using OpenScheme = Result<std::unique_ptr<Device>> (*)(Context& context, const Uri& uri,
                                                       const DeviceOpenOptions& options);

class SchemeTable {
 public:
  // `example` is shown in errors: "ram:4G". `state` is what the scheme keeps from one opening to the next, for
  // this Context. The same function again changes nothing; another function for a scheme already there is
  // a programming error.
  void add(std::string_view scheme, std::string_view example, OpenScheme open,
           std::shared_ptr<void> state = {});
  // Null when nobody registered the scheme.
  OpenScheme find(std::string_view scheme) const;
  // What add() was given; null when nobody registered the scheme.
  std::shared_ptr<void> state(std::string_view scheme) const;
  std::vector<std::string> names() const;
  // "file: (file:/path?size=64G), ram: (ram:4G)", for messages.
  std::string known() const;

 private:
  struct Entry {
    std::string scheme;
    std::string example;
    OpenScheme open;
    std::shared_ptr<void> state;
  };
  const Entry* find_locked(std::string_view scheme) const;
  mutable Mutex mutex_;  // protects entries_
  std::vector<Entry> entries_;
};

// open_device() for a URI already parsed, as virtual devices open their children.
Result<std::unique_ptr<Device>> open_device(Context& context, const Uri& uri,
                                            const DeviceOpenOptions& options = {});

}  // namespace basalt
