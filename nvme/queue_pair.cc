// See queue_pair.h.
#include "nvme/queue_pair.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "base/check.h"
#include "base/sync.h"

namespace basalt::nvme {

namespace {

// How often poll() looks at the clock: a command's time is known to within as many polls, or one wait().
constexpr unsigned kPollsPerWatch = 1024;

// Sent twice, these leave the namespace as if sent once. A compare-and-write, for one, would find its own
// bytes; a zone append would write them twice.
bool is_repeatable(const Command& command) {
  if (command.flags & (kFusedFirst | kFusedSecond)) return false;
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::flush:
    case IoOpcode::write:
    case IoOpcode::read:
    case IoOpcode::write_uncorrectable:
    case IoOpcode::compare:
    case IoOpcode::write_zeroes:
    case IoOpcode::dataset_management:
    case IoOpcode::verify: return true;
    default: return false;
  }
}

// Whether what it wrote may be in the controller's cache when it has completed.
bool may_stay_in_cache(const Command& command) {
  switch (static_cast<IoOpcode>(command.opcode)) {
    case IoOpcode::flush:
    case IoOpcode::read:
    case IoOpcode::compare:
    case IoOpcode::verify:
    case IoOpcode::reservation_report:
    case IoOpcode::zone_management_receive: return false;
    case IoOpcode::write:
    case IoOpcode::write_zeroes: return (command.cdw12 & kForceUnitAccess) == 0;
    default: return true;
  }
}

bool is_of_path(CompletionStatus status) {
  return status.type() == static_cast<uint8_t>(StatusType::path);
}
// What the states of asymmetric access promise, and other errors of the path do not.
bool is_not_carried_out(CompletionStatus status) {
  return status.is(kAccessPersistentLoss) || status.is(kAccessInaccessible) ||
         status.is(kAccessTransition);
}

}  // namespace

QueuePair::QueuePair(const QueuePairOptions& options, ControllerLink& link,
                     std::unique_ptr<CommandQueue> queue, MemoryMap& memory, Clock& clock,
                     LogSink& log)
    : options_(options),
      link_(link),
      queue_(std::move(queue)),
      clock_(clock),
      log_(log),
      memory_user_(memory),
      epoch_(link.epoch.load(std::memory_order_acquire)),
      slot_bits_(static_cast<unsigned>(std::bit_width(queue_->depth() - 1u))),
      in_use_(queue_->depth()),
      ids_(queue_->depth()) {
  for (unsigned slot = queue_->depth(); slot-- > 0;) {
    ids_[slot] = static_cast<uint16_t>(slot);
    free_.push_back(static_cast<uint16_t>(slot));
  }
}

QueuePair::~QueuePair() {
  BASALT_CHECK(outstanding_ == 0, "a queue pair closes with commands outstanding");
  link_.close(options_.id, epoch_);
}

void QueuePair::submit(Request& request) noexcept {
  ++outstanding_;
  request.attempts = 0;
  request.completion = {};
  request.elsewhere = false;
  request.expired = false;
  if (waiting_.first != nullptr || !has_room(request) || !post(request)) waiting_.push(request);
}

// Fused commands go to the controller together.
bool QueuePair::has_room(const Request& request) const noexcept {
  const size_t wanted = (request.command.flags & kFusedFirst) != 0 ? 2 : 1;
  return free_.size() >= std::min(wanted, in_use_.size());
}

// False when it has to wait. A Request the transport refuses is kept for the next poll().
bool QueuePair::post(Request& request) noexcept {
  if (!usable()) return false;
  const uint16_t slot = free_.back();
  ids_[slot] = static_cast<uint16_t>(ids_[slot] + (1u << slot_bits_));
  // Before the controller can see it: what completes from here on, it need not cover.
  const bool flush =
      link_.unflushed != nullptr && request.command.opcode == static_cast<uint8_t>(IoOpcode::flush);
  const uint64_t flush_number = flush ? link_.unflushed->flush_begins() : 0;
  enter_memory(request);
  const StatusCode status = queue_->post(slot, ids_[slot], request);
  if (status != StatusCode::ok) {
    leave_memory(request);
    request.status = status;
    failed_.push(request);
    return true;
  }
  free_.pop_back();
  in_use_[slot] = &request;
  request.due = Duration::zero();
  request.expired = false;
  request.flush_number = flush_number;
  ++request.attempts;
  return true;
}

void QueuePair::post_waiting() noexcept {
  while (waiting_.first != nullptr && has_room(*waiting_.first)) {
    Request* next = waiting_.first;
    Request* after = next->next;
    if (!post(*next)) return;
    waiting_.first = after;
    if (after == nullptr) waiting_.last = nullptr;
  }
}

unsigned QueuePair::poll() noexcept {
  if (epoch_ != link_.epoch.load(std::memory_order_acquire)) return catch_up();
  unsigned count = failed_.first != nullptr ? give_back_failed() : 0;
  if (waiting_.first != nullptr) post_waiting();
  queue_->ring();
  unsigned found;
  do {
    found = queue_->reap(reaped_);
    for (unsigned i = 0; i < found; ++i) count += complete(reaped_[i]);
  } while (found == reaped_.size() && count < in_use_.size());
  if (++polls_ >= kPollsPerWatch) watch(clock_.now());
  if (waiting_.first != nullptr) post_waiting();
  queue_->ring();  // what `done` has submitted
  return count;
}

