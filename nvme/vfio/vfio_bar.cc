// See vfio_bar.h.
#include "nvme/vfio/vfio_bar.h"

#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "base/try.h"
#include "nvme/hex.h"
#include "nvme/system_error.h"
#include "wire/nvme/registers.h"

namespace basalt::nvme {

// Registers are little-endian, and so are the machines this driver is for.
static_assert(std::endian::native == std::endian::little);

Result<std::unique_ptr<VfioBar>> VfioBar::open(int device_fd, RegionInfo info, std::string name) {
  // The admin queue's two doorbells are the least that a controller has behind the registers.
  constexpr uint64_t kLeast = kFirstDoorbell + 2 * sizeof(uint32_t);
  if (info.bytes < kLeast) {
    return error(StatusCode::io_error, name + ": BAR 0 has " + std::to_string(info.bytes) +
                                           " B, but an NVMe controller needs at least " +
                                           std::to_string(kLeast));
  }
  std::unique_ptr<VfioBar> bar(new VfioBar(device_fd, std::move(name), std::move(info)));
  bar->map_windows();
  return bar;
}

VfioBar::~VfioBar() {
  for (const Window& window : windows_) munmap(window.bytes.data(), window.bytes.size());
}

void VfioBar::map_windows() {
  for (const RegionArea& area : info_.mappable) {
    void* base = mmap(nullptr, area.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device_fd_,
                      static_cast<off_t>(info_.file_offset + area.offset));
    if (base == MAP_FAILED) continue;
    windows_.push_back({area.offset, {static_cast<std::byte*>(base), area.bytes}});
  }
}

std::span<volatile std::byte> VfioBar::mapped_from(uint64_t offset) const {
  for (const Window& window : windows_) {
    if (offset < window.offset || offset - window.offset >= window.bytes.size()) continue;
    const std::span<std::byte> rest = window.bytes.subspan(offset - window.offset);
    return {rest.data(), rest.size()};
  }
  return {};
}

Result<uint32_t> VfioBar::read32(uint32_t offset) const {
  constexpr uint32_t kAllOnes = 0xffff'ffff;
  BASALT_TRY(check(offset));
  BASALT_TRY_ASSIGN(const uint32_t value, load(offset));
  if (value != kAllOnes) return value;
  BASALT_TRY_ASSIGN(const uint32_t version, load(static_cast<uint32_t>(Register::version)));
  if (version != kAllOnes) return value;
  return error(StatusCode::device_removed,
               name_ + ": the register at " + hex(offset) +
                   " reads all ones, as everything does of a device that is gone");
}

Result<uint32_t> VfioBar::load(uint32_t offset) const {
  uint32_t value = 0;
  if (const auto mapped = mapped_from(offset); mapped.size() >= sizeof value) {
    return *reinterpret_cast<const volatile uint32_t*>(mapped.data());
  }
  const ssize_t done =
      pread(device_fd_, &value, sizeof value, static_cast<off_t>(info_.file_offset + offset));
  if (done == sizeof value) return value;
  return error(
      system_error(name_ + ": read the register at " + hex(offset), done < 0 ? errno : EIO));
}

Status VfioBar::write32(uint32_t offset, uint32_t value) const {
  BASALT_TRY(check(offset));
  if (const auto mapped = mapped_from(offset); mapped.size() >= sizeof value) {
    *reinterpret_cast<volatile uint32_t*>(mapped.data()) = value;
    return {};
  }
  const ssize_t done =
      pwrite(device_fd_, &value, sizeof value, static_cast<off_t>(info_.file_offset + offset));
  if (done == sizeof value) return {};
  return system_error(name_ + ": write the register at " + hex(offset), done < 0 ? errno : EIO);
}

Status VfioBar::check(uint32_t offset) const {
  if (offset % sizeof(uint32_t) == 0 && offset <= info_.bytes - sizeof(uint32_t)) return {};
  return Status(StatusCode::invalid_argument, name_ + ": there is no register at " + hex(offset) +
                                                  "; offsets are multiples of 4 below " +
                                                  hex(info_.bytes));
}

}  // namespace basalt::nvme
