#include "base/sim_scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/sim_fiber.h"
#include "base/sync.h"

namespace basalt::sim {
namespace {

thread_local Scheduler* current_scheduler = nullptr;

constexpr Duration kNever = Duration::max();
constexpr Duration kYieldTime = std::chrono::microseconds(1);

uint64_t mix(uint64_t hash, uint64_t value) { return (hash ^ value) * 0x100000001b3; }

const char* to_text(WaitKind kind) {
  switch (kind) {
    case WaitKind::none: return "nothing";
    case WaitKind::mutex: return "a mutex";
    case WaitKind::shared_mutex: return "a shared mutex";
    case WaitKind::condition: return "a condition variable nobody notifies";
    case WaitKind::sleep: return "the end of a sleep";
    case WaitKind::join: return "the end of";
  }
  return "?";
}

}  // namespace

struct Scheduler::Fiber {
  uint32_t number = 0;
  std::string name;
  std::function<void()> body;
  FiberContext context;
  bool finished = false;
  // What it waits for; kind none: it is ready or running.
  WaitKind kind = WaitKind::none;
  const void* object = nullptr;
  Duration deadline = kNever;
  bool timed_out = false;
};

class Scheduler::VirtualClock final : public Clock {
 public:
  explicit VirtualClock(Scheduler& scheduler) : scheduler_(scheduler) {}
  Duration now() override { return scheduler_.now_ += Duration(1); }
  Duration wall_now() override { return std::chrono::seconds(1577836800) + now(); }