void QueuePair::send() noexcept {
  if (epoch_ != link_.epoch.load(std::memory_order_acquire)) return;
  if (waiting_.first != nullptr) post_waiting();
  queue_->ring();
}

unsigned QueuePair::wait(Duration timeout) noexcept {
  // What is about to complete is worth a few looks; a sleep costs more than a fast device.
  constexpr unsigned kLooks = 64;
  const Duration end = clock_.now() + timeout;
  for (unsigned looks = 0;; ++looks) {
    if (const unsigned count = poll(); count > 0) return count;
    const Duration now = clock_.now();
    if (now >= end) return 0;
    if (looks >= kLooks) sleep(end - now);
  }
}

void QueuePair::sleep(Duration timeout) noexcept {
  watch(clock_.now());
  send();
  // Not for long: times are to be looked at, and a reset is told by the epoch.
  constexpr Duration kLongest = std::chrono::milliseconds(100);
  const Duration span = std::min(timeout, kLongest);
  if (queue_ != nullptr) return queue_->sleep(span);
  sleep_for(std::min<Duration>(span, std::chrono::milliseconds(1)));
}

// Whether a Request was given back.
bool QueuePair::complete(const Completion& completion) noexcept {
  const uint16_t cid = completion.cid;
  const auto slot = static_cast<uint16_t>(cid & ((1u << slot_bits_) - 1));
  if (slot >= in_use_.size() || in_use_[slot] == nullptr || ids_[slot] != cid ||
      completion.sq_id != options_.id) {
    report_stray(completion);
    return false;
  }
  const CompletionStatus status = completion.status();
  if (status.ok() && link_.unflushed != nullptr && !note_kept(*in_use_[slot])) return false;
  Request& request = take(slot);
  request.completion = completion;
  if (status.ok()) {
    give_back(request, StatusCode::ok);
    return true;
  }
  if (request.expired && status.is(kAbortRequested)) {
    give_back(request, StatusCode::timed_out);
    return true;
  }
  if (request.may_move && is_of_path(status) && !status.do_not_retry()) {
    request.elsewhere = is_not_carried_out(status) || is_repeatable(request.command);
  } else if (try_again(request, status)) {
    return false;
  }
  give_back(request, to_status_code(status));
  return true;
}

// Before its owner is told that it is done. False: the controller has gone down meanwhile, and whoever took it down may
// have looked for unflushed writes too early to see this one: it has not completed, and will be sent again.
bool QueuePair::note_kept(const Request& request) noexcept {
  const Command& command = request.command;
  if (request.flush_number != 0) {
    link_.unflushed->flushed(command.nsid, request.flush_number);
  } else if (may_stay_in_cache(command)) {
    link_.unflushed->wrote(options_.id, command.nsid);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return epoch_ == link_.epoch.load(std::memory_order_relaxed);
  }
  return true;
}

Request& QueuePair::take(uint16_t slot) noexcept {
  Request& request = *in_use_[slot];
  in_use_[slot] = nullptr;
  free_.push_back(slot);
  leave_memory(request);
  return request;
}

// A command without data uses no region, and must not keep one registered: an asynchronous event request waits
// for ever.
void QueuePair::enter_memory(Request& request) noexcept {
  const bool has_data = !request.data.empty() || !request.metadata.empty();
  request.memory_phase = has_data ? static_cast<uint8_t>(memory_user_.enter()) : kNoMemory;
}
void QueuePair::leave_memory(Request& request) noexcept {
  if (request.memory_phase != kNoMemory) memory_user_.leave(request.memory_phase);
}

void QueuePair::give_back(Request& request, StatusCode status) noexcept {
  --outstanding_;
  ++counters_.completed;
  request.status = status;
  request.done(request);
}

bool QueuePair::try_again(Request& request, CompletionStatus status) noexcept {
  if (status.do_not_retry() || request.expired || request.attempts >= options_.max_attempts ||
      options_.id == 0 || !is_repeatable(request.command)) {
    return false;
  }
  ++counters_.retried;
  const Duration delay = std::min(link_.retry_delay(status), options_.timeout);
  if (delay == Duration::zero()) {
    waiting_.push(request);
  } else {
    request.due = clock_.now() + delay;
    delayed_.push(request);
  }
  return true;
}

unsigned QueuePair::give_back_failed() noexcept {
  unsigned count = 0;
  for (RequestList list = std::exchange(failed_, {}); Request* request = list.pop(); ++count) {
    give_back(*request, request->status);
  }
  return count;
}

