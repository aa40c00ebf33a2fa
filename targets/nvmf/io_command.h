// The NVM command set's commands as a device's.
//
// NVM command set specification 1.0, §3. A command may take several device commands (ranges of Dataset Management and Copy,
// Verify in portions): prepare_io() makes the first, next_io() each of the others. Pure functions of what they are given.
#pragma once

#include "targets/nvmf/namespace.h"
#include "targets/nvmf/request.h"

namespace basalt::nvmf {

// What one Copy may take, as its namespace's description says.
inline constexpr uint32_t kMaxCopyRanges = 128, kMaxCopyBlocks = 1 << 16;

// Fills `request.io` for its command. Not ok: the answer, without the device.
nvme::CompletionStatus prepare_io(const Namespace& space, Request& request) noexcept;
// Whether its command may take more than one step.
bool has_steps(const Request& request) noexcept;
// After a step that went well: fills in the next one and says so, or says that there is none.
bool next_io(const Namespace& space, Request& request) noexcept;
// The two of a fused pair as one command of the device, in `first`'s Io: what must be there, then what is to be.
nvme::CompletionStatus prepare_compare_and_write(const Namespace& space, Request& first,
                                                 Request& second) noexcept;
// What the host is told of a device's failure of `op`.
nvme::CompletionStatus to_completion_status(StatusCode code, Op op) noexcept;

}  // namespace basalt::nvmf
