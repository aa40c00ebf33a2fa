// See protocol.h. Each parser copies the fixed part out first, so nothing is read twice or unaligned.
#include "nvme/vfio_user/protocol.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/try.h"

namespace basalt::nvme::vfio_user {
namespace {

// Converts to a Status and to every Result.
detail::TryError malformed(Command command, const std::string& what) {
  return detail::TryError(
      Status(StatusCode::corruption, "reply to " + to_string(command) + ": " + what));
}

// "major version is 3; expected 0"
std::string field(std::string_view name, uint64_t value, std::string_view expected) {
  return std::string(name) + " is " + std::to_string(value) + "; expected " + std::string(expected);
}

template <typename T>
Result<T> fixed_part(std::span<const std::byte> payload, Command command) {
  if (payload.size() < sizeof(T)) {
    return malformed(command, field("payload size", payload.size(),
                                    "at least " + std::to_string(sizeof(T)) + " B"));
  }
  T value;
  std::memcpy(&value, payload.data(), sizeof value);
  return value;
}

using Json = nlohmann::json;

// Reads capability `name` into `out`, which stays as it is when there is none.
Status read_capability(const Json& capabilities, const char* name, uint64_t& out) {
  const auto at = capabilities.find(name);
  if (at == capabilities.end()) return {};
  if (!at->is_number_unsigned()) {
    return malformed(Command::version,
                     "capability " + std::string(name) + " is no whole number of at least 0");
  }
  out = at->get<uint64_t>();
  return {};
}

// The areas of one sparse mmap capability, which starts at `offset` of the payload.
Status read_areas(std::span<const std::byte> payload, uint32_t offset, Region& region) {
  constexpr Command kCommand = Command::device_get_region_info;
  BASALT_TRY_ASSIGN(const auto list, fixed_part<SparseAreas>(payload.subspan(offset), kCommand));
  const size_t room = (payload.size() - offset - sizeof list) / sizeof(SparseAreas::Area);
  if (list.area_count > room) {
    return malformed(kCommand, field("number of sparse areas", list.area_count,
                                     "at most the " + std::to_string(room) + " there is room for"));
  }
  for (uint32_t i = 0; i < list.area_count; ++i) {
    SparseAreas::Area wire;
    std::memcpy(&wire, payload.data() + offset + sizeof list + i * sizeof wire, sizeof wire);
    const Region::Area area{.offset = wire.offset, .bytes = wire.bytes};
    const std::string which = "sparse area " + std::to_string(i) + ": ";
    if (area.bytes == 0) continue;  // some servers say "nothing" so
    if (area.offset > region.bytes || area.bytes > region.bytes - area.offset) {
      return malformed(kCommand,
                       which + field("size", area.bytes,
                                     "to end within the region's " + std::to_string(region.bytes) +
                                         " B from offset " + std::to_string(area.offset)));
    }
    if (area.offset % kPageBytes != 0) {
      return malformed(kCommand, which + field("offset", area.offset, "whole pages of 4096 B"));
    }
    region.areas.push_back(area);
  }
  return {};
}

// Walks the list of capabilities. Each must lie behind the one before it, so that the walk ends.
Status read_capabilities(std::span<const std::byte> payload, uint32_t first, Region& region,
                         bool& listed) {
  constexpr Command kCommand = Command::device_get_region_info;
  uint32_t earliest = sizeof(RegionInfo);
  for (uint32_t offset = first; offset != 0;) {
    if (offset < earliest || offset > payload.size() - sizeof(CapabilityHeader)) {
      return malformed(kCommand, field("capability offset", offset,
                                       "from " + std::to_string(earliest) + " up to the reply's " +
                                           std::to_string(payload.size()) + " B"));
    }
    CapabilityHeader header;
    std::memcpy(&header, payload.data() + offset, sizeof header);
    if (header.id == kSparseAreas && !listed) {
      BASALT_TRY(read_areas(payload, offset, region));
      listed = true;
    }
    earliest = offset + sizeof header;
    offset = header.next;
  }
  return {};
}

}  // namespace

std::string to_string(Command command) {
  switch (command) {
    case Command::version: return "VERSION";
    case Command::dma_map: return "DMA_MAP";
    case Command::dma_unmap: return "DMA_UNMAP";
    case Command::device_get_info: return "DEVICE_GET_INFO";
    case Command::device_get_region_info: return "DEVICE_GET_REGION_INFO";
    case Command::device_get_irq_info: return "DEVICE_GET_IRQ_INFO";
    case Command::device_set_irqs: return "DEVICE_SET_IRQS";
    case Command::region_read: return "REGION_READ";
    case Command::region_write: return "REGION_WRITE";
    case Command::dma_read: return "DMA_READ";
    case Command::dma_write: return "DMA_WRITE";
    case Command::device_reset: return "DEVICE_RESET";
  }
  return "command " + std::to_string(static_cast<unsigned>(command));
}

std::string hex(uint64_t value) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  do {
    text.insert(text.begin(), kDigits[value & 0xf]);
    value >>= 4;
  } while (value != 0);
  return "0x" + text;
}

