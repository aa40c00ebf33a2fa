// file: and uring: — a file or kernel block device as a Device, through io_uring.
//
//   file:/path?size=64G    uring:/dev/sdb        both schemes open either; keys in
//   docs/guide/devices.md
//
// The device owns the open, locked file; each channel has a ring of its own (uring_channel.h).
// Any thread, as Device says.
#pragma once

#include <basalt/context.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "bdev/device_base.h"
#include "bdev/host/host_file.h"

namespace basalt {

// Adds the schemes file: and uring:. Safe to call more than once.
void register_uring_scheme(Context& context);

struct UringSettings {
  unsigned depth = 128;       // commands in flight per channel
  bool ring_discard = false;  // a block device that takes discards through the ring (Linux 6.12)
};

class UringDevice final : public DeviceBase {
 public:
  UringDevice(Context& context, DeviceInfo info, NativeLimits limits, HostFile file,
              UringSettings settings);
  ~UringDevice() override;

  int fd() const { return file_.fd(); }
  bool is_block_device() const { return file_.is_block_device(); }
  const UringSettings& settings() const { return settings_; }
  // Read-only zeros to write from.
  std::span<std::byte> zeros() const { return zeros_; }

  // Cleared when the file system turns out not to know FALLOC_FL_ZERO_RANGE; zeros are written
  // then.
  bool has_zero_range() const { return has_zero_range_.load(std::memory_order_relaxed); }
  void lose_zero_range() { has_zero_range_.store(false, std::memory_order_relaxed); }

  // Takes bytes from what may be registered with rings; false when they are too many.
  bool take_pinned(size_t bytes);
  void give_pinned(size_t bytes) { pinned_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  // A region that a channel could not register as a ring buffer: counted, told once.
  void note_unregistered_region(int error_number, size_t bytes);
  uint64_t unregistered_regions() const {
    return unregistered_regions_.load(std::memory_order_relaxed);
  }
  // An I/O the kernel failed: the first of each device is logged with its place, the code goes to
  // the caller of each.
  void note_failure(const Io& command, int error_number);

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  HostFile file_;
  const UringSettings settings_;
  const uint64_t pinned_budget_bytes_;
  std::atomic<uint64_t> pinned_bytes_{0};
  std::span<std::byte> zeros_;
  std::atomic<bool> has_zero_range_{true};
  std::atomic<uint64_t> unregistered_regions_{0};
  std::atomic<bool> failure_logged_{false};
};

}  // namespace basalt
