// See delay_device.h. What is kept lies in a heap by its time. A channel that waits sleeps until the first of them is due or
// the device below is done with another; for event loops, a timer stands beside the descriptor of the channel below.
#include "bdev/delay/delay_device.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <vector>

#include "base/check.h"
#include "base/sync.h"
#include "base/try.h"
#include "base/unique_fd.h"
#include "bdev/scheme_table.h"
#include "bdev/sized_uri.h"
#include "bdev/stacked.h"

namespace basalt {
namespace {

enum class Kept : uint8_t { no, as_read, as_write };

Kept kept_as(Op op) {
  switch (op) {
    case Op::read:
    case Op::compare: return Kept::as_read;
    case Op::write:
    case Op::write_zeroes:
    case Op::compare_and_write:
    case Op::copy:
    case Op::zone_append: return Kept::as_write;
    default: return Kept::no;
  }
}

// What an event loop sleeps on: readable when the channel below has work, or the timer has run out.
struct WaitSet {
  UniqueFd epoll, timer;

  static Result<WaitSet> create(int below);
  // Zero: never.
  void set_timer(Duration left) const noexcept {
    itimerspec time{};
    time.it_value.tv_sec = left / std::chrono::seconds(1);
    time.it_value.tv_nsec = (left % std::chrono::seconds(1)).count();
    ::timerfd_settime(timer.get(), 0, &time, nullptr);
  }
};

Result<WaitSet> WaitSet::create(int below) {
  WaitSet set{UniqueFd(::epoll_create1(EPOLL_CLOEXEC)),
              UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK))};
  epoll_event readable{};
  readable.events = EPOLLIN;
  if (!set.epoll || !set.timer ||
      ::epoll_ctl(set.epoll.get(), EPOLL_CTL_ADD, below, &readable) != 0 ||
      ::epoll_ctl(set.epoll.get(), EPOLL_CTL_ADD, set.timer.get(), &readable) != 0) {
    return error(StatusCode::io_error, std::string("a timer to wait on: ") + std::strerror(errno));
  }
  return set;
}

class DelayChannel final : public StackedChannel<DelayChannel> {
 public:
  // `waits`: without, it completes only from poll(), as the channel below.
  DelayChannel(DelayDevice& device, std::unique_ptr<Channel> below, WaitSet waits, uint32_t seed)
      : StackedChannel(device, std::move(below)),
        device_(device),
        clock_(device.context().clock()),
        waits_(std::move(waits)),
        random_(seed) {
    kept_.reserve(kChildren);
  }

  bool start(Io& io) noexcept {
    if (!StackedChannel::start(io)) return false;
    ++below_count_;
    return true;
  }
  bool keeps(Io& child) noexcept {
    --below_count_;
    const Kept as = kept_as(child.op);
    if (as == Kept::no) return false;
    const bool slow = random_() % 100 == 0;
    const Duration latency =
        device_.latency(as == Kept::as_read ? (slow ? DelayKind::read_p99 : DelayKind::read)
                                            : (slow ? DelayKind::write_p99 : DelayKind::write));
    if (latency == Duration::zero()) return false;
    kept_.push_back({clock_.now() + latency, &child});
    std::push_heap(kept_.begin(), kept_.end(), later);
    return true;
  }

  void reap() noexcept {
    StackedChannel::reap();
    if (kept_.empty() && timer_due_ == kNever) return;
    const Duration now = clock_.now();
    if (timer_due_ <= now) run_timer(kNever, now);
    bool ended = false;
    for (; !kept_.empty() && kept_.front().due <= now; ended = true) {
      std::pop_heap(kept_.begin(), kept_.end(), later);
      Io& child = *kept_.back().child;
      kept_.pop_back();
      end_child(child);
    }
    // An event loop polls once more between arm() and its sleep: what was kept meanwhile must wake it. Where something
    // has ended it arms again first.
    if (ended) armed_ = false;
    if (armed_) run_timer_for_first(now);
  }

