// See reactor.h.
#include "reactor/reactor.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"

namespace basalt {

namespace {

// A sleep that ends sooner costs more than looking on would have.
constexpr Duration kShortSleep = std::chrono::microseconds(50);
constexpr Duration kLookStep = std::chrono::microseconds(5);

Status descriptor_error(const char* call) {
  return {StatusCode::no_space, std::string("reactor: ") + call + ": " + std::strerror(errno) +
                                    "; raise the limit of open files"};
}

// One writer: no need for an atomic addition.
template <class Number>
void add_to(std::atomic<Number>& counter, Number more) {
  counter.store(counter.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

}  // namespace

Result<std::unique_ptr<Reactor>> Reactor::create(Clock& clock, const ReactorOptions& options) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (options.core >= 0) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ::sched_getaffinity(0, sizeof allowed, &allowed);
    if (options.core >= CPU_SETSIZE || !CPU_ISSET(options.core, &allowed)) {
      return error(StatusCode::invalid_argument,
                   options.name + ": core " + std::to_string(options.core) +
                       " is not among those this process may run on (taskset -p shows them)");
    }
    CPU_SET(options.core, &cores);
  }
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return error(descriptor_error("epoll_create1"));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return error(descriptor_error("eventfd"));
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return error(descriptor_error("epoll_ctl"));
  }
  std::unique_ptr<Reactor> reactor(new Reactor(clock, options, std::move(epoll), std::move(wake)));
  reactor->thread_ = Thread(options.name, [self = reactor.get(), cores] {
    if (CPU_COUNT(&cores) > 0) ::pthread_setaffinity_np(::pthread_self(), sizeof cores, &cores);
    self->loop();
  });
  return reactor;
}

Reactor::Reactor(Clock& clock, const ReactorOptions& options, UniqueFd epoll, UniqueFd wake)
    : clock_(clock),
      options_(options),
      started_(clock.now()),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)) {}

Reactor::~Reactor() {
  post([this] { stop_.store(true); });
  thread_.join();
  BASALT_CHECK(pollers_.empty() && timers_.empty(), "a reactor ends after what lives on it");
}

void Reactor::post(std::function<void()> call) {
  {
    const MutexLock lock(mutex_);
    posted_.push_back(std::move(call));
  }
  has_posted_.store(true);
  if (!sleeping_.exchange(false)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Reactor::run(const std::function<void()>& call) {
  Mutex mutex;
  CondVar changed;
  bool made = false;
  post([&] {
    call();
    const MutexLock lock(mutex);
    made = true;
    changed.notify_one();
  });
  MutexLock lock(mutex);
  while (!made) changed.wait(lock);
}

ReactorStats Reactor::stats() const {
  const auto load = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  return {.loops = load(counters_.loops),
          .sleeps = load(counters_.sleeps),
          .busy = Duration(load(counters_.busy)),
          .looking = Duration(load(counters_.looking)),
          .asleep = clock_.now() - started_ - Duration(load(counters_.busy)) -
                    Duration(load(counters_.looking)),
          .look = Duration(load(counters_.look))};
}

Status Reactor::watch(Watch& watch, int fd, uint32_t events, Handler& handler) {
  watch = {fd, &handler};
  epoll_event event{};
  event.events = events;
  event.data.ptr = &watch;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  watch = {};
  return descriptor_error("epoll_ctl");
}

void Reactor::rewatch(Watch& watch, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &watch;
  const int failed = ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, watch.fd, &event);
  BASALT_CHECK(failed == 0, "a descriptor that is watched");
}

void Reactor::unwatch(Watch& watch) {
  if (watch.handler == nullptr) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch.fd, nullptr);
  for (epoll_event& event : untold_) {
    if (event.data.ptr == &watch) event.data.ptr = nullptr;
  }
  watch = {};
}

void Reactor::add(Poller& poller) { pollers_.push_back(&poller); }

