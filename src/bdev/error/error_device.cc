// See error_device.h. What fails completes in the next reap(), as an error at the door does.
#include "bdev/error/error_device.h"

#include <utility>

#include "base/try.h"
#include "bdev/scheme_table.h"
#include "bdev/sized_uri.h"
#include "bdev/stacked.h"

namespace basalt {
namespace {

constexpr Op kOps[] = {Op::read,  Op::write,   Op::write_zeroes,      Op::discard,
                       Op::flush, Op::compare, Op::compare_and_write, Op::copy};

class ErrorChannel final : public StackedChannel<ErrorChannel> {
 public:
  ErrorChannel(ErrorDevice& device, std::unique_ptr<Channel> below)
      : StackedChannel(device, std::move(below)), device_(device) {}

  bool start(Io& io) noexcept {
    if (!device_.takes_failure(io.op)) return StackedChannel::start(io);
    failed_.push_back(io);
    return true;
  }
  void reap() noexcept {
    // What done() submits meanwhile is for the next poll.
    const Io* last = failed_.empty() ? nullptr : failed_.back();
    for (Io* io = nullptr; io != last;) {
      io = failed_.pop_front();
      complete(*io, StatusCode::io_error);
    }
    StackedChannel::reap();
  }
  void native_cancel(Io& io) noexcept {
    if (!failed_.contains(io)) StackedChannel::native_cancel(io);
  }

 private:
  ErrorDevice& device_;
  IoList failed_;
};

Result<std::unique_ptr<Device>> open_error(Context& context, const Uri& uri,
                                           const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Uri* child, only_child(uri));
  UriOptions keys(uri);
  std::array<uint64_t, std::size(kOps)> counts;
  for (size_t i = 0; i < counts.size(); ++i) {
    BASALT_TRY_ASSIGN(counts[i], keys.take_number(to_string(kOps[i]), 0, 0, UINT32_MAX));
  }
  BASALT_TRY(keys.finish());
  BASALT_TRY_ASSIGN(std::shared_ptr<Device> below, open_device(context, *child, options));
  BASALT_TRY_ASSIGN(auto device, ErrorDevice::create(context, std::move(below), uri.to_string()));
  for (size_t i = 0; i < counts.size(); ++i) {
    device->fail(kOps[i], static_cast<uint32_t>(counts[i]));
  }
  return device;
}

}  // namespace

Result<std::unique_ptr<ErrorDevice>> ErrorDevice::create(Context& context,
                                                         std::shared_ptr<Device> below,
                                                         std::string uri) {
  BASALT_TRY_ASSIGN(Claim claim, claim_below(*below, uri));
  return std::unique_ptr<ErrorDevice>(
      new ErrorDevice(context, std::move(below), std::move(claim), std::move(uri)));
}

Result<std::unique_ptr<ChannelCore>> ErrorDevice::make_channel() {
  BASALT_TRY_ASSIGN(std::unique_ptr<Channel> channel, below().open_channel());
  return std::make_unique<ErrorChannel>(*this, std::move(channel));
}

void register_error_scheme(Context& context) {
  context.schemes().add("error", "error:(file:/path)?write=3", &open_error);
}

}  // namespace basalt