Result<Header> parse_header(std::span<const std::byte> bytes) {
  const auto bad = [](const std::string& what) {
    return error(StatusCode::corruption, "message header: " + what);
  };
  if (bytes.size() < sizeof(Header)) return bad(field("size", bytes.size(), "16 B"));
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.message_bytes < sizeof(Header) || header.message_bytes > kMaxMessageBytes) {
    return bad(
        field("message size", header.message_bytes, "16 to " + std::to_string(kMaxMessageBytes)));
  }
  const uint32_t type = header.flags & kTypeMask;
  if (type != kTypeRequest && type != kTypeReply) {
    return bad(field("type", type, "0 (request) or 1 (reply)"));
  }
  if (type == kTypeRequest && (header.flags & kError) != 0) {
    return bad(field("flags", header.flags, "no error bit (32) in a request"));
  }
  return header;
}

Status check_reply(const Header& header, uint16_t message_id, Command command) {
  if (header.message_id != message_id) {
    return malformed(command, field("message id", header.message_id,
                                    std::to_string(message_id) + " (of the "
                                                                 "request that waits)"));
  }
  if (header.command != static_cast<uint16_t>(command)) {
    return malformed(
        command, field("command", header.command, std::to_string(static_cast<unsigned>(command))));
  }
  return {};
}

std::vector<std::byte> version_request() {
  const Json json = {{"capabilities",
                      {{"max_msg_fds", kMaxMessageFds},
                       {"max_data_xfer_size", kMaxDataBytes},
                       {"max_dma_maps", 65535},
                       {"pgsizes", kPageBytes}}}};
  const std::string text = json.dump();
  const Version version{.major = kMajor, .minor = kMinor};
  std::vector<std::byte> payload(sizeof version + text.size() + 1);  // the NUL is there already
  std::memcpy(payload.data(), &version, sizeof version);
  std::memcpy(payload.data() + sizeof version, text.data(), text.size());
  return payload;
}

Result<Negotiated> parse_version(std::span<const std::byte> payload) {
  constexpr Command kCommand = Command::version;
  BASALT_TRY_ASSIGN(const auto version, fixed_part<Version>(payload, kCommand));
  if (version.major != kMajor) {
    return error(StatusCode::unsupported,
                 "reply to VERSION: " + field("major version", version.major, "0"));
  }
  if (version.minor > kMinor) {
    return malformed(kCommand, field("minor version", version.minor,
                                     "at most the proposed " + std::to_string(kMinor)));
  }
  Negotiated negotiated{.minor = version.minor};
  std::span<const std::byte> text = payload.subspan(sizeof version);
  if (text.empty()) return negotiated;
  if (text.size() > kMaxVersionBytes) {
    return malformed(kCommand, field("size of the JSON", text.size(),
                                     "at most " + std::to_string(kMaxVersionBytes)));
  }
  const auto end = std::find(text.begin(), text.end(), std::byte{0});
  if (end == text.end()) return malformed(kCommand, "the JSON has no final NUL");
  const auto* begin = reinterpret_cast<const char*>(text.data());
  const Json json = Json::parse(begin, begin + (end - text.begin()), nullptr, false);
  if (!json.is_object()) return malformed(kCommand, "the version data are no JSON object");
  const auto capabilities = json.find("capabilities");
  if (capabilities == json.end()) return negotiated;
  if (!capabilities->is_object()) {
    return malformed(kCommand, std::string("capabilities are a ") + capabilities->type_name() +
                                   "; expected an object");
  }
  uint64_t fds = negotiated.max_message_fds;
  BASALT_TRY(read_capability(*capabilities, "max_msg_fds", fds));
  BASALT_TRY(read_capability(*capabilities, "max_data_xfer_size", negotiated.max_data_bytes));
  BASALT_TRY(read_capability(*capabilities, "max_dma_maps", negotiated.max_dma_maps));
  BASALT_TRY(read_capability(*capabilities, "pgsizes", negotiated.page_sizes));
  negotiated.max_message_fds = static_cast<uint32_t>(std::min<uint64_t>(fds, kMaxSentFds));
  if (negotiated.page_sizes == 0) {
    return malformed(kCommand, field("capability pgsizes", 0, "at least one page size"));
  }
  return negotiated;
}

