// Reads leave the caller's memory as it is, which is why nothing is emulated on this device: what
// is read is not what was written. Commands complete in reap(), all that were started before it.
#include "bdev/null/null_device.h"

#include "base/try.h"
#include "bdev/native.h"
#include "bdev/scheme_table.h"
#include "bdev/sized_uri.h"

namespace basalt {
namespace {

class NullChannel final : public NativeChannel<NullChannel> {
 public:
  explicit NullChannel(DeviceBase& device) : NativeChannel(device) {}

  bool start(Io& command) noexcept {
    queue_.push_back(command);
    return true;
  }
  void reap() noexcept {
    // What done() submits meanwhile is for the next poll.
    const Io* last = queue_.empty() ? nullptr : queue_.back();
    for (Io* command = nullptr; command != last;) {
      command = queue_.pop_front();
      complete(*command, StatusCode::ok);
    }
  }

 private:
  IoList queue_;
};

class NullDevice final : public DeviceBase {
 public:
  static Result<std::unique_ptr<Device>> open(Context& context, const Uri& uri,
                                              const DeviceOpenOptions& options);
  NullDevice(Context& context, DeviceInfo info, NativeLimits limits)
      : DeviceBase(context, std::move(info), limits) {}

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override {
    return std::make_unique<NullChannel>(*this);
  }
};

Result<std::unique_ptr<Device>> NullDevice::open(Context& context, const Uri& uri,
                                                 const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Geometry geometry, parse_sized_uri(uri));
  DeviceInfo info;
  info.uri = uri.to_string();
  info.block_size = geometry.block_size;
  info.block_count = geometry.block_count;
  info.read_only = options.mode == OpenMode::read_only;
  info.persistent = false;
  info.native = {Op::read, Op::write, Op::write_zeroes, Op::discard, Op::flush, Op::copy};
  NativeLimits limits;
  limits.emulate = false;
  return std::make_unique<NullDevice>(context, std::move(info), limits);
}

}  // namespace

void register_null_scheme(Context& context) {
  context.schemes().add("null", "null:1T", &NullDevice::open);
}

}  // namespace basalt
