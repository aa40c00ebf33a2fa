// StackedChannel<Derived>: the channel of a layer that turns each Io into one Io of the device
// below.
//
// A child Io comes from a pool allocated with the channel; when it is used up, further Ios wait in
// the core. Derived may change the child Io before it is handed down:
//   void map(Io& child) noexcept;      // by default: nothing
// and may keep one that is done, with its status, result and time its own, until it calls end_child() from reap():
//   bool keeps(Io& child) noexcept;    // by default: false
// Completions come from the lower channel's poll(), which is this channel's reap(); its doorbell is
// rung there too, so there is nothing to kick. Thread rules: as any channel; the lower channel is
// this one's alone.
#pragma once

#include <memory>
#include <vector>

#include "bdev/native.h"

namespace basalt {

// Limits for such a layer: it takes anything, because the channel below does its own splitting and
// emulating. Its DeviceInfo::native is what the device below supports.
inline NativeLimits stacked_limits() {
  NativeLimits limits;
  limits.fua = true;
  limits.emulate = false;
  return limits;
}

template <class Derived>
class StackedChannel : public NativeChannel<Derived> {
 public:
  bool start(Io& io) noexcept {
    if (free_ == nullptr) [[unlikely]]
      return false;
    Child& child = *free_;
    free_ = child.next_free;
    Io& below = child.io;
    below.op = io.op;
    below.flags = io.flags;
    below.priority = io.priority;
    below.lifetime = io.lifetime;
    below.tenant = io.tenant;
    below.lba = io.lba;
    below.block_count = io.block_count;
    below.data = io.data;
    below.metadata = io.metadata;
    below.copy_source = io.copy_source;
    static_cast<Derived&>(*this).map(below);
    child.upper = &io;
    io.channel_word = reinterpret_cast<uintptr_t>(&child);
    below_->submit(below);
    return true;
  }
  void map(Io&) noexcept {}
  bool keeps(Io&) noexcept { return false; }
  void reap() noexcept { below_->poll(); }
  bool sleep(Duration timeout, unsigned wanted) noexcept { return sleep_below(timeout, wanted); }
  int native_fd() noexcept { return below_->wait_fd(); }
  void native_arm() noexcept { below_->arm(); }
  void native_cancel(Io& io) noexcept { below_->cancel(child_of(io)); }

 protected:
  static constexpr unsigned kChildren = 256;

  StackedChannel(DeviceBase& device, std::unique_ptr<Channel> below)
      : NativeChannel<Derived>(device), children_(kChildren), below_(std::move(below)) {
    for (Child& child : children_) {
      child.io.done = &StackedChannel::child_done;
      child.io.user = this;
      child.next_free = free_;
      free_ = &child;
    }
  }
  Channel& below() noexcept { return *below_; }
  // Of a command that was started.
  static Io& child_of(const Io& io) noexcept {
    return reinterpret_cast<Child*>(io.channel_word)->io;
  }
  // Completes the command whose child it is, as the child was.
  void end_child(Io& io) noexcept {
    auto& child = reinterpret_cast<Child&>(io);
    Io& upper = *child.upper;
    child.next_free = free_;
    free_ = &child;
    this->complete(upper, io.status, io.result);
  }

 private:
  struct Child {
    Io io;  // first: a child's address is its Io's
    Io* upper = nullptr;
    Child* next_free = nullptr;
  };

  static void child_done(Io& io) noexcept {
    auto& channel = *static_cast<StackedChannel*>(io.user);
    if (!static_cast<Derived&>(channel).keeps(io)) channel.end_child(io);
  }
  // The lower channel may complete during its wait; a device that never sleeps answers at once.
  bool sleep_below(Duration timeout, unsigned wanted) noexcept {
    return below_->wait(timeout, wanted) != 0 || below_->wait_fd() >= 0;
  }

  std::vector<Child> children_;
  Child* free_ = nullptr;
  std::unique_ptr<Channel> below_;
};

}  // namespace basalt
