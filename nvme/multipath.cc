// See multipath.h.
#include "nvme/multipath.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/sync.h"

namespace basalt::nvme {

namespace {

// How often poll() looks for controllers that have come back, and at paths on which nothing is outstanding.
constexpr unsigned kPollsPerLook = 1024, kPollsPerIdle = 64;
// Until a queue pair is tried to be opened again: of a controller that is busy, and of one that refuses.
constexpr Duration kSoon = std::chrono::milliseconds(100), kLater = std::chrono::seconds(10);
// How long a path that has refused a command is left alone at least.
constexpr Duration kRest = std::chrono::milliseconds(100);
// Nobody sleeps longer without looking: a controller goes and comes without an event.
constexpr Duration kLongestSleep = std::chrono::milliseconds(100),
                   kShortSleep = std::chrono::milliseconds(10);

}  // namespace

Result<std::unique_ptr<MultipathQueue>> MultipathQueue::open(
    std::span<Controller* const> controllers, const Options& options, Clock& clock) {
  BASALT_CHECK(!controllers.empty(), "a namespace is reached through one controller at least");
  UniqueFd events(::epoll_create1(EPOLL_CLOEXEC));
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!events || !timer) {
    return error(StatusCode::no_space, std::string("nvme: no event: ") + std::strerror(errno));
  }
  std::vector<Path> paths;
  Status first_failure;
  bool any = false;
  for (Controller* controller : controllers) {
    Path path{.controller = controller, .pair = nullptr};
    auto pair = controller->open_queue_pair();
    if (pair) {
      path.pair = std::move(*pair);
      any = true;
    } else if (controller->is_up() && pair.error().code() == StatusCode::no_space) {
      return error(
          pair.error());  // others may write by it, and a flush of this queue could not cover that
    } else if (first_failure.ok()) {
      first_failure = pair.error();
    }
    paths.push_back(std::move(path));
  }
  if (!any) return error(std::move(first_failure));
  return std::unique_ptr<MultipathQueue>(
      new MultipathQueue(options, clock, std::move(paths), std::move(events), std::move(timer)));
}

MultipathQueue::MultipathQueue(const Options& options, Clock& clock, std::vector<Path> paths,
                               UniqueFd events, UniqueFd timer)
    : options_(options),
      clock_(clock),
      events_(std::move(events)),
      timer_(std::move(timer)),
      paths_(std::move(paths)) {
  unsigned depth = 0;
  for (const Path& path : paths_) depth += path.controller->options().queue_depth;
  depth_ = static_cast<uint16_t>(std::min(depth, 4096u));
  // A flush may be with all of them at once.
  parts_ = std::vector<Part>(depth_ + paths_.size());
  for (Part& part : parts_) {
    part.queue = this;
    part.request.user = &part;
    part.request.done = [](Request& request) {
      Part& finished = *static_cast<Part*>(request.user);
      finished.queue->part_done(finished);
    };
    part.next = std::exchange(free_, &part);
    ++free_count_;
  }
  for (const Path& path : paths_) {
    if (path.pair != nullptr) watch_events(*path.pair);
  }
  epoll_event event{.events = EPOLLIN, .data = {}};
  ::epoll_ctl(events_.get(), EPOLL_CTL_ADD, timer_.get(), &event);
}

MultipathQueue::~MultipathQueue() {
  BASALT_CHECK(outstanding_ == 0, "a queue closes with commands outstanding");
}

// Its event is the same for as long as it lives.
void MultipathQueue::watch_events(const QueuePair& pair) noexcept {
  if (pair.event_fd() < 0) return;
  epoll_event event{.events = EPOLLIN, .data = {}};
  ::epoll_ctl(events_.get(), EPOLL_CTL_ADD, pair.event_fd(), &event);
}

// ---- The way there

void MultipathQueue::submit(Request& request) noexcept {
  ++outstanding_;
  request.status = StatusCode::ok;
  request.completion = {};
  request.elsewhere = false;
  request.attempts = 0;
  request.expired = false;
  request.due = Duration::zero();
  if (waiting_.first != nullptr || dispatch(request) != Sent::yes) waiting_.push(request);
}

