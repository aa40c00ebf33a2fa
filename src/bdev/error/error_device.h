// error: another device that fails commands when it is told to, to try what stands above it. error:(ram:1G)?write=3.
//
// A command that is to fail does not reach the device below: it completes with io_error. The device below is this one's alone.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "bdev/stacked_device.h"

namespace basalt {

class ErrorDevice final : public StackedDevice {
 public:
  // Failing nothing yet. `uri`: its own. Errors: busy (somebody uses the device below).
  static Result<std::unique_ptr<ErrorDevice>> create(Context& context,
                                                     std::shared_ptr<Device> below,
                                                     std::string uri);

  // The next `count` commands of the kind fail, on whichever channels they come; 0: no more.
  void fail(Op op, uint32_t count) {
    to_fail_[static_cast<size_t>(op)].store(count, std::memory_order_relaxed);
  }
  // For its channels: whether this command is one of them, which is then counted.
  bool takes_failure(Op op) noexcept {
    std::atomic<uint32_t>& left = to_fail_[static_cast<size_t>(op)];
    uint32_t count = left.load(std::memory_order_relaxed);
    while (count != 0) {
      if (left.compare_exchange_weak(count, count - 1, std::memory_order_relaxed)) return true;
    }
    return false;
  }

 private:
  ErrorDevice(Context& context, std::shared_ptr<Device> below, Claim claim, std::string uri)
      : StackedDevice(context, std::move(below), std::move(claim), std::move(uri)) {}
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  std::array<std::atomic<uint32_t>, kOpCount> to_fail_{};
};

void register_error_scheme(Context& context);

}  // namespace basalt
