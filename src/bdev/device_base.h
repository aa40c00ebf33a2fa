// DeviceBase: what every device shares: its description, claims, listeners, open channels and the
// range locks of emulated atomic operations.
//
// The description is replaced as a whole when the device changes (resized, limits changed); older
// descriptions stay valid for whoever still reads them until the device is closed.
// Thread rules: any thread.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sync.h"
#include "bdev/range_lock.h"

namespace basalt {

class ChannelCore;

// What a backend takes in one native command. Constant while the device is open. The defaults take
// anything: right for a layer that hands on to a child channel, which does its own splitting.
struct NativeLimits {
  uint32_t max_transfer_blocks = 0;  // read, write, compare, copy; 0: no limit
  // A native compare_and_write is two commands, so its data is one piece or pieces of one half each. 0: it is one.
  uint32_t max_compare_and_write_blocks = 0;
  uint32_t max_iovecs = 0;               // 0: no limit
  uint32_t memory_alignment = 1;         // as in DeviceInfo; a power of two
  uint64_t max_write_zeroes_blocks = 0;  // 0: no limit
  uint64_t max_discard_blocks = 0;       // 0: no limit
  bool fua = false;                      // honours IoFlags::fua itself
  bool needs_registered_memory = false;  // every iovec must lie in one MemoryMap region
  bool needs_hugepages = false;          // and that region in hugepages (the device has no IOMMU)
  bool uses_registered_memory = false;   // start() may look regions up: they stay until complete()
  bool emulate = true;  // false: only native ops (what is read is not what was written)

  // The limits that the description states, for a leaf device.
  static NativeLimits from(const DeviceInfo& info);
};

class DeviceBase : public Device {
 public:
  ~DeviceBase() override;

  const DeviceInfo& info() const final { return *info_.load(std::memory_order_acquire); }
  Result<std::unique_ptr<Channel>> open_channel() final;
  Result<Claim> claim(ClaimMode mode, std::string_view owner) final;
  void release_claim(uint64_t token) final;
  void add_listener(DeviceListener& listener) final;
  void remove_listener(DeviceListener& listener) final;

  Context& context() const { return context_; }
  const NativeLimits& limits() const { return limits_; }
  bool removed() const { return removed_.load(std::memory_order_acquire); }

 protected:
  // `info.native` says what the backend does; `info.supported` is derived from it here.
  DeviceBase(Context& context, DeviceInfo info, NativeLimits limits);

  // A new channel of the backend; the core prepares it and hands it to the caller.
  virtual Result<std::unique_ptr<ChannelCore>> make_channel() = 0;

  // Changes the description (block_count, …) and tells the listeners.
  void change_info(DeviceInfo info, DeviceEvent event);
  // From now on every Io completes with device_removed, until set_returned().
  void set_removed();
  void set_returned();

 private:
  friend class ChannelCore;
  friend class JobEngine;
  struct HeldClaim {
    uint64_t token;
    ClaimMode mode;
    std::string owner;
  };
  void tell(DeviceEvent event);
  void publish_capacity();

  Context& context_;
  const NativeLimits limits_;
  std::atomic<const DeviceInfo*> info_;
  // What channels check against on each Io: the block count, or 0 when the device is gone.
  std::atomic<uint64_t> capacity_{0};
  std::atomic<bool> removed_{false};
  RangeLocks ranges_;

  Mutex mutex_;  // protects what follows
  std::vector<std::unique_ptr<const DeviceInfo>> infos_;
  std::vector<HeldClaim> claims_;
  uint64_t next_token_ = 1;
  Mutex listeners_mutex_;  // held while listeners are told, so that removing one waits for its call
  std::vector<DeviceListener*> listeners_;
};

}  // namespace basalt
