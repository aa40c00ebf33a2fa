// StackedDevice: a device over one other, with the same blocks and the same description.
//
// It holds the device below and claims it, so that nobody else writes to it meanwhile; what happens to that device happens
// to this one. Derived from by devices whose channels are StackedChannels (stacked.h) that leave addresses as they are.
// Thread rules: any thread.
#pragma once

#include <memory>
#include <string>

#include "bdev/device_base.h"

namespace basalt {

class StackedDevice : public DeviceBase, private DeviceListener {
 public:
  ~StackedDevice() override;

 protected:
  // `longer`: what it adds to the time in which commands complete, at most.
  StackedDevice(Context& context, std::shared_ptr<Device> below, Claim claim, std::string uri,
                Duration longer = Duration::zero());
  // For the constructor. Errors: busy, naming who uses the device.
  static Result<Claim> claim_below(Device& below, const std::string& uri);
  Device& below() { return *below_; }

 private:
  void on_event(Device& device, DeviceEvent event) override;

  const std::shared_ptr<Device> below_;
  const Claim claim_;
};

}  // namespace basalt