void Reactor::remove(Poller& poller) {
  const auto found = std::find(pollers_.begin(), pollers_.end(), &poller);
  if (found == pollers_.end()) return;
  if (static_cast<size_t>(found - pollers_.begin()) < next_poller_) --next_poller_;
  pollers_.erase(found);
}

void Reactor::set(Timer& timer, Duration delay) {
  cancel(timer);
  timer.due = now_ + std::max(delay, Duration(1));  // not in this loop
  timer.set = true;
  timers_.emplace(timer.due, &timer);
}

void Reactor::cancel(Timer& timer) {
  if (!std::exchange(timer.set, false)) return;
  timers_.erase({timer.due, &timer});
}

unsigned Reactor::make_posted_calls() {
  if (!has_posted_.load(std::memory_order_acquire)) return 0;
  std::vector<std::function<void()>> calls;
  {
    const MutexLock lock(mutex_);
    has_posted_.store(false);
    calls.swap(posted_);
  }
  for (const auto& call : calls) call();
  return static_cast<unsigned>(calls.size());
}

unsigned Reactor::expire_timers() {
  unsigned count = 0;
  for (; !timers_.empty() && timers_.begin()->first <= now_; ++count) {
    Timer& timer = *timers_.begin()->second;
    timers_.erase(timers_.begin());
    timer.set = false;
    timer.expired();
  }
  return count;
}

unsigned Reactor::poll_all() {
  unsigned work = 0;
  for (next_poller_ = 0; next_poller_ < pollers_.size();) {
    work += pollers_[next_poller_++]->poll();
  }
  return work;
}

unsigned Reactor::take_events(Duration timeout) {
  const auto whole = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  const int count = ::epoll_wait(epoll_.get(), events_.data(), kEvents,
                                 static_cast<int>(std::clamp<int64_t>(whole, -1, 3'600'000)));
  if (timeout > Duration::zero()) now_ = clock_.now();
  if (count <= 0) return 0;  // a signal among the reasons
  untold_ = std::span(events_).first(static_cast<size_t>(count));
  unsigned told = 0;
  while (!untold_.empty()) {
    const epoll_event event = untold_.front();
    untold_ = untold_.subspan(1);
    if (event.data.ptr == nullptr) {  // the wake-up, or what was taken off meanwhile
      uint64_t ignored = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &ignored, sizeof ignored);
      continue;
    }
    static_cast<Watch*>(event.data.ptr)->handler->on_ready(event.events);
    ++told;
  }
  return told;
}

bool Reactor::arm_all() {
  bool armed = true;
  for (Poller* poller : pollers_) armed = poller->arm() && armed;
  return armed;
}

void Reactor::sleep() {
  sleeping_.store(true);
  // What came while they were armed nobody would tell.
  if (!arm_all() || poll_all() > 0 || has_posted_.load()) {
    sleeping_.store(false);
    return;
  }
  Duration until_timer = std::chrono::hours(1);
  if (!timers_.empty()) {
    until_timer = std::max(timers_.begin()->first - clock_.now(), Duration::zero());
  }
  const Duration begin = now_;
  add_to(counters_.sleeps, uint64_t{1});
  take_events(until_timer);
  sleeping_.store(false);
  adapt(now_ - begin);
}

void Reactor::adapt(Duration slept) {
  look_ = slept < kShortSleep ? std::min(2 * look_ + kLookStep, options_.longest_look) : look_ / 2;
  counters_.look.store(look_.count(), std::memory_order_relaxed);
}

void Reactor::loop() {
  now_ = clock_.now();
  Duration idle_since = now_;
  while (!stop_.load(std::memory_order_relaxed)) {
    const unsigned work =
        make_posted_calls() + expire_timers() + poll_all() + take_events(Duration::zero());
    const Duration begin = std::exchange(now_, clock_.now());
    add_to(counters_.loops, uint64_t{1});
    add_to(work > 0 ? counters_.busy : counters_.looking, (now_ - begin).count());
    if (work > 0) {
      idle_since = now_;
    } else if (now_ - idle_since >= look_) {
      sleep();
      idle_since = now_;
    }
  }
  make_posted_calls();
}

}  // namespace basalt
