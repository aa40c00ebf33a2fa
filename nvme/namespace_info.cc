// See namespace_info.h.
#include "nvme/namespace_info.h"

#include <algorithm>
#include <string>

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
  if ((data.features & kNamespaceAtomicity) != 0) {
    if (data.atomic_write_unit_power_fail != 0) {
      info.atomic_write_blocks = data.atomic_write_unit_power_fail + 1u;
    }
    if (data.atomic_boundary_power_fail != 0) {
      info.atomic_boundary_blocks = data.atomic_boundary_power_fail + 1u;
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

}  // namespace basalt::nvme
