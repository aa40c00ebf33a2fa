// NVMe over Fabrics: the commands that take the place of registers and queue creation, and discovery.
//
// NVM Express base specification 2.0: fabrics commands (§6), Connect (§6.3), properties (§6.4, §6.5), the discovery
// log page (§5.16.1.23). All fabrics commands are AdminOpcode::fabrics, on whichever queue they are sent; what kind
// they are is the lowest byte of Command::nsid. Everything is little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "base/endian.h"
#include "wire/nvme/command.h"
#include "wire/nvme/registers.h"
#include "wire/nvme/status.h"

namespace basalt::nvme {

enum class FabricsType : uint8_t {
  property_set = 0x00,
  connect = 0x01,
  property_get = 0x04,
  auth_send = 0x05,
  auth_receive = 0x06,
  disconnect = 0x08,
};

// Every subsystem that only tells where others are has this name.
inline constexpr std::string_view kDiscoveryNqn = "nqn.2014-08.org.nvmexpress.discovery";
inline constexpr size_t kMaxNqnBytes = 223;

inline constexpr uint16_t kAnyController =
    0xffff;  // ConnectData::controller_id: the subsystem picks

// What Connect carries.
struct ConnectData {
  uint8_t host_id[16];
  le16 controller_id;
  uint8_t reserved18[238];
  char subsystem_nqn[256];  // UTF-8, ends with a zero byte
  char host_nqn[256];
  uint8_t reserved768[256];
};
static_assert(sizeof(ConnectData) == 1024 && offsetof(ConnectData, subsystem_nqn) == 256 &&
              offsetof(ConnectData, host_nqn) == 512);

inline constexpr uint32_t kWantsAuthentication = 1u << 17;
// Word 0 of Connect's completion: the controller's id, and what it wants first.
struct ConnectResult {
  uint32_t value = 0;
  constexpr uint16_t controller_id() const { return static_cast<uint16_t>(value & 0xffff); }
  constexpr bool wants_authentication() const { return (value & 3u << 17) != 0; }
  constexpr bool wants_secure_channel() const { return (value & 1u << 18) != 0; }
};
// The same word after kConnectInvalidParameters: which field was wrong.
struct ConnectFault {
  uint32_t value = 0;
  constexpr uint16_t offset() const { return static_cast<uint16_t>(value & 0xffff); }
  constexpr bool in_data() const { return (value >> 16 & 1) != 0; }
};

// Command specific codes of fabrics commands, where other commands have other meanings for the same numbers.
inline constexpr CompletionStatus kConnectIncompatibleFormat{1, 0x80},
    kConnectControllerBusy{1, 0x81}, kConnectInvalidParameters{1, 0x82},
    kConnectRestartDiscovery{1, 0x83}, kConnectInvalidHost{1, 0x84},
    kAuthenticationRequired{1, 0x91};

constexpr Command fabrics_command(FabricsType type) {
  Command command;
  command.opcode = static_cast<uint8_t>(AdminOpcode::fabrics);
  command.flags = kDataIsSgl;
  command.nsid = static_cast<uint32_t>(type);
  return command;
}
inline FabricsType fabrics_type(const Command& command) {
  return static_cast<FabricsType>(command.nsid & 0xff);
}
// `entries` of the submission queue; keep-alive timeout in milliseconds, on the admin queue alone (0: none).
constexpr Command connect_command(uint16_t queue_id, uint32_t entries, uint32_t keep_alive_ms) {
  Command command = fabrics_command(FabricsType::connect);
  command.cdw10 = uint32_t{queue_id} << 16;
  command.cdw11 = entries - 1;
  command.cdw12 = keep_alive_ms;
  return command;
}
// Properties are 4 bytes long, or 8 (`wide`).
constexpr Command property_get_command(Register which, bool wide) {
  Command command = fabrics_command(FabricsType::property_get);
  command.cdw10 = wide ? 1 : 0;
  command.cdw11 = static_cast<uint32_t>(which);
  return command;
}
constexpr Command property_set_command(Register which, uint32_t value) {
  Command command = fabrics_command(FabricsType::property_set);
  command.cdw11 = static_cast<uint32_t>(which);
  command.cdw12 = value;
  return command;
}

// Which way a command's data goes: from the host, to it, or not at all. Its opcode says so, and for fabrics
// commands their type.
enum class DataDirection : uint8_t { none = 0, to_controller = 1, to_host = 2, both = 3 };
inline DataDirection data_direction(const Command& command) {
  const bool fabrics = command.opcode == static_cast<uint8_t>(AdminOpcode::fabrics);
  return static_cast<DataDirection>((fabrics ? command.nsid & 0xff : command.opcode) & 3);
}

// ---- Discovery: a header, then `count` entries.

enum class TransportType : uint8_t { rdma = 1, fibre_channel = 2, tcp = 3, loop = 254 };
enum class AddressFamily : uint8_t { ipv4 = 1, ipv6 = 2, infiniband = 3, fibre_channel = 4 };
enum class SubsystemType : uint8_t { referral = 1, nvm = 2, current_discovery = 3 };

struct DiscoveryHeader {
  le64 generation;  // changes with the entries
  le64 count;
  le16 format;  // 0
  uint8_t reserved18[1006];
};
inline constexpr uint8_t kSecureChannelRequired = 1, kSecureChannelNotRequired = 2;
inline constexpr uint8_t kTls13 = 2;
struct DiscoveryEntry {
  uint8_t transport;       // TransportType
  uint8_t address_family;  // AddressFamily
  uint8_t subsystem_type;  // SubsystemType
  uint8_t requirements;    // bits 1:0: whether a secure channel is
  le16 port_id;
  le16 controller_id;  // kAnyController: the subsystem picks
  le16 admin_queue_entries;
  le16 flags;
  uint8_t reserved12[20];
  char service[32];  // port number; ASCII, padded with spaces or zeroes, like `address`
  uint8_t reserved64[192];
  char subsystem_nqn[256];
  char address[256];
  uint8_t specific[256];  // TCP: byte 0: 0 no TLS, 1 TLS 1.2, kTls13
};
static_assert(sizeof(DiscoveryHeader) == 1024 && sizeof(DiscoveryEntry) == 1024 &&
              offsetof(DiscoveryEntry, service) == 32 &&
              offsetof(DiscoveryEntry, subsystem_nqn) == 256 &&
              offsetof(DiscoveryEntry, address) == 512 &&
              std::has_unique_object_representations_v<DiscoveryEntry>);

}  // namespace basalt::nvme
