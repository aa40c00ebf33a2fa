// Each Io becomes one Io of the device below, further on by the slice's offset. Without size= the
// slice reaches to the end of the device below and follows its resizing; with it, the slice stays
// as it is and Ios beyond the shrunken end of the device below fail there. The device below is the
// part's alone.
#include "bdev/part/part_device.h"

#include "base/try.h"
#include "bdev/scheme_table.h"
#include "bdev/sized_uri.h"
#include "bdev/stacked.h"

namespace basalt {
namespace {

class PartChannel final : public StackedChannel<PartChannel> {
 public:
  PartChannel(DeviceBase& device, std::unique_ptr<Channel> below, BlockCount offset)
      : StackedChannel(device, std::move(below)), offset_(offset) {}

  void map(Io& child) noexcept {
    child.lba = child.lba + offset_;
    child.copy_source = child.copy_source + offset_;
  }

 private:
  const BlockCount offset_;
};

class PartDevice final : public DeviceBase, private DeviceListener {
 public:
  static Result<std::unique_ptr<Device>> open(Context& context, const Uri& uri,
                                              const DeviceOpenOptions& options);
  PartDevice(Context& context, DeviceInfo info, std::unique_ptr<Device> below, BlockCount offset,
             bool follows)
      : DeviceBase(context, std::move(info), stacked_limits()),
        below_(std::move(below)),
        offset_(offset),
        follows_(follows) {
    below_->add_listener(*this);
  }
  ~PartDevice() override { below_->remove_listener(*this); }

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override {
    BASALT_TRY_ASSIGN(std::unique_ptr<Channel> below, below_->open_channel());
    return std::make_unique<PartChannel>(*this, std::move(below), offset_);
  }
  void on_event(Device& device, DeviceEvent event) override;

  const std::unique_ptr<Device> below_;
  const BlockCount offset_;
  const bool follows_;  // no size= was given
};

void PartDevice::on_event(Device& device, DeviceEvent event) {
  if (event == DeviceEvent::removed) return set_removed();
  if (event == DeviceEvent::returned) return set_returned();
  if (event == DeviceEvent::resized && !follows_) return;
  DeviceInfo changed = info();
  const uint64_t blocks = device.info().block_count.value;
  if (follows_) {
    changed.block_count = BlockCount{blocks > offset_.value ? blocks - offset_.value : 0};
  }
  change_info(std::move(changed), event);
}

Result<std::unique_ptr<Device>> PartDevice::open(Context& context, const Uri& uri,
                                                 const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Uri* child, only_child(uri));
  UriOptions keys(uri);
  BASALT_TRY_ASSIGN(const uint64_t offset, keys.take_size("offset", 0));
  BASALT_TRY_ASSIGN(const std::optional<uint64_t> size, keys.take_size("size"));
  BASALT_TRY(keys.finish());
  BASALT_TRY_ASSIGN(std::unique_ptr<Device> below, open_device(context, *child, options));
  DeviceInfo info = below->info();
  const uint64_t below_bytes = info.block_count.value * info.block_size;
  const std::string blocks = "whole blocks of " + std::to_string(info.block_size) + " B";
  if (offset % info.block_size != 0 || offset >= below_bytes) {
    return keys.complain("offset", "expected " + blocks + " below the device's " +
                                       std::to_string(below_bytes) + " B");
  }
  const uint64_t bytes = size.value_or(below_bytes - offset);
  if (bytes == 0 || bytes % info.block_size != 0 || bytes > below_bytes - offset) {
    return keys.complain("size", "expected " + blocks + ", at most the " +
                                     std::to_string(below_bytes - offset) +
                                     " B that follow the offset");
  }
  info.uri = uri.to_string();
  info.block_count = BlockCount{bytes / info.block_size};
  info.native = info.supported;
  return std::make_unique<PartDevice>(context, std::move(info), std::move(below),
                                      BlockCount{offset / below->info().block_size},
                                      !size.has_value());
}

}  // namespace

void register_part_scheme(Context& context) {
  context.schemes().add("part", "part:(ram:4G)?offset=1M&size=1G", &PartDevice::open);
}

}  // namespace basalt
