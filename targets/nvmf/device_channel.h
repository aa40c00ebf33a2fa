// DeviceChannel: one reactor's channel to a device that namespaces export.
//
// Polled by its poll group (poll_group.h) as long as it has commands outstanding; wakes the reactor when one completes.
//
// Threads: the reactor's; create() and the destructor too.
#pragma once

#include <basalt/device.h>

#include <memory>

#include "reactor/reactor.h"

namespace basalt::nvmf {

class DeviceChannel final : Reactor::Handler {
 public:
  static Result<std::unique_ptr<DeviceChannel>> open(Reactor& reactor,
                                                     std::shared_ptr<Device> device);
  ~DeviceChannel();
  DeviceChannel(const DeviceChannel&) = delete;

  Device& device() const { return *device_; }
  // `io.done` is to call completed().
  void submit(Io& io) noexcept {
    ++outstanding_;
    channel_->submit(io);
  }
  void completed() noexcept { --outstanding_; }
  size_t outstanding() const { return outstanding_; }
  // As Reactor::Poller's.
  unsigned poll() noexcept { return outstanding_ == 0 ? 0 : channel_->poll(); }
  bool arm() noexcept;
  const ChannelStats& stats() noexcept { return channel_->stats(); }

 private:
  DeviceChannel(Reactor& reactor, std::shared_ptr<Device> device, std::unique_ptr<Channel> channel)
      : reactor_(reactor), device_(std::move(device)), channel_(std::move(channel)) {}
  void on_ready(uint32_t) noexcept override { channel_->poll(); }

  Reactor& reactor_;
  const std::shared_ptr<Device> device_;
  const std::unique_ptr<Channel> channel_;
  Reactor::Watch watch_;
  size_t outstanding_ = 0;
};

}  // namespace basalt::nvmf
