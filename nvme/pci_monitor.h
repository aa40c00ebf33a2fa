// PciMonitor: NVMe controllers that come, go and change drivers, as the kernel tells.
//
// The kernel sends a message for each change of a device (kobject_uevent, netlink(7)); this keeps those of PCI functions
// of class 0x0108xx. What was there before is PciDevices' to say: open the monitor first, then list. A controller in use
// that goes is told to its users by the driver (Controller::gone()) without this.
// Threads: one at a time.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/unique_fd.h"

namespace basalt::nvme {

enum class PciChange : uint8_t {
  appeared,
  bound,    // to `driver`
  unbound,  // it has no driver now
  gone,
  missed,  // there were more changes than the kernel keeps: list the controllers again
};

// "appeared", "bound", …
const char* to_string(PciChange change);

struct PciEvent {
  PciChange change = PciChange::missed;
  std::string address;  // "0000:00:04.0"; empty with `missed`, as all that follows
  std::string driver;   // of `bound`
  uint16_t vendor_id = 0;
  uint16_t device_id = 0;
};

// What one message of the kernel's says; none: it is about something else. Any bytes may be given.
std::optional<PciEvent> parse_kernel_event(std::span<const char> message);

class PciMonitor {
 public:
  // Errors: those of the socket; no privilege is needed.
  static Result<PciMonitor> open();

  // Readable when next() has something to look at.
  int fd() const { return socket_.get(); }
  // The next event; none when `timeout` has passed, or zero and nothing is there.
  Result<std::optional<PciEvent>> next(Duration timeout);

 private:
  explicit PciMonitor(UniqueFd socket) : socket_(std::move(socket)) {}
  // A message of the kernel's, if one is there, as an event, if it is one.
  Result<bool> receive(std::optional<PciEvent>& event);

  UniqueFd socket_;
};

}  // namespace basalt::nvme
