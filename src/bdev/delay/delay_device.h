// delay: another device made slow, to try what stands above it. delay:(file:/path)?read_us=100&read_p99_us=2000.
//
// A command that the device below has done is kept for as long again as a latency says: one for reads and compares, one
// for what writes data; one command in a hundred, by chance, takes the p99 latency instead. Flushes and discards are not
// kept. The device below is this one's alone.
// Threads: any.
#pragma once

#include <basalt/device.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "bdev/stacked_device.h"

namespace basalt {

enum class DelayKind : uint8_t { read, read_p99, write, write_p99 };
inline constexpr unsigned kDelayKinds = 4;

class DelayDevice final : public StackedDevice {
 public:
  static constexpr Duration kMaxLatency = std::chrono::minutes(1);

  // Without any latency. `uri`: its own. Errors: busy (somebody uses the device below).
  static Result<std::unique_ptr<DelayDevice>> create(Context& context,
                                                     std::shared_ptr<Device> below,
                                                     std::string uri);

  // From 0 to kMaxLatency; holds for commands that the device below has not done yet.
  void set_latency(DelayKind kind, Duration latency);
  Duration latency(DelayKind kind) const {
    return latencies_[static_cast<size_t>(kind)].load(std::memory_order_relaxed);
  }

 private:
  DelayDevice(Context& context, std::shared_ptr<Device> below, Claim claim, std::string uri)
      : StackedDevice(context, std::move(below), std::move(claim), std::move(uri), kMaxLatency) {}
  Result<std::unique_ptr<ChannelCore>> make_channel() override;

  std::array<std::atomic<Duration>, kDelayKinds> latencies_{};
};

void register_delay_scheme(Context& context);

}  // namespace basalt
