// VfioBar: BAR 0 of a function that VFIO has opened.
//
// Maps each part that the kernel lets be mapped, and reads and writes the rest with pread() and pwrite() on the
// device's descriptor, which is slow and works everywhere. Every access is one aligned 32-bit access, so that a
// device sees what the standard describes.
// Borrows the descriptor and owns the mappings. A mapping keeps the device open, so this goes before the descriptor
// is closed. Memory space must be on in the function's command register before the first access; an access to a
// mapping without it is a SIGBUS.
// Thread rules: any thread; it does not change after open().
#pragma once

#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nvme/vfio/vfio_info.h"

namespace basalt::nvme {

class VfioBar {
 public:
  // `info`: what the kernel says of the region; `name`: the function, for messages. A part that cannot be mapped is
  // no error. Errors: io_error for a BAR too small to hold NVMe registers.
  static Result<std::unique_ptr<VfioBar>> open(int device_fd, RegionInfo info, std::string name);
  ~VfioBar();
  VfioBar(const VfioBar&) = delete;
  VfioBar& operator=(const VfioBar&) = delete;

  // Errors: invalid_argument for an offset that is no multiple of 4 or beyond the BAR; device_removed for all ones
  // from a function that answers them everywhere (VS, which is never all ones, is read to tell); and where the
  // register is not mapped, io_error and device_removed. write32() to a mapped register of such a function is ok.
  Result<uint32_t> read32(uint32_t offset) const;
  Status write32(uint32_t offset, uint32_t value) const;

  uint64_t size_bytes() const { return info_.bytes; }
  // The mapped bytes from `offset` on, as far as they are contiguous; empty: not mapped.
  std::span<volatile std::byte> mapped_from(uint64_t offset) const;

 private:
  struct Window {
    uint64_t offset = 0;  // in the BAR
    std::span<std::byte> bytes;
  };

  VfioBar(int device_fd, std::string name, RegionInfo info)
      : device_fd_(device_fd), name_(std::move(name)), info_(std::move(info)) {}
  void map_windows();
  Status check(uint32_t offset) const;
  Result<uint32_t> load(uint32_t offset) const;

  const int device_fd_;
  const std::string name_;
  const RegionInfo info_;
  std::vector<Window> windows_;
};

}  // namespace basalt::nvme