// Times are taken here and not at each command: a command's begins with the first look at it.
void QueuePair::watch(Duration now) noexcept {
  polls_ = 0;
  for (RequestList list = std::exchange(delayed_, {}); Request* request = list.pop();) {
    (request->due <= now ? waiting_ : delayed_).push(*request);
  }
  // Of a controller that is down nobody expects an answer; what it has is sent again, and its time begins anew.
  if (epoch_ != link_.epoch.load(std::memory_order_acquire)) return;
  for (size_t slot = 0; slot < in_use_.size(); ++slot) {
    Request* request = in_use_[slot];
    if (request == nullptr) continue;
    if (request->due == Duration::zero()) {
      request->due =
          now + (request->timeout > Duration::zero() ? request->timeout : options_.timeout);
    } else if (request->due <= now) {
      counters_.expired += !request->expired;
      link_.expired(options_.id, ids_[slot], request->expired);
      request->expired = true;
      request->due = now + options_.abort_grace;
    }
  }
}

// The controller is not what it was: down, gone, or up again after a reset.
unsigned QueuePair::catch_up() noexcept {
  unsigned count = give_back_failed();
  const uint32_t now = link_.epoch.load(std::memory_order_acquire);
  settle();
  if (now == ControllerLink::kGone) return count + give_back_all(link_.gone_status());
  if (now % 2 == 1) {
    return count + move_elsewhere(link_.settled_in.load(std::memory_order_acquire) == now);
  }
  if (now == hopeless_in_) return count + give_back_all(hopeless_for_);
  count += resend_lost();
  queue_.reset();  // before there is another with its number
  uint32_t made_in = now;
  Result<std::unique_ptr<CommandQueue>> queue = link_.renew(options_.id, made_in);
  if (queue) {
    queue_ = std::move(*queue);
    epoch_ = made_in;
    return count;
  }
  if (queue.error().code() == StatusCode::busy) return count;
  if (link_.epoch.load(std::memory_order_acquire) != now) return count;  // down once more
  log_.log(LogLevel::error, "nvme", queue.error().to_string());
  hopeless_in_ = now;
  hopeless_for_ = queue.error().code();
  return count + give_back_all(hopeless_for_);
}

// The reset has ended what was in flight.
unsigned QueuePair::resend_lost() noexcept {
  RequestList lost;
  for (uint16_t slot = 0; slot < in_use_.size(); ++slot) {
    if (in_use_[slot] != nullptr) lost.push(take(slot));
  }
  unsigned count = 0;
  // The second of two fused commands was still waiting when the first was sent: alone, it is not to be.
  if (waiting_.first != nullptr && (waiting_.first->command.flags & kFusedSecond) != 0) {
    ++count;
    give_back(*waiting_.pop(), StatusCode::canceled);
  }
  while (Request* request = lost.pop()) {
    if (is_repeatable(request->command) && !request->expired &&
        request->attempts < options_.max_attempts) {
      ++counters_.retried;
      waiting_.push(*request);
    } else {
      ++count;
      give_back(*request, request->expired ? StatusCode::timed_out : StatusCode::io_error);
    }
  }
  return count;
}

// One whose time is up may be what brings controllers down.
bool QueuePair::can_go_elsewhere(const Request& request) noexcept {
  return !request.expired && (request.attempts == 0 || is_repeatable(request.command));
}

// While the controller is down: what was not sent, and once that is settled what was.
unsigned QueuePair::move_elsewhere(bool settled) noexcept {
  RequestList moving;
  for (RequestList* from : {&waiting_, &delayed_}) {
    for (RequestList list = std::exchange(*from, {}); Request* request = list.pop();) {
      (request->may_move ? moving : *from).push(*request);
    }
  }
  for (uint16_t slot = 0; settled && slot < in_use_.size(); ++slot) {
    const Request* request = in_use_[slot];
    if (request != nullptr && request->may_move) moving.push(take(slot));
  }
  unsigned count = 0;
  for (; Request* request = moving.pop(); ++count) {
    request->elsewhere = can_go_elsewhere(*request);
    give_back(*request, request->expired ? StatusCode::timed_out : StatusCode::io_error);
  }
  return count;
}

unsigned QueuePair::give_back_all(StatusCode status) noexcept {
  RequestList all = std::exchange(waiting_, {});
  for (RequestList list = std::exchange(delayed_, {}); Request* request = list.pop();)
    all.push(*request);
  for (uint16_t slot = 0; slot < in_use_.size(); ++slot) {
    if (in_use_[slot] != nullptr) all.push(take(slot));
  }
  unsigned count = 0;
  for (; Request* request = all.pop(); ++count) {
    request->elsewhere = request->may_move && can_go_elsewhere(*request);
    give_back(*request, status);
  }
  return count;
}

void QueuePair::report_stray(const Completion& completion) noexcept {
  // Said once, then counted: a broken controller may send millions.
  if (counters_.stray++ > 0) return;
  log_.log(LogLevel::error, "nvme",
           "queue " + std::to_string(options_.id) + ": a completion for command id " +
               std::to_string(completion.cid) + " of queue " + std::to_string(completion.sq_id) +
               ", which is not outstanding; ignored, as are later ones");
}

bool QueuePair::check_invariants() const {
  size_t used = 0;
  for (const Request* request : in_use_) used += request != nullptr;
  return used + free_.size() == in_use_.size() && used <= outstanding_;
}

}  // namespace basalt::nvme
