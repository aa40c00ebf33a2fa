// The messages of the vfio-user protocol: their layout, and what is checked of those a server sends.
//
// vfio-user specification 0.9 (QEMU, docs/interop/vfio-user.rst), "Protocol Specification"; the structs are
// those of <linux/vfio.h> without its pointers. The specification says "the host's byte order", and its older
// edition little-endian; both ends share memory and so a machine, and every machine that Basalt runs on is
// little-endian. Version 0.1 is proposed: 0.2 adds nothing that is used here.
//
// Each parse_…() takes the bytes after the header of a reply that foreign code wrote, reads nothing beyond
// them, and answers corruption naming the field, its value and what was expected. No sockets, no state, no
// files: any thread, and test/fuzz/vfio_user_fuzz.cc.
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/endian.h"

namespace basalt::nvme::vfio_user {

enum class Command : uint16_t {
  version = 1,
  dma_map = 2,
  dma_unmap = 3,
  device_get_info = 4,
  device_get_region_info = 5,
  device_get_irq_info = 7,
  device_set_irqs = 8,
  region_read = 9,
  region_write = 10,
  dma_read = 11,   // from the server
  dma_write = 12,  // from the server
  device_reset = 13,
};
// As the specification writes it, without VFIO_USER_: "DMA_MAP"; "command 77" for what it does not have.
std::string to_string(Command command);
// "0x10802", for messages.
std::string hex(uint64_t value);

struct Header {
  le16 message_id;
  le16 command;
  le32 message_bytes;  // with this header
  le32 flags;
  le32 error;  // an errno, in replies with kError
};
inline constexpr uint32_t kTypeMask = 0xf, kTypeRequest = 0, kTypeReply = 1, kNoReply = 1 << 4,
                          kError = 1 << 5;

struct Version {
  le16 major;
  le16 minor;
  // JSON follows, with its final NUL.
};
inline constexpr uint16_t kMajor = 0, kMinor = 1;

struct DmaMap {
  le32 argument_bytes;
  le32 flags;
  le64 file_offset;
  le64 address;
  le64 bytes;
};
inline constexpr uint32_t kDmaReadable = 1, kDmaWritable = 2;

struct DmaUnmap {
  le32 argument_bytes;
  le32 flags;
  le64 address;
  le64 bytes;
};

struct DeviceInfo {
  le32 argument_bytes;
  le32 flags;
  le32 region_count;
  le32 interrupt_index_count;
};
inline constexpr uint32_t kDeviceResets = 1, kDeviceIsPci = 2;

struct RegionInfo {
  le32 argument_bytes;
  le32 flags;
  le32 index;
  le32 capability_offset;  // from the start of this struct
  le64 bytes;
  le64 file_offset;
};
inline constexpr uint32_t kRegionReadable = 1, kRegionWritable = 2, kRegionShared = 4,
                          kRegionCapabilities = 8;
inline constexpr uint32_t kBar0 = 0, kConfigSpace = 7;

struct CapabilityHeader {
  le16 id;
  le16 version;
  le32 next;  // from the start of the RegionInfo; 0: the last
};
inline constexpr uint16_t kSparseAreas = 1;
struct SparseAreas {
  CapabilityHeader header;
  le32 area_count;
  le32 reserved;
  // area_count of these follow.
  struct Area {
    le64 offset;
    le64 bytes;
  };
};

struct InterruptInfo {
  le32 argument_bytes;
  le32 flags;
  le32 index;
  le32 count;
};
inline constexpr uint32_t kInterruptEventFd = 1, kInterruptsSetTogether = 8;
inline constexpr uint32_t kMsix = 2;

struct InterruptSet {
  le32 argument_bytes;
  le32 flags;
  le32 index;
  le32 first;
  le32 count;
};
inline constexpr uint32_t kSetNoData = 1, kSetEventFds = 4, kSetTrigger = 32;

struct RegionAccess {
  le64 offset;
  le32 index;
  le32 bytes;
  // The data follow, in a write's request and a read's reply.
};

static_assert(sizeof(Header) == 16 && offsetof(Header, flags) == 8);
static_assert(sizeof(Version) == 4);
static_assert(sizeof(DmaMap) == 32 && offsetof(DmaMap, address) == 16);
static_assert(sizeof(DmaUnmap) == 24 && offsetof(DmaUnmap, address) == 8);
static_assert(sizeof(DeviceInfo) == 16);
static_assert(sizeof(RegionInfo) == 32 && offsetof(RegionInfo, bytes) == 16);
static_assert(sizeof(CapabilityHeader) == 8 && sizeof(SparseAreas) == 16);
static_assert(sizeof(SparseAreas::Area) == 16);
static_assert(sizeof(InterruptInfo) == 16 && sizeof(InterruptSet) == 20);
static_assert(sizeof(RegionAccess) == 16 && offsetof(RegionAccess, bytes) == 12);
static_assert(std::has_unique_object_representations_v<Header> &&
              std::has_unique_object_representations_v<RegionInfo> &&
              std::has_unique_object_representations_v<InterruptSet>);

// ---- Limits. What is beyond them is refused before anything is allocated for it.
inline constexpr uint32_t kMaxDataBytes = 1 << 20;  // of one region or DMA access, as announced
inline constexpr uint32_t kMaxMessageBytes = kMaxDataBytes + 4096;
inline constexpr uint32_t kMaxMessageFds = 8;               // that are received; as announced
inline constexpr uint32_t kMaxSentFds = 253;                // SCM_MAX_FD of the kernel
inline constexpr uint32_t kMaxVersionBytes = 16 << 10;      // of the JSON
inline constexpr uint32_t kFirstRegionInfoBytes = 4 << 10;  // asked for at first
inline constexpr uint32_t kMaxRegionInfoBytes = 64 << 10;   // and at most
inline constexpr uint32_t kMaxInterrupts = 2048;            // of MSI-X, PCI 3.0 §6.8.2
inline constexpr uint32_t kPageBytes = 4096;

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1);
  return std::as_bytes(std::span(&value, 1));
}

