// See namespace_info.h.
#include "nvme/namespace_info.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "wire/nvme/admin.h"

namespace basalt::nvme {

Result<NamespaceInfo> namespace_info(uint32_t nsid, const IdentifyController& controller,
                                     const IdentifyNamespace& data) {
  const std::string name = "namespace " + std::to_string(nsid) + ": ";
  if (data.size == 0) return error(StatusCode::not_found, name + "is not active");
  const unsigned index = format_index(data);
  if (index > data.format_count) {
    return error(StatusCode::corruption, name + "uses format " + std::to_string(index) +
                                             " of the " + std::to_string(data.format_count + 1) +
                                             " it says it has");
  }
  const LbaFormat& format = data.formats[index];
  if (format.data_shift < 9 || format.data_shift > 16) {
    return error(StatusCode::unsupported, name + "has blocks of 2^" +
                                              std::to_string(format.data_shift) +
                                              " B; this driver takes 512 B to 64 KiB");
  }
  NamespaceInfo info;
  info.nsid = nsid;
  info.block_count = data.size;
  info.block_bytes = 1u << format.data_shift;
  if (info.block_count > UINT64_MAX >> format.data_shift) {
    return error(StatusCode::corruption, name + "says it has " + std::to_string(info.block_count) +
                                             " blocks, more bytes than 64 bits count");
  }
  info.metadata_bytes = format.metadata_bytes;
  info.metadata_interleaved = info.metadata_bytes != 0 && (data.format & 0x10) != 0;
  info.protection_type = data.protection & 7;
  // The controller's units hold for every namespace that does not have its own.
  info.atomic_write_blocks = controller.atomic_write_unit_power_fail + 1u;
  if ((controller.fused_operations & kFusesCompareAndWrite) != 0) {
    info.compare_and_write_blocks = controller.atomic_compare_and_write_unit + 1u;
  }
  if ((data.features & kNamespaceAtomicity) != 0) {
    if (data.atomic_write_unit_power_fail != 0) {
      info.atomic_write_blocks = data.atomic_write_unit_power_fail + 1u;
    }
    if (data.atomic_boundary_power_fail != 0) {
      info.atomic_boundary_blocks = data.atomic_boundary_power_fail + 1u;
    }
    if (info.compare_and_write_blocks != 0 && data.atomic_compare_and_write_unit != 0) {
      info.compare_and_write_blocks = data.atomic_compare_and_write_unit + 1u;
    }
    // One block crosses no boundary.
    if (data.atomic_boundary_size != 0) {
      info.compare_and_write_blocks = std::min(info.compare_and_write_blocks, 1u);
    }
    // An offset of the boundaries shifts them against the blocks: what fits between two is then all
    // that is sure wherever a write begins at a multiple of its size.
    if (data.atomic_boundary_offset != 0) info.atomic_write_blocks = 1;
  }
  info.optimal_io_blocks = data.optimal_io_boundary;
  std::copy(std::begin(data.nguid), std::end(data.nguid), info.nguid.begin());
  std::copy(std::begin(data.eui64), std::end(data.eui64), info.eui64.begin());
  return info;
}

Status add_descriptors(NamespaceInfo& info, std::span<const std::byte> descriptors) {
  while (descriptors.size() >= sizeof(NamespaceDescriptor)) {
    NamespaceDescriptor descriptor;
    std::memcpy(static_cast<void*>(&descriptor), descriptors.data(), sizeof descriptor);
    if (descriptor.type == 0) break;
    descriptors = descriptors.subspan(sizeof descriptor);
    const auto type = static_cast<NamespaceIdType>(descriptor.type);
    if (descriptor.bytes == 0 || descriptor.bytes > descriptors.size() ||
        (type == NamespaceIdType::uuid && descriptor.bytes != info.uuid.size())) {
      return {StatusCode::corruption, "namespace " + std::to_string(info.nsid) +
                                          ": a descriptor of type " +
                                          std::to_string(descriptor.type) + " says it has " +
                                          std::to_string(descriptor.bytes) + " B"};
    }
    if (type == NamespaceIdType::command_set) {
      info.command_set = static_cast<CommandSet>(descriptors[0]);
    } else if (type == NamespaceIdType::uuid) {
      std::memcpy(info.uuid.data(), descriptors.data(), info.uuid.size());
    }
    descriptors = descriptors.subspan(descriptor.bytes);
  }
  return {};
}

bool has_same_identity(const NamespaceInfo& before, const NamespaceInfo& now) {
  return before.command_set == now.command_set && before.block_bytes == now.block_bytes &&
         before.metadata_bytes == now.metadata_bytes &&
         before.protection_type == now.protection_type && before.nguid == now.nguid &&
         before.eui64 == now.eui64 && before.uuid == now.uuid;
}

bool is_same_namespace(const NamespaceInfo& before, const NamespaceInfo& now) {
  return has_same_identity(before, now) && before.block_count <= now.block_count;
}

Status add_zones(NamespaceInfo& info, const IdentifyNamespace& data,
                 const IdentifyZonedNamespace& zoned) {
  const unsigned index = format_index(data) & 63;
  info.zone_blocks = zoned.formats[index].zone_blocks;
  if (info.zone_blocks == 0 || info.zone_blocks > info.block_count) {
    return {StatusCode::corruption, "namespace " + std::to_string(info.nsid) + ": has " +
                                        std::to_string(info.block_count) + " blocks in zones of " +
                                        std::to_string(info.zone_blocks)};
  }
  // Minus one, and all ones without a limit: both come out right by wrapping round.
  info.max_active_zones = zoned.max_active + 1u;
  info.max_open_zones = zoned.max_open + 1u;
  return {};
}

}  // namespace basalt::nvme
