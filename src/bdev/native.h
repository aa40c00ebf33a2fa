// What a backend or a virtual device derives from: DeviceBase and NativeChannel<Derived>.
//
// The core does at the door what every device shares: checks, splitting, bouncing, emulation, FUA
// where it is not native, range locks, counters, completions that carry errors. A backend sees only
// native commands: an Io& that fits NativeLimits, whose op is in DeviceInfo::native. It implements
//
//   class MyDevice final : public DeviceBase {
//    public:
//     MyDevice(Context& context, DeviceInfo info, NativeLimits limits)
//         : DeviceBase(context, std::move(info), limits) {}   // supported ops are derived
//    private:
//     Result<std::unique_ptr<ChannelCore>> make_channel() override;
//   };
//   class MyChannel final : public NativeChannel<MyChannel> {
//    public:
//     explicit MyChannel(MyDevice& device) : NativeChannel(device) {}
//     // Queues it; false: full, the core offers it again later.
//     bool start(Io& command) noexcept;
//     // Completes what has finished, at least what was started before this call and is done.
//     void reap() noexcept;
//     // Sends what start() queued (one doorbell, one system call).
//     void kick() noexcept;
//     // Sends what is queued, sleeps until reap() may have work; may sleep until it has that of as
//     // many commands, but no more than are with the backend.
//     bool sleep(Duration, unsigned wanted) noexcept;
//     int native_fd() noexcept; void native_arm() noexcept; void native_cancel(Io&) noexcept;
//   };
//
// poll() is: errors and parked Ios, reap(), kick(). wait() is the same with sleep() before kick()
// as long as nothing has completed. kick, sleep, native_fd, native_arm and native_cancel have
// defaults for devices that complete only from poll(); a Derived replaces them by declaring its own
// (no virtual call is made). Rules for a backend:
// - start() must not complete; complete() is called from reap() only, once per started command.
// - complete() may call start() again: free the command's resources before calling it.
// - start() answers false only while other commands are with the backend.
// - While it has a command it may use io.next and io.channel_word, and only read the other fields.
// - reap() must end: commands started during it need not be completed by it.
// - Commands not started (start() answered false) are offered again after each complete().
// Thread rules: a channel belongs to one thread at a time; DeviceBase members to any.
#pragma once

#include "bdev/channel_core.h"
#include "bdev/device_base.h"

namespace basalt {

template <class Derived>
class NativeChannel : public ChannelCore {
 public:
  void submit(Io& io) noexcept final {
    if (direct(io)) [[likely]] {
      accept(io);
      io.channel_data = nullptr;
      if (!self().start(io)) [[unlikely]]
        queue_pending(io);
    } else {
      submit_at_door(io);
    }
  }

  unsigned poll() noexcept final {
    begin_batch();
    turn();
    return end_batch();
  }

  unsigned wait(Duration timeout, unsigned wanted) noexcept final {
    begin_batch();
    collect();
    if (completed() == 0) wait_slowly(timeout, wanted);
    self().kick();
    return end_batch();
  }

  int wait_fd() noexcept final { return core_wait_fd(self().native_fd()); }
  void arm() noexcept final {
    core_arm();
    self().native_arm();
  }

 protected:
  explicit NativeChannel(DeviceBase& device) : ChannelCore(device) {}

  // Defaults of a device that completes only from reap().
  void kick() noexcept {}
  bool sleep(Duration, unsigned) noexcept { return false; }  // false: nothing to sleep for
  int native_fd() noexcept { return -1; }  // readable when reap() has work; -1: never sleeps
  void native_arm() noexcept {}            // before sleeping on native_fd()
  void native_cancel(Io&) noexcept {}      // best effort; the command still completes once

 private:
  Derived& self() noexcept { return static_cast<Derived&>(*this); }

  void collect() noexcept {
    if (has_core_work()) [[unlikely]]
      do_core_work();
    self().reap();
  }
  void turn() noexcept {
    collect();
    self().kick();
  }
  // sleep() sends what is queued, so a blocking command costs one system call, not two.
  void wait_slowly(Duration timeout, unsigned wanted) noexcept {
    const Duration deadline = deadline_after(timeout);
    do {
      const Duration left = sleep_time_left(deadline);
      begin_batch();
      if (left <= Duration::zero() || !(self().sleep(left, wanted) || sleep_parked(left))) break;
      // What the channel below a layer completed in its sleep is of this batch.
      if (completed() == 0) begin_batch();
      collect();
    } while (completed() == 0);
  }

  bool start_command(Io& command) noexcept final { return self().start(command); }
  void cancel_command(Io& command) noexcept final { self().native_cancel(command); }
};

}  // namespace basalt
