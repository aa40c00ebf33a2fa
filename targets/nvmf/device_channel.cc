// See device_channel.h.
#include "targets/nvmf/device_channel.h"

#include "base/check.h"
#include "base/try.h"

namespace basalt::nvmf {

Result<std::unique_ptr<DeviceChannel>> DeviceChannel::open(Reactor& reactor,
                                                           std::shared_ptr<Device> device) {
  BASALT_TRY_ASSIGN(auto channel, device->open_channel());
  std::unique_ptr<DeviceChannel> opened(
      new DeviceChannel(reactor, std::move(device), std::move(channel)));
  if (const int fd = opened->channel_->wait_fd(); fd >= 0) {
    BASALT_TRY(reactor.watch(opened->watch_, fd, EPOLLIN, *opened));
  }
  return opened;
}

DeviceChannel::~DeviceChannel() {
  BASALT_CHECK(outstanding_ == 0, "a channel's commands complete before it goes");
  reactor_.unwatch(watch_);
}

bool DeviceChannel::arm() noexcept {
  if (outstanding_ == 0) return true;
  if (watch_.fd < 0) return false;
  channel_->arm();
  return true;
}

}  // namespace basalt::nvmf