// ---- Received messages
// The header alone: a length within the limits, a type there is, an error only in a reply.
Result<Header> parse_header(std::span<const std::byte> bytes);
// Whether it heads the reply to request `message_id`.
Status check_reply(const Header& header, uint16_t message_id, Command command);

// What both ends can do, from the reply to VERSION. Capabilities that are not there have the specification's
// default, unknown ones are ignored.
struct Negotiated {
  uint16_t minor = 0;
  uint32_t max_message_fds = 1;  // that the server receives; at most kMaxSentFds
  uint64_t max_data_bytes = 1 << 20;
  uint64_t max_dma_maps = 65535;
  uint64_t page_sizes = 4096;  // those of DMA mappings, or'ed together
  uint64_t smallest_page() const { return page_sizes & (~page_sizes + 1); }
};
Result<Negotiated> parse_version(std::span<const std::byte> payload);
// The payload of the request, JSON and NUL included.
std::vector<std::byte> version_request();

Result<DeviceInfo> parse_device_info(std::span<const std::byte> payload);

struct Region {
  uint32_t flags = 0;
  uint64_t bytes = 0;
  uint64_t file_offset = 0;  // of the region's start in the file shared with it
  // Parts that can be mapped, by offset: inside the region, not empty, each starting a page. All of the
  // region when it is shared without a list.
  struct Area {
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };
  std::vector<Area> areas;
  // More than 0: the reply was cut short, and a request for this many bytes gets all of it.
  uint32_t needed_bytes = 0;
};
// `asked_bytes`: what the request allowed the reply to have.
Result<Region> parse_region_info(std::span<const std::byte> payload, uint32_t index,
                                 uint32_t asked_bytes);
// Up to where the region is shared without a gap from `offset` on; `offset` itself when it is not.
uint64_t shared_end(const Region& region, uint64_t offset);

Result<InterruptInfo> parse_interrupt_info(std::span<const std::byte> payload, uint32_t index);

// The reply to a read or write of a region; answers the data, `request.bytes` of them for a read and none for
// a write.
Result<std::span<const std::byte>> parse_region_access(std::span<const std::byte> payload,
                                                       Command command,
                                                       const RegionAccess& request);

}  // namespace basalt::nvme::vfio_user