 private:
  Scheduler& scheduler_;
};

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      clock_(std::make_unique<VirtualClock>(*this)),
      random_state_(options.seed * 0x9e3779b97f4a7c15 + 0x632be59bd9b4e019) {
  fibers_.push_back(std::make_unique<Fiber>());
}

Scheduler::~Scheduler() = default;
Clock& Scheduler::clock() { return *clock_; }
Scheduler* Scheduler::current() { return current_scheduler; }

// splitmix64; the modulo's bias does not matter for choosing among few.
uint64_t Scheduler::random(uint64_t bound) {
  uint64_t word = random_state_ += 0x9e3779b97f4a7c15;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
  word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
  return (word ^ (word >> 31)) % bound;
}

Status Scheduler::run(std::function<void()> body) {
  BASALT_CHECK(current_scheduler == nullptr, "simulations do not nest");
  BASALT_CHECK(fibers_.size() == 1, "a Scheduler runs once");
  current_scheduler = this;
  detail::simulations.fetch_add(1);
  running_ = fibers_[0].get();
  start("main", std::move(body));
  switch_to(pick());
  // Back here: every thread has ended, or none of the rest can go on.
  detail::simulations.fetch_sub(1);
  current_scheduler = nullptr;
  for (auto& fiber : fibers_) {
    if (!fiber->finished && fiber->number != 0) fiber->context.abandon();
  }
  return failure_;
}

uint32_t Scheduler::start(std::string name, std::function<void()> body) {
  auto fiber = std::make_unique<Fiber>();
  fiber->number = static_cast<uint32_t>(fibers_.size());
  fiber->name = std::move(name);
  fiber->body = std::move(body);
  fiber->context.prepare(&Scheduler::fiber_main);
  ready_.push_back(fiber.get());
  fibers_.push_back(std::move(fiber));
  return fibers_.back()->number;
}

void Scheduler::fiber_main() {
  Scheduler& scheduler = *current_scheduler;
  Fiber& self = *scheduler.running_;
  self.context.entered();
  self.body();
  self.body = nullptr;
  self.finished = true;
  scheduler.wake_all(&self);
  Fiber* next = scheduler.pick();
  scheduler.running_ = next;
  self.context.leave_for_good(next->context);
}

// The next to run: the seed's choice among those that can; the scheduler's own context when the run
// is over. Takes it off the ready list.
Scheduler::Fiber* Scheduler::pick() {
  Fiber* home = fibers_[0].get();
  if (!failure_.ok()) return home;
  if (++steps_ > options_.max_steps) {
    failure_ = Status(StatusCode::timed_out, "the simulation has not ended after " +
                                                 std::to_string(options_.max_steps) + " steps");
    return home;
  }
  now_ += Duration(1 + random(100));
  while (wake_expired() || (ready_.empty() && !timed_.empty())) {
    if (ready_.empty()) now_ = std::max(now_, timed_.begin()->first);
  }
  if (ready_.empty()) {
    const bool all_ended = std::all_of(fibers_.begin() + 1, fibers_.end(),
                                       [](const auto& fiber) { return fiber->finished; });
    if (!all_ended) failure_ = Status(StatusCode::internal, "deadlock: " + describe_waits());
    return home;
  }
  const size_t index = random(ready_.size());
  Fiber* next = ready_[index];
  ready_.erase(ready_.begin() + static_cast<std::ptrdiff_t>(index));
  trace_hash_ = mix(mix(trace_hash_, next->number), static_cast<uint64_t>(now_.count()));
  if (options_.record_trace) trace_.push_back({next->number, now_});
  return next;
}

// Makes one thread ready whose deadline has passed; false when there is none.
bool Scheduler::wake_expired() {
  if (timed_.empty() || timed_.begin()->first > now_) return false;
  Fiber& fiber = *timed_.begin()->second;
  fiber.timed_out = true;
  make_ready(fiber);
  return true;
}

void Scheduler::make_ready(Fiber& fiber) {
  if (fiber.deadline != kNever) {
    const auto [begin, end] = timed_.equal_range(fiber.deadline);
    timed_.erase(
        std::find_if(begin, end, [&](const auto& entry) { return entry.second == &fiber; }));
  }
  fiber.kind = WaitKind::none;
  fiber.object = nullptr;
  fiber.deadline = kNever;
  ready_.push_back(&fiber);
}

void Scheduler::switch_to(Fiber* next) {
  Fiber* previous = std::exchange(running_, next);
  if (next != previous) previous->context.switch_to(next->context);
}

void Scheduler::reschedule() {
  ready_.push_back(running_);
  switch_to(pick());
}

void Scheduler::yield() {
  now_ += kYieldTime;
  reschedule();
}

void Scheduler::block(const void* object, WaitKind kind, Duration deadline) {
  running_->object = object;
  running_->kind = kind;
  running_->deadline = deadline;
  running_->timed_out = false;
  if (deadline != kNever) timed_.emplace(deadline, running_);
  switch_to(pick());
}

void Scheduler::sleep(Duration duration) {
  if (duration <= Duration::zero()) return reschedule();
  block(nullptr, WaitKind::sleep, duration < kNever - now_ ? now_ + duration : kNever);
}

void Scheduler::wait_on(const void* object, WaitKind kind) { block(object, kind, kNever); }

bool Scheduler::wait_on_for(const void* object, WaitKind kind, Duration timeout) {
  timeout = std::max(timeout, Duration::zero());
  block(object, kind, timeout < kNever - now_ ? now_ + timeout : kNever);
  return !running_->timed_out;
}

void Scheduler::wake_one(const void* object) {
  std::vector<Fiber*> waiting;
  for (auto& fiber : fibers_) {
    if (fiber->kind != WaitKind::none && fiber->object == object) waiting.push_back(fiber.get());
  }
  if (!waiting.empty()) make_ready(*waiting[random(waiting.size())]);
}

void Scheduler::wake_all(const void* object) {
  for (auto& fiber : fibers_) {
    if (fiber->kind != WaitKind::none && fiber->object == object) make_ready(*fiber);
  }
}

void Scheduler::note_holder(const void* lock) { holders_.emplace(lock, running_->number); }

// The running thread's entry, or, for a lock that is released by another thread, any.
void Scheduler::forget_holder(const void* lock) {
  const auto [begin, end] = holders_.equal_range(lock);
  if (begin == end) return;  // taken before the simulation began
  const auto own = std::find_if(
      begin, end, [this](const auto& entry) { return entry.second == running_->number; });
  holders_.erase(own == end ? begin : own);
}

void Scheduler::join(uint32_t thread) {
  Fiber& fiber = *fibers_[thread];
  reschedule();
  while (!fiber.finished) wait_on(&fiber, WaitKind::join);
}

unsigned Scheduler::core() { return static_cast<unsigned>(random(options_.cores)); }

std::string Scheduler::describe_wait(const Fiber& fiber) const {
  std::string text = "thread \"" + fiber.name + "\" (" + std::to_string(fiber.number) +
                     ") waits for " + to_text(fiber.kind);
  if (fiber.kind == WaitKind::join) {
    text += " thread \"" + static_cast<const Fiber*>(fiber.object)->name + "\"";
  }
  const auto [begin, end] = holders_.equal_range(fiber.object);
  for (auto entry = begin; entry != end; ++entry) {
    const Fiber& holder = *fibers_[entry->second];
    text += (entry == begin ? " held by thread \"" : " and thread \"") + holder.name + "\" (" +
            std::to_string(holder.number) + (&holder == &fiber ? ", itself)" : ")");
  }
  return text;
}

std::string Scheduler::describe_waits() const {
  std::string text;
  for (const auto& fiber : fibers_) {
    if (fiber->number == 0 || fiber->finished) continue;
    text += (text.empty() ? "" : "; ") + describe_wait(*fiber);
  }
  return text;
}

}  // namespace basalt::sim
