// Goal: the parsers of vfio-user messages answer any bytes with a value or a sentence, and what they accept keeps
// its promises: areas inside the region, at whole pages and in order; counts within the limits; data of the size
// that was asked for. The first byte chooses the message, the rest is its payload (the header for 0).
#include <cstdint>
#include <cstdlib>
#include <span>

#include "nvme/vfio_user/protocol.h"

namespace {

using namespace basalt::nvme::vfio_user;

void require(bool condition) {
  if (!condition) std::abort();
}

template <typename T>
bool accepted(const basalt::Result<T>& result) {
  require(result.has_value() || !result.error().message().empty());
  return result.has_value();
}

void region_info(std::span<const std::byte> payload) {
  const auto region = parse_region_info(payload, kBar0, kFirstRegionInfoBytes);
  if (!accepted(region)) return;
  require(region->needed_bytes == 0 || region->needed_bytes > kFirstRegionInfoBytes);
  require(region->needed_bytes <= kMaxRegionInfoBytes);
  uint64_t before = 0;
  for (const Region::Area& area : region->areas) {
    require(area.bytes != 0 && area.offset % kPageBytes == 0 && area.offset >= before);
    require(area.offset <= region->bytes && area.bytes <= region->bytes - area.offset);
    require(region->file_offset + area.offset + area.bytes >= area.bytes);
    before = area.offset;
  }
  const uint64_t end = shared_end(*region, 4096);
  require(end == 4096 || (end > 4096 && end <= region->bytes));
}

void region_access(std::span<const std::byte> payload, Command command, uint32_t bytes) {
  const RegionAccess request{.offset = uint64_t{0x28}, .index = uint32_t{kBar0}, .bytes = bytes};
  const auto data = parse_region_access(payload, command, request);
  if (accepted(data)) require(data->size() == (command == Command::region_read ? bytes : 0));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto payload = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0]) {
    case 0:
      if (const auto header = parse_header(payload); accepted(header)) {
        require(header->message_bytes >= sizeof(Header) &&
                header->message_bytes <= kMaxMessageBytes);
        const basalt::Status status = check_reply(*header, 1, Command::region_read);
        require(status.ok() || !status.message().empty());
      }
      break;
    case 1:
      if (const auto negotiated = parse_version(payload); accepted(negotiated)) {
        require(negotiated->max_message_fds <= kMaxSentFds && negotiated->smallest_page() != 0);
      }
      break;
    case 4: accepted(parse_device_info(payload)); break;
    case 5: region_info(payload); break;
    case 7:
      if (const auto info = parse_interrupt_info(payload, kMsix); accepted(info)) {
        require(info->count <= kMaxInterrupts && info->index == kMsix);
      }
      break;
    case 9: region_access(payload, Command::region_read, 8); break;
    case 10: region_access(payload, Command::region_write, 4); break;
    default: break;
  }
  return 0;
}