  bool sleep(Duration timeout, unsigned wanted) noexcept {
    if (kept_.empty()) return StackedChannel::sleep(timeout, wanted);
    const Duration left = std::min(timeout, kept_.front().due - clock_.now());
    if (left <= Duration::zero()) return true;
    if (below_count_ == 0) {
      sleep_for(left);
    } else {
      below().wait(left);
    }
    return true;
  }
  int native_fd() noexcept { return waits_.epoll ? waits_.epoll.get() : -1; }
  void native_arm() noexcept {
    below().arm();
    armed_ = static_cast<bool>(waits_.timer);
    if (armed_) run_timer_for_first(clock_.now());
  }
  // What the device below has done is done; it need not be kept any longer.
  void native_cancel(Io& io) noexcept {
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Entry& entry) {
      return entry.child == &child_of(io);
    });
    if (found == kept_.end()) return below().cancel(child_of(io));
    found->due = Duration::zero();
    std::make_heap(kept_.begin(), kept_.end(), later);
  }

 private:
  struct Entry {
    Duration due;
    Io* child;
  };
  static constexpr Duration kNever = Duration::max();
  static bool later(const Entry& a, const Entry& b) { return a.due > b.due; }

  void run_timer(Duration due, Duration now) noexcept {
    // Not zero, which would be never.
    waits_.set_timer(due == kNever ? Duration::zero() : std::max(due - now, Duration(1)));
    timer_due_ = due;
  }
  void run_timer_for_first(Duration now) noexcept {
    if (!kept_.empty() && kept_.front().due < timer_due_) run_timer(kept_.front().due, now);
  }

  DelayDevice& device_;
  Clock& clock_;
  const WaitSet waits_;
  std::minstd_rand random_;
  std::vector<Entry> kept_;  // a heap; the first due is first
  unsigned below_count_ = 0;
  bool armed_ = false;
  Duration timer_due_ = kNever;
};

Result<std::unique_ptr<Device>> open_delay(Context& context, const Uri& uri,
                                           const DeviceOpenOptions& options) {
  BASALT_TRY_ASSIGN(const Uri* child, only_child(uri));
  UriOptions keys(uri);
  constexpr uint64_t kMostUs = DelayDevice::kMaxLatency / std::chrono::microseconds(1);
  BASALT_TRY_ASSIGN(const uint64_t read, keys.take_number("read_us", 0, 0, kMostUs));
  BASALT_TRY_ASSIGN(const uint64_t read_p99, keys.take_number("read_p99_us", read, 0, kMostUs));
  BASALT_TRY_ASSIGN(const uint64_t write, keys.take_number("write_us", 0, 0, kMostUs));
  BASALT_TRY_ASSIGN(const uint64_t write_p99, keys.take_number("write_p99_us", write, 0, kMostUs));
  BASALT_TRY(keys.finish());
  BASALT_TRY_ASSIGN(std::shared_ptr<Device> below, open_device(context, *child, options));
  BASALT_TRY_ASSIGN(auto device, DelayDevice::create(context, std::move(below), uri.to_string()));
  device->set_latency(DelayKind::read, std::chrono::microseconds(read));
  device->set_latency(DelayKind::read_p99, std::chrono::microseconds(read_p99));
  device->set_latency(DelayKind::write, std::chrono::microseconds(write));
  device->set_latency(DelayKind::write_p99, std::chrono::microseconds(write_p99));
  return device;
}

}  // namespace

Result<std::unique_ptr<DelayDevice>> DelayDevice::create(Context& context,
                                                         std::shared_ptr<Device> below,
                                                         std::string uri) {
  BASALT_TRY_ASSIGN(Claim claim, claim_below(*below, uri));
  return std::unique_ptr<DelayDevice>(
      new DelayDevice(context, std::move(below), std::move(claim), std::move(uri)));
}

void DelayDevice::set_latency(DelayKind kind, Duration latency) {
  BASALT_CHECK(latency >= Duration::zero() && latency <= kMaxLatency, "a latency has its bounds");
  latencies_[static_cast<size_t>(kind)].store(latency, std::memory_order_relaxed);
}

Result<std::unique_ptr<ChannelCore>> DelayDevice::make_channel() {
  BASALT_TRY_ASSIGN(std::unique_ptr<Channel> channel, below().open_channel());
  WaitSet waits;
  if (const int fd = channel->wait_fd(); fd >= 0) {
    BASALT_TRY_ASSIGN(waits, WaitSet::create(fd));
  }
  uint32_t seed = 0;
  context().random().fill(std::as_writable_bytes(std::span(&seed, 1)));
  return std::make_unique<DelayChannel>(*this, std::move(channel), std::move(waits), seed);
}

void register_delay_scheme(Context& context) {
  context.schemes().add("delay", "delay:(file:/path)?read_us=100&write_us=100", &open_delay);
}

}  // namespace basalt
