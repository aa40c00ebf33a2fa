// See stacked_device.h.
#include "bdev/stacked_device.h"

#include <utility>

#include "bdev/stacked.h"

namespace basalt {
namespace {

DeviceInfo describe_over(const Device& below, std::string uri, Duration longer) {
  DeviceInfo info = below.info();
  info.uri = std::move(uri);
  info.native = info.supported;
  info.completion_bound += longer;
  return info;
}

}  // namespace

StackedDevice::StackedDevice(Context& context, std::shared_ptr<Device> below, Claim claim,
                             std::string uri, Duration longer)
    : DeviceBase(context, describe_over(*below, std::move(uri), longer), stacked_limits()),
      below_(std::move(below)),
      claim_(std::move(claim)) {
  below_->add_listener(*this);
}

StackedDevice::~StackedDevice() { below_->remove_listener(*this); }

Result<Claim> StackedDevice::claim_below(Device& below, const std::string& uri) {
  return below.claim(below.info().read_only ? ClaimMode::read_only : ClaimMode::exclusive_writer,
                     uri);
}

void StackedDevice::on_event(Device& device, DeviceEvent event) {
  if (event == DeviceEvent::removed) return set_removed();
  if (event == DeviceEvent::returned) return set_returned();
  DeviceInfo changed = info();
  changed.block_count = device.info().block_count;
  change_info(std::move(changed), event);
}

}  // namespace basalt
