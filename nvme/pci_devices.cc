// Finding: sysfs as PciDevice. What cannot be read is left at its default, because a function can go at any
// time. Binding is in pci_binding.cc.
#include "nvme/pci_devices.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "base/try.h"
#include "nvme/hex.h"

namespace basalt::nvme {
namespace {

namespace fs = std::filesystem;

// Names in a folder, ascending; none when it cannot be read.
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator at(folder, failed), end; !failed && at != end; at.increment(failed)) {
    names.push_back(at->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The last part of a symbolic link's target; empty: no link.
std::string link_target_name(const std::string& path) {
  std::error_code failed;
  return fs::read_symlink(path, failed).filename().string();
}

template <typename T>
std::optional<T> parse_number(std::string_view text, int base) {
  if (base == 16 && text.starts_with("0x")) text.remove_prefix(2);
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <typename T>
T read_number(const std::string& path, int base, T otherwise) {
  std::ifstream file(path);
  std::string text;
  file >> text;
  return parse_number<T>(text, base).value_or(otherwise);
}

// The mount table writes space, tab, newline and backslash as three octal digits.
std::string unescape(std::string_view text) {
  std::string result;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool escape = text[at] == '\\' && text.size() - at > 3;
    const auto code =
        escape ? parse_number<unsigned char>(text.substr(at + 1, 3), 8) : std::nullopt;
    result += code ? static_cast<char>(*code) : text[at];
    if (code) at += 3;
  }
  return result;
}

// A block device's name as it stands in the first column of /proc/mounts: links (/dev/disk/by-uuid/…) are
// followed.
std::string device_name(const std::string& source) {
  std::error_code failed;
  const fs::path real = fs::canonical(source, failed);
  return (failed ? fs::path(source) : real).filename().string();
}

// "nvme2n1" for itself, and for "nvme2c0n1", which is one path of several to it and not a device to open. Empty
// for what is no namespace.
std::string namespace_name(std::string_view name) {
  const auto digits = [&](size_t from) {
    const size_t end = name.find_first_not_of("0123456789", from);
    return std::min(end, name.size());
  };
  if (!name.starts_with("nvme")) return {};
  const size_t subsystem = digits(4);
  size_t rest = subsystem;
  if (name.substr(rest).starts_with('c')) rest = digits(rest + 1);
  if (subsystem == 4 || !name.substr(rest).starts_with('n')) return {};
  if (rest + 1 == name.size() || digits(rest + 1) != name.size()) return {};
  return std::string(name.substr(0, subsystem)) + std::string(name.substr(rest));
}

}  // namespace

Status check_pci_address(std::string_view bdf) {
  const auto is_hex = [](std::string_view text) {
    return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  };
  // Domains have four digits or more ("10000:e1:00.0" behind Intel's VMD); what follows has always eight.
  constexpr size_t kTail = std::string_view(":00:04.0").size();
  bool good = bdf.size() >= 4 + kTail && bdf.size() <= 8 + kTail;
  if (good) {
    const std::string_view tail = bdf.substr(bdf.size() - kTail);
    good = is_hex(bdf.substr(0, bdf.size() - kTail)) && tail[0] == ':' &&
           is_hex(tail.substr(1, 2)) && tail[3] == ':' && (tail[4] == '0' || tail[4] == '1') &&
           is_hex(tail.substr(5, 1)) && tail[6] == '.' && tail[7] >= '0' && tail[7] <= '7';
  }
  if (good) return {};
  std::string message = "'";
  message += bdf;
  message +=
      "' is not a PCI address; write domain, bus, device and function in lower-case hex digits, as "
      "in 0000:00:04.0";
  return Status(StatusCode::invalid_argument, std::move(message));
}

Status not_nvme(const PciDevice& device) {
  return Status(StatusCode::invalid_argument,
                device.address + ": a PCI function of class " + hex(device.class_code, 6) +
                    " (vendor " + hex(device.vendor_id, 4) + ", device " +
                    hex(device.device_id, 4) + ") is not an NVMe controller, whose class is " +
                    hex(kNvmeClass, 6));
}

PciDevices::PciDevices(PciPaths paths) : paths_(std::move(paths)) {}

std::string PciDevices::folder(std::string_view bdf) const {
  return paths_.sysfs + "/bus/pci/devices/" + std::string(bdf);
}

Result<std::vector<PciDevice>> PciDevices::list() const {
  std::error_code failed;
  if (!fs::is_directory(folder(""), failed)) {
    return error(
        StatusCode::unsupported,
        folder("") +
            ": no such folder, so there is no PCI bus to look at, or sysfs is not mounted");
  }
  std::vector<PciDevice> devices;
  for (std::string& name : names_in(folder(""))) {
    PciDevice device = read_device(std::move(name));
    if (device.class_code >> 8 == kNvmeClass >> 8) devices.push_back(std::move(device));
  }
  return devices;
}

Result<PciDevice> PciDevices::find(std::string_view bdf) const {
  BASALT_TRY(check_pci_address(bdf));
  std::error_code failed;
  if (!fs::exists(folder(bdf), failed)) {
    return error(
        StatusCode::not_found,
        std::string(bdf) +
            ": there is no such PCI function; `basalt nvme list` shows the NVMe controllers");
  }
  return read_device(std::string(bdf));
}

std::vector<PciDevice> PciDevices::group_members(uint32_t group) const {
  std::vector<PciDevice> devices;
  const std::string members =
      paths_.sysfs + "/kernel/iommu_groups/" + std::to_string(group) + "/devices";
  for (std::string& name : names_in(members)) devices.push_back(read_device(std::move(name)));
  return devices;
}

PciDevice PciDevices::read_device(std::string address) const {
  const std::string path = folder(address);
  PciDevice device;
  device.address = std::move(address);
  device.vendor_id = read_number<uint16_t>(path + "/vendor", 16, 0);
  device.device_id = read_number<uint16_t>(path + "/device", 16, 0);
  device.class_code = read_number<uint32_t>(path + "/class", 16, 0);
  device.driver = link_target_name(path + "/driver");
  device.iommu_group = parse_number<uint32_t>(link_target_name(path + "/iommu_group"), 10);
  device.numa_node = read_number<int>(path + "/numa_node", 10, -1);
  device.block_devices = block_devices(path);
  return device;
}

// The controller's class device is nvme/nvmeN, and its namespaces are in there.
std::vector<PciBlockDevice> PciDevices::block_devices(const std::string& path) const {
  std::vector<std::string> names;
  for (const std::string& controller : names_in(path + "/nvme")) {
    for (const std::string& entry : names_in(path + "/nvme/" + controller)) {
      if (std::string name = namespace_name(entry); !name.empty()) {
        names.push_back(std::move(name));
      }
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<PciBlockDevice> devices;
  for (std::string& name : names) {
    std::vector<std::string> name_users = users(name);
    devices.push_back({std::move(name), std::move(name_users)});
  }
  return devices;
}

std::vector<std::string> PciDevices::users(const std::string& block_device) const {
  const std::string block = paths_.sysfs + "/block/" + block_device;
  std::vector<std::string> parts{block_device};
  for (const std::string& entry : names_in(block)) {
    if (entry.starts_with(block_device + "p")) parts.push_back(entry);
  }
  const auto is_part = [&](const std::string& name) {
    return std::find(parts.begin(), parts.end(), name) != parts.end();
  };

  std::vector<std::string> result;
  std::ifstream mounts(paths_.mounts);
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream columns(line);
    std::string source, mount_point;
    columns >> source >> mount_point;
    const std::string name = device_name(unescape(source));
    if (is_part(name)) result.push_back(name + " is mounted at " + unescape(mount_point));
  }
  std::ifstream swaps(paths_.swaps);
  for (std::string line; std::getline(swaps, line);) {
    const std::string name = device_name(unescape(line.substr(0, line.find_first_of(" \t"))));
    if (is_part(name)) result.push_back(name + " is used as swap");
  }
  for (const std::string& part : parts) {
    const std::string holders = block + (part == block_device ? "" : "/" + part) + "/holders";
    for (const std::string& holder : names_in(holders)) {
      result.push_back(part + " is used by " + holder);
    }
  }
  return result;
}

}  // namespace basalt::nvme
