// Discovery: which subsystems a discovery controller knows, and where.
//
// NVM Express base specification 2.0, §5.16.1.23 (discovery log page). What it says is checked, not believed.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nvme/controller.h"
#include "nvme/tcp/socket.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvme {

struct DiscoveredSubsystem {
  TransportType transport = TransportType::tcp;
  AddressFamily family = AddressFamily::ipv4;
  SubsystemType type = SubsystemType::nvm;
  uint16_t port_id = 0;
  uint16_t controller_id = 0;  // kAnyController: the subsystem picks
  bool tls_required = false;
  std::string address;
  std::string service;  // port
  std::string nqn;
};

// The log page of `controller`, whose subsystem is kDiscoveryNqn. Errors: the controller's, corruption (more entries
// than there can be), busy (it changed each time it was read).
Result<std::vector<DiscoveredSubsystem>> read_discovery_log(Controller& controller);

// Where `nqn` can be reached over TCP; not_found says what there is instead.
Result<std::vector<TcpAddress>> addresses_of(std::string_view nqn,
                                             const std::vector<DiscoveredSubsystem>& found);

}  // namespace basalt::nvme
