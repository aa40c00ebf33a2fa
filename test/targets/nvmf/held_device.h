// HeldDevice: a device that keeps the commands it is given until a test lets them go on, in the order they came.
//
// Threads: hold() and the counts are any's; the rest as a device's.
#pragma once

#include <basalt/device.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

namespace basalt {

class HeldDevice final : public Device {
 public:
  explicit HeldDevice(std::unique_ptr<Device> below) : below_(std::move(below)) {}

  // From now on; false lets go on what was kept.
  void hold(bool holds) { holds_ = holds; }
  size_t kept() const { return kept_; }

  const DeviceInfo& info() const override { return below_->info(); }
  Result<std::unique_ptr<Channel>> open_channel() override {
    auto channel = below_->open_channel();
    if (!channel) return channel;
    return std::unique_ptr<Channel>(new HeldChannel(*this, std::move(*channel)));
  }
  Result<Claim> claim(ClaimMode mode, std::string_view owner) override {
    return below_->claim(mode, owner);
  }
  void release_claim(uint64_t token) override { below_->release_claim(token); }
  void add_listener(DeviceListener& listener) override { below_->add_listener(listener); }
  void remove_listener(DeviceListener& listener) override { below_->remove_listener(listener); }

 private:
  class HeldChannel final : public Channel {
   public:
    HeldChannel(HeldDevice& device, std::unique_ptr<Channel> below)
        : device_(device), below_(std::move(below)) {}
    void submit(Io& io) noexcept override {
      if (!device_.holds_) return below_->submit(io);
      kept_.push_back(&io);
      ++device_.kept_;
    }
    unsigned poll() noexcept override {
      if (!device_.holds_) {
        for (Io* io : std::exchange(kept_, {})) {
          --device_.kept_;
          below_->submit(*io);
        }
      }
      return below_->poll();
    }
    unsigned wait(Duration timeout, unsigned wanted) noexcept override {
      const unsigned polled = poll();
      return polled > 0 ? polled : below_->wait(timeout, wanted);
    }
    int wait_fd() noexcept override { return -1; }  // it is polled: nothing tells when it goes on
    void arm() noexcept override {}
    void cancel(Io& io) noexcept override { below_->cancel(io); }
    const ChannelStats& stats() noexcept override { return below_->stats(); }

   private:
    HeldDevice& device_;
    const std::unique_ptr<Channel> below_;
    std::vector<Io*> kept_;
  };

  const std::unique_ptr<Device> below_;
  std::atomic<bool> holds_{false};
  std::atomic<size_t> kept_{0};
};

}  // namespace basalt
