// What the operating system tells about a file or block device that io_uring will read and write:
// alignments, write cache, discard. Probed once, when the device is opened.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <string>

#include "bdev/host/host_file.h"

namespace basalt {

// No device has larger blocks.
inline constexpr uint32_t kLargestFileBlock = 65536;

struct FileLimits {
  uint32_t block_bytes = 512;         // smallest offset and length the file takes
  uint32_t memory_alignment = 1;      // of buffers
  uint32_t physical_block_bytes = 0;  // below the file, 0: unknown
  uint32_t optimal_bytes = 0;         // preferred I/O unit, 0: none
  // The largest transfer the kernel hands to the device as one request, whatever pages it lies in. It takes a larger one too,
  // but not at once: io_uring gives what has to be split to a thread of its own.
  uint32_t unsplit_bytes = 1 << 20;
  bool volatile_write_cache = true;
  bool can_discard = true;
};

// `direct`: the file was opened with O_DIRECT. Errors: unsupported, naming direct=0, when the file
// takes no direct I/O after all.
Result<FileLimits> probe_file_limits(const HostFile& file, bool direct, const std::string& name);

}  // namespace basalt