MultipathQueue::Sent MultipathQueue::dispatch(Request& whole) noexcept {
  if (failed_) return Sent::hopeless;
  if (free_count_ < paths_.size()) return Sent::no_room;
  if (whole.command.opcode == static_cast<uint8_t>(IoOpcode::flush)) {
    const Sent sent = dispatch_flush(whole);
    if (sent != Sent::yes || whole.attempts > 0) return sent;
  }
  Path* path = choose();
  if (path == nullptr) return Sent::no_path;
  whole.attempts = 1;
  send_part(whole, *path);
  return Sent::yes;
}

// No path may be left out whose writes it is to cover. Sends nothing where there are none.
MultipathQueue::Sent MultipathQueue::dispatch_flush(Request& whole) noexcept {
  for (Path& path : paths_) {
    path.to_flush = path.controller->has_unflushed_writes();
    if (!path.to_flush) continue;
    if (path.controller->gone() != StatusCode::ok) return Sent::hopeless;
    if (!serves(path)) return Sent::no_path;
  }
  for (Path& path : paths_) {
    if (!path.to_flush) continue;
    ++whole.attempts;
    send_part(whole, path);
  }
  return Sent::yes;
}

void MultipathQueue::send_part(Request& whole, Path& path) noexcept {
  Part* part = free_;
  free_ = part->next;
  --free_count_;
  part->whole = &whole;
  part->path = &path;
  part->request.command = whole.command;
  part->request.data = whole.data;
  part->request.metadata = whole.metadata;
  part->request.timeout = whole.timeout;
  part->request.may_move = true;
  path.pair->submit(part->request);
}

// Whether commands that are sent there now can be expected to be carried out.
bool MultipathQueue::serves(Path& path) noexcept {
  if (path.pair == nullptr || !path.pair->usable()) return false;
  if (const uint32_t generation = path.controller->access_generation();
      generation != path.access_generation) {
    path.access_generation = generation;
    path.access = path.controller->access_state(options_.nsid);
  }
  if (path.access != AccessState::optimized && path.access != AccessState::non_optimized) {
    return false;
  }
  if (path.rests_until == Duration::zero()) return true;
  if (clock_.now() < path.rests_until) return false;
  path.rests_until = Duration::zero();
  return true;
}

MultipathQueue::Path* MultipathQueue::choose() noexcept {
  Path* best = nullptr;
  for (size_t i = 0; i < paths_.size(); ++i) {
    Path& path = paths_[(turn_ + i) % paths_.size()];
    if (!serves(path)) continue;
    const bool better =
        best == nullptr || (is_optimized(path) && !is_optimized(*best)) ||
        (is_optimized(path) == is_optimized(*best) && options_.policy == PathPolicy::queue_depth &&
         path.pair->outstanding() < best->pair->outstanding());
    if (better) best = &path;
  }
  if (best != nullptr) turn_ = static_cast<size_t>(best - paths_.data()) + 1;
  return best;
}

// ---- And back

void MultipathQueue::part_done(Part& part) noexcept {
  Request& whole = *part.whole;
  const Request& request = part.request;
  part.next = std::exchange(free_, &part);
  ++free_count_;
  if (request.elsewhere && !failed_) {
    if (request.completion.status().type() == static_cast<uint8_t>(StatusType::path)) {
      refused(part);
    }
    whole.expired = true;  // to be sent again
  } else if (whole.status == StatusCode::ok) {
    whole.status = request.status;
    whole.completion = request.completion;
  }
  if (--whole.attempts > 0) return;
  const bool again = std::exchange(whole.expired, false);
  if (!again || whole.status != StatusCode::ok || has_waited_enough(whole)) {
    if (again && whole.status == StatusCode::ok) {
      whole.status = StatusCode::io_error;
      whole.completion = request.completion;
    }
    finish(whole);
    return;
  }
  ++moved_;
  waiting_.push(whole);
}

// The path does not serve for a moment, and until its controller says that it does.
void MultipathQueue::refused(Part& part) noexcept {
  Path& path = *part.path;
  path.rests_until = clock_.now() + kRest;
  path.controller->refresh_access();
  wait_for_path(*part.whole);
}

void MultipathQueue::wait_for_path(Request& whole) noexcept {
  if (whole.due == Duration::zero()) whole.due = clock_.now() + options_.patience;
}

