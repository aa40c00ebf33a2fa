// See discovery.h.
#include "targets/nvmf/discovery.h"

#include <algorithm>
#include <cstring>

#include "targets/nvmf/target.h"
#include "wire/nvme/fabrics.h"

namespace basalt::nvmf {

namespace {

void append(std::vector<std::byte>& page, const void* data, size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  page.insert(page.end(), from, from + bytes);
}

void set_text(std::span<char> field, std::string_view text) {
  std::copy_n(text.begin(), std::min(text.size(), field.size()), field.begin());
}

nvme::DiscoveryEntry make_entry(const ListenAddress& address, Security security,
                                nvme::SubsystemType type, std::string_view nqn) {
  nvme::DiscoveryEntry entry{};
  entry.transport = static_cast<uint8_t>(nvme::TransportType::tcp);
  entry.address_family = static_cast<uint8_t>(address.is_ipv6() ? nvme::AddressFamily::ipv6
                                                                : nvme::AddressFamily::ipv4);
  entry.subsystem_type = static_cast<uint8_t>(type);
  const bool is_tls = security == Security::tls;
  entry.requirements = is_tls ? nvme::kSecureChannelRequired : nvme::kSecureChannelNotRequired;
  entry.specific[0] = is_tls ? nvme::kTls13 : 0;
  entry.controller_id = nvme::kAnyController;
  entry.admin_queue_entries = Controller::kMaxQueueEntries;
  set_text(entry.service, address.port);
  set_text(entry.address, address.host);
  set_text(std::span(entry.subsystem_nqn).first(255), nqn);
  return entry;
}

}  // namespace

std::vector<std::byte> make_discovery_log(Target& target, const std::string& host_nqn,
                                          const std::string& local_host) {
  // The header of entries made meanwhile is newer than they are at worst: the host reads once more.
  nvme::DiscoveryHeader header{};
  header.generation = target.discovery_generation();
  std::vector<nvme::DiscoveryEntry> entries;
  for (const auto& subsystem : target.subsystems()) {
    if (!subsystem->is_discovery() && !subsystem->allows(host_nqn)) continue;
    for (auto& [address, security] : target.listeners_of(*subsystem)) {
      if (address.is_any()) address.host = local_host;
      entries.push_back(make_entry(address, security,
                                   subsystem->is_discovery()
                                       ? nvme::SubsystemType::current_discovery
                                       : nvme::SubsystemType::nvm,
                                   subsystem->nqn()));
    }
  }
  for (const Referral& referral : target.referrals()) {
    entries.push_back(make_entry(referral.address, referral.security, nvme::SubsystemType::referral,
                                 referral.nqn));
  }
  header.count = entries.size();
  std::vector<std::byte> page;
  append(page, &header, sizeof header);
  append(page, entries.data(), entries.size() * sizeof(nvme::DiscoveryEntry));
  return page;
}

}  // namespace basalt::nvmf
