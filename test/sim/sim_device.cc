// SimDevice and SimChannel; see sim_device.h.
#include "sim/sim_device.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "bdev/native.h"

namespace basalt::sim {
namespace {

DeviceInfo describe(const SimDisk& disk) {
  const SimOptions& options = disk.options();
  DeviceInfo info;
  info.uri = "sim:" + std::to_string(options.seed);
  info.block_size = options.block_bytes;
  info.block_count = BlockCount{disk.block_count()};
  info.volatile_write_cache = options.volatile_cache;
  info.atomic_write_blocks = options.atomic_blocks;
  info.max_transfer_blocks = options.max_transfer_blocks;
  info.native = {Op::read, Op::write, Op::write_zeroes, Op::discard, Op::flush};
  return info;
}

NativeLimits limits_of(const SimOptions& options) {
  NativeLimits limits;
  limits.max_transfer_blocks = options.max_transfer_blocks;
  limits.fua = options.native_fua;
  return limits;
}

class SimDevice final : public DeviceBase, private SimDisk::Watcher {
 public:
  SimDevice(Context& context, std::shared_ptr<SimDisk> disk)
      : DeviceBase(context, describe(*disk), limits_of(disk->options())), disk_(std::move(disk)) {
    disk_->add_watcher(*this);
    if (disk_->is_away()) set_removed();
  }
  ~SimDevice() override { disk_->remove_watcher(*this); }
  SimDisk& disk() { return *disk_; }

 private:
  Result<std::unique_ptr<ChannelCore>> make_channel() override;
  void disk_vanished() override { set_removed(); }
  void disk_returned() override { set_returned(); }
  const std::shared_ptr<SimDisk> disk_;
};

class SimChannel final : public NativeChannel<SimChannel> {
 public:
  explicit SimChannel(SimDevice& device)
      : NativeChannel(device), disk_(device.disk()), clock_(device.context().clock()) {}

  bool start(Io& command) noexcept {
    const uint64_t flush_point = command.op == Op::flush ? disk_.flush_point() : 0;
    queued_.push_back({&command, flush_point, disk_.absences()});
    return true;
  }

  // Executes what was queued, in any order.
  void kick() noexcept {
    if (queued_.empty()) return;
    std::vector<Queued> batch = std::exchange(queued_, {});
    Random random = disk_.fork_random();
    for (size_t i = batch.size(); i > 1; --i) std::swap(batch[i - 1], batch[random.below(i)]);
    for (const Queued& queued : batch) {
      Running running;
      running.io = queued.io;
      running.execution = disk_.execute(*queued.io, queued.flush_point, queued.absences);
      running.polls_left =
          static_cast<unsigned>(random.below(disk_.options().max_delay_polls + 1)) +
          running.execution.late_polls;
      running.due = now() + disk_.options().latency;
      running_.push_back(running);
    }
  }

  // Completes what is due. complete() may queue more, never execute it, so running_ only shrinks here.
  void reap() noexcept {
    const Duration time = running_.empty() ? Duration{} : now();
    const bool gone = disk_.is_gone();
    for (size_t i = 0; i < running_.size();) {
      Running& running = running_[i];
      const bool waits = running.due > time || running.polls_left > 0;
      if (running.polls_left > 0) --running.polls_left;
      if (waits && !gone) {
        ++i;
        continue;
      }
      const Running finished = running;
      running_.erase(running_.begin() + static_cast<ptrdiff_t>(i));
      complete(*finished.io, disk_.complete(*finished.io, finished.execution));
    }
  }

  bool sleep(Duration timeout, unsigned) noexcept {
    kick();
    if (running_.empty()) return false;
    Duration nap = Duration::max();
    for (const Running& running : running_) nap = std::min(nap, running.due - now());
    if (nap > Duration::zero() && !disk_.is_gone()) sleep_for(std::min(nap, timeout));
    return true;
  }

 private:
  struct Queued {
    Io* io;
    uint64_t flush_point;
    uint64_t absences;
  };
  struct Running {
    Io* io = nullptr;
    SimDisk::Execution execution;
    unsigned polls_left = 0;
    Duration due{};
  };
  Duration now() {
    return disk_.options().latency == Duration::zero() ? Duration::zero() : clock_.now();
  }

  SimDisk& disk_;
  Clock& clock_;
  std::vector<Queued> queued_;
  std::vector<Running> running_;
};

Result<std::unique_ptr<ChannelCore>> SimDevice::make_channel() {
  return std::make_unique<SimChannel>(*this);
}

}  // namespace

std::unique_ptr<Device> open_sim_device(Context& context, std::shared_ptr<SimDisk> disk) {
  return std::make_unique<SimDevice>(context, std::move(disk));
}

}  // namespace basalt::sim
