// The memory page the driver and its controllers deal in, and the longest command.
#pragma once

#include <cstdint>

namespace basalt::nvme {

inline constexpr uint32_t kPageBytes = 4096;
// Longer commands would need longer PRP lists for every place in every queue.
inline constexpr uint64_t kMaxTransferBytes = uint64_t{1} << 20;

}  // namespace basalt::nvme
