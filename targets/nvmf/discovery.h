// The discovery log page: which subsystems there are for a host, and where.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace basalt::nvmf {

class Target;

// NVM Express base specification 2.0, §5.16.1.23.
// `local_host`: this side's address of the host's connection, which is told in place of "any".
std::vector<std::byte> make_discovery_log(Target& target, const std::string& host_nqn,
                                          const std::string& local_host);

}  // namespace basalt::nvmf
