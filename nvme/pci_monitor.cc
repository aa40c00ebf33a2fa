// See pci_monitor.h. The messages: "add@/devices/…", then "KEY=value", each ended by a zero byte (Linux,
// lib/kobject_uevent.c; the PCI keys are pci_uevent()'s).
#include "nvme/pci_monitor.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <string_view>
#include <utility>

#include "base/try.h"
#include "nvme/pci_devices.h"
#include "nvme/system_error.h"

namespace basalt::nvme {
namespace {

constexpr unsigned kFromKernel = 1;  // multicast group; what udev makes of it is in group 2
constexpr int kReceiveBytes = 1 << 20;
constexpr size_t kMessageBytes = 8192;  // the kernel's are 2 KiB of keys and a path

std::optional<uint32_t> hex_number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<PciChange> change_of(std::string_view action) {
  if (action == "add") return PciChange::appeared;
  if (action == "remove") return PciChange::gone;
  if (action == "bind") return PciChange::bound;
  if (action == "unbind") return PciChange::unbound;
  return std::nullopt;
}

// The keys of a message that matter here.
struct Keys {
  std::string_view action, subsystem, address, class_code, id, driver;
};

Keys read_keys(std::string_view text) {
  Keys keys;
  const std::pair<std::string_view, std::string_view*> wanted[] = {
      {"ACTION=", &keys.action},         {"SUBSYSTEM=", &keys.subsystem},
      {"PCI_CLASS=", &keys.class_code},  {"PCI_ID=", &keys.id},
      {"PCI_SLOT_NAME=", &keys.address}, {"DRIVER=", &keys.driver}};
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find('\0'));
    for (const auto& [key, value] : wanted) {
      if (word.starts_with(key)) *value = word.substr(key.size());
    }
    text.remove_prefix(std::min(word.size() + 1, text.size()));
  }
  return keys;
}

}  // namespace

const char* to_string(PciChange change) {
  switch (change) {
    case PciChange::appeared: return "appeared";
    case PciChange::bound: return "bound";
    case PciChange::unbound: return "unbound";
    case PciChange::gone: return "gone";
    case PciChange::missed: break;
  }
  return "missed";
}

std::optional<PciEvent> parse_kernel_event(std::span<const char> message) {
  const Keys keys = read_keys({message.data(), message.size()});
  const auto change = change_of(keys.action);
  const auto class_code = hex_number(keys.class_code);
  const bool is_nvme = class_code && *class_code >> 8 == kNvmeClass >> 8;
  if (!change || keys.subsystem != "pci" || !is_nvme || !check_pci_address(keys.address).ok()) {
    return std::nullopt;
  }
  PciEvent event;
  event.change = *change;
  event.address = keys.address;
  if (*change == PciChange::bound) event.driver = keys.driver;
  const size_t colon = std::min(keys.id.find(':'), keys.id.size());
  event.vendor_id = static_cast<uint16_t>(hex_number(keys.id.substr(0, colon)).value_or(0));
  event.device_id = static_cast<uint16_t>(
      hex_number(keys.id.substr(std::min(colon + 1, keys.id.size()))).value_or(0));
  return event;
}

Result<PciMonitor> PciMonitor::open() {
  UniqueFd socket(
      ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!socket) return error(system_error("the kernel's device events: socket", errno));
  // A hint: with less, more is missed.
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof kReceiveBytes);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kFromKernel;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return error(system_error("the kernel's device events: bind", errno));
  }
  return PciMonitor(std::move(socket));
}

Result<bool> PciMonitor::receive(std::optional<PciEvent>& event) {
  std::array<char, kMessageBytes> bytes;
  sockaddr_nl sender{};
  socklen_t length = sizeof sender;
  const ssize_t count = ::recvfrom(socket_.get(), bytes.data(), bytes.size(), MSG_TRUNC,
                                   reinterpret_cast<sockaddr*>(&sender), &length);
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    if (errno != ENOBUFS) return error(system_error("the kernel's device events: receive", errno));
    event = PciEvent{};
    return true;
  }
  // Processes may send here, too; and what did not fit cannot be understood.
  if (sender.nl_pid != 0) return true;
  if (static_cast<size_t>(count) > bytes.size()) {
    event = PciEvent{};
    return true;
  }
  event = parse_kernel_event(std::span(bytes).first(static_cast<size_t>(count)));
  return true;
}

Result<std::optional<PciEvent>> PciMonitor::next(Duration timeout) {
  using std::chrono::steady_clock;
  const auto forever = timeout > std::chrono::hours(24 * 365);
  const auto end = steady_clock::now() + (forever ? Duration::zero() : timeout);
  std::optional<PciEvent> event;
  while (true) {
    BASALT_TRY_ASSIGN(const bool received, receive(event));
    if (event) return event;
    if (received) continue;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - steady_clock::now());
    if (!forever && left.count() <= 0) return event;
    pollfd readable{socket_.get(), POLLIN, 0};
    const auto most = std::chrono::milliseconds(std::chrono::minutes(1));
    const auto wait = static_cast<int>((forever ? most : std::min(left, most)).count());
    if (::poll(&readable, 1, wait) < 0 && errno != EINTR) {
      return error(system_error("the kernel's device events: poll", errno));
    }
  }
}

}  // namespace basalt::nvme