Result<DeviceInfo> parse_device_info(std::span<const std::byte> payload) {
  constexpr Command kCommand = Command::device_get_info;
  BASALT_TRY_ASSIGN(const auto info, fixed_part<DeviceInfo>(payload, kCommand));
  if (info.region_count <= kConfigSpace && (info.flags & kDeviceIsPci) != 0) {
    return malformed(kCommand, field("number of regions", info.region_count,
                                     "at least 8, as every PCI device has"));
  }
  return info;
}

Result<Region> parse_region_info(std::span<const std::byte> payload, uint32_t index,
                                 uint32_t asked_bytes) {
  constexpr Command kCommand = Command::device_get_region_info;
  BASALT_TRY_ASSIGN(const auto info, fixed_part<RegionInfo>(payload, kCommand));
  if (info.index != index) {
    return malformed(kCommand, field("region", info.index, std::to_string(index)));
  }
  if (info.argument_bytes < sizeof info || info.argument_bytes > kMaxRegionInfoBytes) {
    return malformed(kCommand, field("argsz", info.argument_bytes,
                                     "32 to " + std::to_string(kMaxRegionInfoBytes)));
  }
  Region region;
  region.flags = info.flags;
  region.bytes = info.bytes;
  region.file_offset = info.file_offset;
  if (info.argument_bytes > payload.size()) {
    if (info.argument_bytes <= asked_bytes) {
      return malformed(kCommand, field("payload size", payload.size(),
                                       "the " + std::to_string(info.argument_bytes) +
                                           " B that argsz says, which were asked for"));
    }
    region.needed_bytes = info.argument_bytes;
    return region;
  }
  bool listed = false;
  if ((info.flags & kRegionCapabilities) != 0) {
    BASALT_TRY(read_capabilities(payload.first(info.argument_bytes), info.capability_offset, region,
                                 listed));
  }
  if ((info.flags & kRegionShared) == 0) {
    region.areas.clear();
    return region;
  }
  if (!listed && region.bytes != 0) region.areas.push_back({0, region.bytes});
  std::sort(region.areas.begin(), region.areas.end(),
            [](const Region::Area& a, const Region::Area& b) { return a.offset < b.offset; });
  if (info.file_offset % kPageBytes != 0 || info.file_offset > ~uint64_t{0} - info.bytes) {
    return malformed(kCommand, field("offset", info.file_offset,
                                     "whole pages of 4096 B, and to stay below 2^64 with the "
                                     "region's size"));
  }
  return region;
}

uint64_t shared_end(const Region& region, uint64_t offset) {
  uint64_t end = offset;
  for (const Region::Area& area : region.areas) {
    if (area.offset <= end) end = std::max(end, area.offset + area.bytes);
  }
  return end;
}

Result<InterruptInfo> parse_interrupt_info(std::span<const std::byte> payload, uint32_t index) {
  constexpr Command kCommand = Command::device_get_irq_info;
  BASALT_TRY_ASSIGN(const auto info, fixed_part<InterruptInfo>(payload, kCommand));
  if (info.index != index) {
    return malformed(kCommand, field("index", info.index, std::to_string(index)));
  }
  if (info.count > kMaxInterrupts) {
    return malformed(kCommand,
                     field("count", info.count, "at most " + std::to_string(kMaxInterrupts)));
  }
  return info;
}

Result<std::span<const std::byte>> parse_region_access(std::span<const std::byte> payload,
                                                       Command command,
                                                       const RegionAccess& request) {
  BASALT_TRY_ASSIGN(const auto access, fixed_part<RegionAccess>(payload, command));
  if (access.offset != request.offset) {
    return malformed(command, field("offset", access.offset, std::to_string(request.offset)));
  }
  if (access.index != request.index) {
    return malformed(command, field("region", access.index, std::to_string(request.index)));
  }
  if (access.bytes != request.bytes) {
    return malformed(command, field("count", access.bytes, std::to_string(request.bytes)));
  }
  const std::span<const std::byte> data = payload.subspan(sizeof access);
  if (command == Command::region_write) return data.first(0);
  if (data.size() < request.bytes) {
    return malformed(command,
                     field("size of the data", data.size(), std::to_string(request.bytes) + " B"));
  }
  return data.first(request.bytes);
}

}  // namespace basalt::nvme::vfio_user
