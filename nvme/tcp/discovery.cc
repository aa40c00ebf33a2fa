// See discovery.h.
#include "nvme/tcp/discovery.h"

#include <algorithm>
#include <cstring>

#include "base/try.h"
#include "nvme/commands.h"

namespace basalt::nvme {

namespace {

constexpr uint64_t kMaxEntries = 4096;  // 4 MiB of them

// A field's text: up to its first zero byte, without the spaces behind it, and nothing that a terminal would act on.
template <size_t N>
std::string field_text(const char (&field)[N]) {
  std::string text(field, ::strnlen(field, N));
  text.erase(text.find_last_not_of(' ') + 1);
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, '?');
  return text;
}

DiscoveredSubsystem subsystem_of(const DiscoveryEntry& entry) {
  return {.transport = static_cast<TransportType>(entry.transport),
          .family = static_cast<AddressFamily>(entry.address_family),
          .type = static_cast<SubsystemType>(entry.subsystem_type),
          .port_id = entry.port_id,
          .controller_id = entry.controller_id,
          .tls_required = (entry.requirements & 3) == kSecureChannelRequired,
          .address = field_text(entry.address),
          .service = field_text(entry.service),
          .nqn = field_text(entry.subsystem_nqn)};
}

Result<DiscoveryHeader> read_header(Controller& controller) {
  DiscoveryHeader header;
  BASALT_TRY(controller.run_admin(log_page_command(LogPage::discovery, sizeof header, 0), {},
                                  std::as_writable_bytes(std::span(&header, 1))));
  if (header.count > kMaxEntries) {
    return error(StatusCode::corruption, controller.name() + ": a discovery log of " +
                                             std::to_string(header.count) + " entries");
  }
  return header;
}

}  // namespace

Result<std::vector<DiscoveredSubsystem>> read_discovery_log(Controller& controller) {
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    BASALT_TRY_ASSIGN(const DiscoveryHeader before, read_header(controller));
    std::vector<DiscoveryEntry> entries(before.count);
    constexpr size_t kAtOnce = AdminQueue::kDataBytes / sizeof(DiscoveryEntry);
    for (size_t at = 0; at < entries.size(); at += kAtOnce) {
      const auto some = std::span(entries).subspan(at, std::min(kAtOnce, entries.size() - at));
      Command command =
          log_page_command(LogPage::discovery, static_cast<uint32_t>(some.size_bytes()), 0);
      command.cdw12 = static_cast<uint32_t>(sizeof(DiscoveryHeader) + at * sizeof(DiscoveryEntry));
      BASALT_TRY(controller.run_admin(command, {}, std::as_writable_bytes(some)));
    }
    BASALT_TRY_ASSIGN(const DiscoveryHeader after, read_header(controller));
    if (after.generation != before.generation) continue;
    std::vector<DiscoveredSubsystem> found;
    for (const DiscoveryEntry& entry : entries) found.push_back(subsystem_of(entry));
    return found;
  }
  return error(StatusCode::busy, controller.name() + ": its discovery log keeps changing");
}

Result<std::vector<TcpAddress>> addresses_of(std::string_view nqn,
                                             const std::vector<DiscoveredSubsystem>& found) {
  std::vector<TcpAddress> addresses;
  std::string others;
  for (const DiscoveredSubsystem& subsystem : found) {
    if (subsystem.type != SubsystemType::nvm) continue;
    if (subsystem.nqn == nqn && subsystem.transport == TransportType::tcp) {
      addresses.push_back({subsystem.address, subsystem.service});
    } else if (others.find(subsystem.nqn) == std::string::npos) {
      others += (others.empty() ? "" : ", ") + subsystem.nqn;
    }
  }
  if (!addresses.empty()) return addresses;
  return error(StatusCode::not_found,
               "no address for \"" + std::string(nqn) +
                   "\" over TCP; there are: " + (others.empty() ? "no subsystems" : others));
}

}  // namespace basalt::nvme