bool MultipathQueue::has_waited_enough(Request& whole) noexcept {
  return whole.due != Duration::zero() && clock_.now() >= whole.due;
}

void MultipathQueue::finish(Request& whole) noexcept {
  --outstanding_;
  ++completed_;
  whole.done(whole);
}

unsigned MultipathQueue::poll() noexcept {
  completed_ = 0;
  // Idle paths are looked at now and then, and when something has come that may be theirs.
  const bool idle_too = event_ || polls_ % kPollsPerIdle == 0;
  event_ = false;
  for (const Path& path : paths_) {
    failed_ |= path.controller->may_have_lost_writes();
    if (path.pair == nullptr) continue;
    // One whose controller was lost has its queue made anew.
    if (idle_too || path.pair->outstanding() > 0 || !path.pair->usable()) {
      path.pair->poll();
    } else {
      path.pair->settle();
    }
  }
  if (++polls_ % kPollsPerLook == 0) look();
  lacks_path_ = false;
  if (waiting_.first != nullptr) dispatch_waiting();
  if (lacks_path_ || timer_set_) set_timer(lacks_path_ ? kShortSleep : Duration::zero());
  send();
  return completed_;
}

// From now; zero: not at all. What it has told before is taken back.
void MultipathQueue::set_timer(Duration span) noexcept {
  const itimerspec when{.it_interval = {}, .it_value = {0, static_cast<long>(span.count())}};
  ::timerfd_settime(timer_.get(), 0, &when, nullptr);
  timer_set_ = span > Duration::zero();
}

// Once round, in their order.
void MultipathQueue::dispatch_waiting() noexcept {
  RequestList list = std::exchange(waiting_, {});
  while (Request* request = list.pop()) {
    Sent sent = dispatch(*request);
    if (sent == Sent::no_path) {
      wait_for_path(*request);
      if (has_waited_enough(*request)) sent = Sent::hopeless;
    }
    if (sent == Sent::hopeless) {
      request->status = StatusCode::io_error;
      finish(*request);
    } else if (sent != Sent::yes) {
      waiting_.push(*request);
      lacks_path_ |= sent == Sent::no_path;
    }
    if (sent == Sent::no_room) break;
  }
  while (Request* request = list.pop()) waiting_.push(*request);
}

// Controllers that were down when this was opened, and are up by now.
void MultipathQueue::look() noexcept {
  for (Path& path : paths_) {
    if (path.pair != nullptr || !path.controller->is_up()) continue;
    const Duration now = clock_.now();
    if (now < path.opened_at) continue;
    if (auto pair = path.controller->try_open_queue_pair()) {
      path.pair = std::move(*pair);
      watch_events(*path.pair);
    } else {
      path.opened_at = now + (pair.error().code() == StatusCode::busy ? kSoon : kLater);
    }
  }
}

void MultipathQueue::send() noexcept {
  for (const Path& path : paths_) {
    if (path.pair != nullptr && path.pair->outstanding() > 0) path.pair->send();
  }
}

unsigned MultipathQueue::wait(Duration timeout) noexcept {
  const Duration end = clock_.now() + timeout;
  for (;;) {
    if (const unsigned count = poll(); count > 0) return count;
    const Duration now = clock_.now();
    if (now >= end) return 0;
    sleep(end - now);
  }
}

void MultipathQueue::sleep(Duration timeout) noexcept {
  look();
  QueuePair* only = nullptr;
  unsigned busy = 0;
  for (const Path& path : paths_) {
    if (path.pair == nullptr || path.pair->outstanding() == 0) continue;
    only = path.pair.get();
    ++busy;
  }
  // A path comes back without an event.
  const Duration span = std::min(timeout, lacks_path_ ? kShortSleep : kLongestSleep);
  if (busy == 1) return only->sleep(span);
  for (const Path& path : paths_) {
    // Looks at its commands' times, sends, and takes an event that has come.
    if (path.pair != nullptr && path.pair->outstanding() > 0) path.pair->sleep(Duration::zero());
  }
  pollfd entry{events_.get(), POLLIN, 0};
  const timespec limit{span.count() / 1'000'000'000, span.count() % 1'000'000'000};
  event_ = ::ppoll(&entry, 1, &limit, nullptr) > 0;
}

}  // namespace basalt::nvme
