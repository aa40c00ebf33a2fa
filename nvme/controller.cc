// See controller.h: opening, resets, the watch, and what queue pairs ask for. The bring-up is in bring_up.cc.
#include "nvme/controller.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/try.h"
#include "nvme/commands.h"
#include "nvme/pcie_transport.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/log_page.h"

namespace basalt::nvme {

namespace {

Status check_options(const ControllerOptions& options) {
  if (options.queue_depth < 1 || options.queue_depth > 1023) {
    return {StatusCode::invalid_argument,
            "nvme: queue_depth " + std::to_string(options.queue_depth) + " is not in 1 … 1023"};
  }
  if (options.queue_pairs < 1) {
    return {StatusCode::invalid_argument, "nvme: queue_pairs must be at least 1"};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Controller>> Controller::open(const HostServices& host,
                                                     std::unique_ptr<PciFunction> function,
                                                     const ControllerOptions& options) {
  return open(host, std::make_unique<PcieTransport>(std::move(function), host.memory, host.log),
              options);
}

Result<std::unique_ptr<Controller>> Controller::open(const HostServices& host,
                                                     std::unique_ptr<Transport> transport,
                                                     const ControllerOptions& options) {
  BASALT_TRY(check_options(options));
  std::unique_ptr<Controller> controller(new Controller(host, std::move(transport), options));
  {
    const MutexLock lock(controller->control_);
    if (Status status = controller->bring_up(); !status.ok()) {
      controller->give_up(status);
      return error(status.with_context(controller->name()));
    }
  }
  controller->watch_.start(controller->traits().look_interval);
  return controller;
}

Controller::Controller(const HostServices& host, std::unique_ptr<Transport> transport,
                       const ControllerOptions& options)
    : host_(host),
      options_(options),
      transport_(std::move(transport)),
      unflushed_writes_(options.queue_pairs + size_t{1}),
      open_(options.queue_pairs + size_t{1}) {
  if (transport_->traits().reconnects) unflushed = &unflushed_writes_;
  transport_->attach(host_, options_, [this] { watch_.wake(); });
}

Controller::~Controller() {
  watch_.stop();
  const MutexLock lock(control_);
  for (const bool open : open_) BASALT_CHECK(!open, "a controller closes with queue pairs open");
  if (epoch.load() % 2 == 0) {  // up
    if (Status status = shut_down(); !status.ok()) {
      host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    }
  }
  transport_->cut_off();
  if (admin_ != nullptr) admin_->end();
}

IdentifyController Controller::identity() const {
  const MutexLock lock(mutex_);
  return identity_.data;
}

std::vector<NamespaceInfo> Controller::namespaces() const {
  const MutexLock lock(mutex_);
  return identity_.namespaces;
}

uint64_t Controller::max_transfer_bytes() const {
  const MutexLock lock(mutex_);
  return identity_.max_transfer_bytes;
}

uint16_t Controller::queue_pair_limit() const {
  const MutexLock lock(mutex_);
  return identity_.queue_pairs;
}

AccessState Controller::access_state(uint32_t nsid) const {
  const MutexLock lock(mutex_);
  const bool there = std::any_of(identity_.namespaces.begin(), identity_.namespaces.end(),
                                 [&](const NamespaceInfo& space) { return space.nsid == nsid; });
  if (!there) return AccessState::persistent_loss;
  if (!identity_.access_known) return AccessState::optimized;
  const auto found = identity_.access.find(nsid);
  return found == identity_.access.end() ? AccessState::inaccessible : found->second;
}

bool Controller::has_unflushed_writes() const {
  return may_lose_writes_.load(std::memory_order_relaxed) &&
         (unflushed == nullptr || unflushed_writes_.any());
}

void Controller::refresh_access() noexcept {
  access_is_old_.store(true, std::memory_order_release);
  watch_.wake();
}

void Controller::add_listener(Listener& listener) {
  const MutexLock lock(listeners_mutex_);
  listeners_.push_back(&listener);
}

void Controller::remove_listener(Listener& listener) {
  const MutexLock lock(listeners_mutex_);
  std::erase(listeners_, &listener);
}

void Controller::on_event(std::function<void(uint32_t)> handler) {
  const MutexLock lock(mutex_);
  event_handler_ = std::move(handler);
}

Status Controller::run_admin(const Command& command, std::span<const std::byte> sent,
                             std::span<std::byte> received, Duration timeout, uint32_t* result) {
  if (sent.size() > AdminQueue::kDataBytes || received.size() > AdminQueue::kDataBytes) {
    return {StatusCode::too_large, name() + ": " + describe_admin(command.opcode) +
                                       ": an admin command takes at most " +
                                       std::to_string(AdminQueue::kDataBytes) + " B of data"};
  }
  std::shared_ptr<AdminQueue> admin;
  {
    const MutexLock lock(mutex_);
    admin = admin_;
  }
  if (admin == nullptr) return {gone_status(), name() + ": the controller is gone"};
  uint64_t words = 0;
  Status status = admin->run(command, sent, received,
                             timeout > Duration::zero() ? timeout : options_.admin_timeout, &words);
  if (result != nullptr) *result = static_cast<uint32_t>(words);
  if (status.code() == StatusCode::timed_out) watch_.wake();  // which resets
  return status.with_context(name());
}

// ---- Queue pairs

Result<std::unique_ptr<QueuePair>> Controller::open_queue_pair() {
  const MutexLock lock(control_);
  return open_queue_pair_locked();
}

Result<std::unique_ptr<QueuePair>> Controller::try_open_queue_pair() {
  const MutexLock lock(control_, std::try_to_lock);
  if (!lock)
    return error(StatusCode::busy, name() + ": the controller is busy with something else");
  return open_queue_pair_locked();
}

Result<std::unique_ptr<QueuePair>> Controller::open_queue_pair_locked() {
  if (epoch.load() == kGone) return error(gone_status(), name() + ": the controller is gone");
  if (epoch.load() % 2 == 1) {
    return error(StatusCode::busy,
                 name() + ": the controller is down and about to be reached again");
  }
  uint16_t id = 1;
  {
    const MutexLock state(mutex_);
    while (id <= identity_.queue_pairs && open_[id]) ++id;
    if (id > identity_.queue_pairs) {
      return error(StatusCode::no_space, name() + ": all " + std::to_string(identity_.queue_pairs) +
                                             " queue pairs are in use");
    }
  }
  Result<std::unique_ptr<CommandQueue>> queue = transport_->open_queue(id, *admin_);
  if (!queue) return error(queue.error().with_context(name()));
  {
    const MutexLock state(mutex_);
    open_[id] = true;
  }
  ControllerLink& link = *this;
  return std::make_unique<QueuePair>(
      QueuePairOptions{
          .id = id, .timeout = options_.command_timeout, .abort_grace = options_.abort_grace},
      link, std::move(*queue), host_.memory, host_.clock, host_.log);
}

Result<std::unique_ptr<CommandQueue>> Controller::renew(uint16_t queue_id, uint32_t& made_in) {
  const MutexLock lock(control_, std::try_to_lock);
  if (!lock)
    return error(StatusCode::busy, name() + ": the controller is busy with something else");
  made_in = epoch.load();
  if (made_in == kGone) return error(gone_status(), name() + ": the controller is gone");
  if (made_in % 2 == 1) return error(StatusCode::busy, name() + ": the controller is down");
  {
    const MutexLock state(mutex_);
    if (queue_id > identity_.queue_pairs) {
      return error(StatusCode::no_space, name() + ": since its reset the controller has only " +
                                             std::to_string(identity_.queue_pairs) +
                                             " queue pairs");
    }
  }
  Result<std::unique_ptr<CommandQueue>> queue = transport_->open_queue(queue_id, *admin_);
  if (queue) return queue;
  if (!transport_->traits().reconnects) return error(queue.error().with_context(name()));
  transport_->distrust(queue.error());
  return error(StatusCode::busy, name() + ": " + std::string(queue.error().message()));
}

void Controller::close(uint16_t queue_id, uint32_t made_in) noexcept {
  const MutexLock lock(control_);
  if (epoch.load() == made_in)
    transport_->close_queue(queue_id, *admin_);  // a reset since has ended it
  const MutexLock state(mutex_);
  open_[queue_id] = false;
}

void Controller::expired(uint16_t queue_id, uint16_t cid, bool aborted_before) {
  {
    const MutexLock lock(mutex_);
    expired_.push_back({queue_id, cid, aborted_before});
  }
  watch_.wake();
}

Duration Controller::retry_delay(CompletionStatus status) const {
  return std::chrono::milliseconds(100) *
         retry_delays_[status.retry_delay()].load(std::memory_order_relaxed);
}

// ---- Resets

Status Controller::reset(std::string_view reason) {
  const MutexLock lock(control_);
  if (epoch.load() == kGone) return {gone_status(), name() + ": the controller is gone"};
  if (!doomed_.ok()) return doomed_.with_context(name() + ": about to be given up");
  return reset_locked(reason);
}

void Controller::set_reconnecting(bool wanted) {
  reconnecting_.store(wanted);
  watch_.wake();
}

Status Controller::reset_locked(std::string_view reason) {
  host_.log.log(LogLevel::warning, "nvme",
                name() + ": resetting the controller: " + std::string(reason));
  if (epoch.load() % 2 == 0) {
    // Down first: a write that completes from here on either is seen below or has not completed (QueuePair::note_kept).
    epoch.fetch_add(1, std::memory_order_seq_cst);  // odd
    std::atomic_thread_fence(std::memory_order_seq_cst);
    BASALT_TRY(check_state_kept());
    resets_.fetch_add(1, std::memory_order_relaxed);
    down_since_ = host_.clock.now();
    last_failure_.clear();
  }
  return come_back(Failure::may_be_passing);
}

// The controller is down: brings it up, or gives it up, or leaves it to be tried again.
Status Controller::come_back(Failure failure) {
  const bool reconnects = transport_->traits().reconnects;
  Status status;
  for (unsigned attempt = 0; attempt < (reconnects ? 1 : options_.reset_attempts); ++attempt) {
    status = bring_up();
    if (status.ok()) {
      {
        const MutexLock lock(mutex_);
        expired_.clear();  // of the time before
      }
      epoch.fetch_add(1, std::memory_order_acq_rel);
      wake_queues();
      return {};
    }
    if (status.message() != last_failure_) {
      last_failure_ = status.message();
      host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    }
    if (status.code() == StatusCode::device_removed) break;
    transport_->reset_harder();
  }
  next_attempt_ = host_.clock.now() + transport_->traits().look_interval;
  // Whatever it had kept when it went down, it may have lost since; that there is one that stops when told so proves
  // nothing any more.
  if (reconnects) {
    transport_->cut_off();
    BASALT_TRY(check_state_kept());
    note_settled();
  }
  const bool hopeless = status.code() == StatusCode::device_removed ||
                        status.code() == StatusCode::permission_denied ||
                        status.code() == StatusCode::corruption;
  if (reconnects && !hopeless && failure == Failure::may_be_passing &&
      host_.clock.now() - down_since_ < options_.reconnect_timeout) {
    return status.with_context(name() + ": not yet up again");
  }
  give_up(status);
  return status.with_context(name());
}

// The controller is down and cut off: what may move on does, once nothing of it can be acted on any more.
void Controller::note_settled() {
  const uint32_t now = epoch.load();
  if (!transport_->traits().reconnects || !transport_->settled() || settled_in.load() == now)
    return;
  settled_in.store(now, std::memory_order_release);
  wake_queues();
}

// Gives the controller up if it may have lost what it acknowledged.
Status Controller::check_state_kept() {
  const Status kept = transport_->check_state_kept(unflushed_writes_.any());
  if (kept.ok()) return {};
  lost_writes_.store(true, std::memory_order_release);
  give_up(kept);
  return kept.with_context(name());
}

// The controller reaches no memory from here on: what is outstanding may be given back.
void Controller::give_up(const Status& why) {
  transport_->cut_off();
  if (!transport_->settled()) {
    // Who got a failed write back could write anew what the target may still write to. The watch goes on with this.
    doomed_ = why;
    return;
  }
  gone_status_.store(why.code() == StatusCode::device_removed ? StatusCode::device_removed
                                                              : StatusCode::io_error);
  if (epoch.exchange(kGone, std::memory_order_acq_rel) != kGone) {
    host_.log.log(LogLevel::error, "nvme", why.with_context(name() + ": given up").to_string());
    listeners_are_due_.store(true);
    watch_.wake();
  }
  if (admin_ != nullptr) admin_->end();
  wake_queues();
}

void Controller::wake_queues() {
  const MutexLock lock(mutex_);
  for (size_t id = 0; id < open_.size(); ++id) {
    if (open_[id]) transport_->wake(static_cast<uint16_t>(id));
  }
}

// ---- The watch

// Said once, and tried again at the next look.
void Controller::news_failed(const Status& status) {
  ++news_failures_;
  if (status.message() == last_news_failure_) return;
  last_news_failure_ = status.message();
  host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
}

void Controller::update_namespaces() {
  constexpr unsigned kPatience = 3;  // with one that cannot be read now
  Identity now;
  {
    const MutexLock lock(mutex_);
    now = identity_;
  }
  now.namespaces.clear();
  // Reading the log is what lets the controller tell of the next change.
  ChangedNamespacesLog changed;
  Status status =
      admin_->run(log_page_command(LogPage::changed_namespaces, sizeof changed), {},
                  std::as_writable_bytes(std::span(&changed, 1)), options_.admin_timeout);
  if (status.ok()) {
    status = read_namespaces(*admin_, now,
                             news_failures_ < kPatience ? OnFailure::fail : OnFailure::leave_out);
  }
  if (!status.ok()) {
    news_failed(status);
    namespaces_are_old_.store(true);
    return;
  }
  news_failures_ = 0;
  {
    const MutexLock lock(mutex_);
    // Another one under a number that is known is not what anybody has opened.
    std::erase_if(now.namespaces, [&](const NamespaceInfo& space) {
      const auto known = known_.find(space.nsid);
      if (known == known_.end() || has_same_identity(known->second, space)) return false;
      host_.log.log(LogLevel::warning, "nvme",
                    name() + ": namespace " + std::to_string(space.nsid) +
                        " is another one now; it is there when the controller is opened anew");
      return true;
    });
    remember_namespaces(now.namespaces);
    identity_.namespaces = std::move(now.namespaces);
    access_generation_.fetch_add(1, std::memory_order_release);
  }
  listeners_are_due_.store(true);
  wake_queues();
}

void Controller::update_access_states() {
  const IdentifyController data = identity();
  if ((data.multipath & kReportsAccess) == 0) return;
  Result<AccessStates> states = read_access_states(*admin_, data, max_transfer_bytes());
  if (!states) {
    news_failed(states.error());
    access_is_old_.store(true);
    return;
  }
  {
    const MutexLock lock(mutex_);
    identity_.access = std::move(*states);
    identity_.access_known = true;
    access_generation_.fetch_add(1, std::memory_order_release);
  }
  wake_queues();
}

void Controller::watch_once() {
  look();
  if (!listeners_are_due_.exchange(false)) return;
  const MutexLock lock(listeners_mutex_);
  for (Listener* listener : listeners_) listener->controller_changed();
}

void Controller::look() {
  MutexLock lock(control_);
  if (epoch.load() == kGone) return;
  if (epoch.load() % 2 == 1) {
    if (!doomed_.ok()) {
      give_up(doomed_);
      return;
    }
    note_settled();  // coming back may take long
    // Before that an attempt is put off by the transport.
    const bool is_last = !reconnecting_.load() && transport_->settled();
    if (is_last || host_.clock.now() >= next_attempt_) {
      [[maybe_unused]] const Status said_already =
          come_back(is_last ? Failure::is_final : Failure::may_be_passing);
    }
    return;
  }
  const Status health = transport_->check();
  if (health.code() == StatusCode::device_removed) {
    give_up(health);
    return;
  }
  std::vector<Expired> expired;
  {
    const MutexLock state(mutex_);
    expired.swap(expired_);
  }
  const auto again = std::find_if(expired.begin(), expired.end(),
                                  [](const Expired& e) { return e.aborted_before; });
  std::string reason;
  if (!health.ok()) {
    reason = health.message();
  } else if (admin_->stuck()) {
    reason = "an admin command was not answered";
  } else if (again != expired.end()) {
    reason = "command " + std::to_string(again->cid) + " of queue " +
             std::to_string(again->queue_id) + " was neither answered nor aborted";
  }
  if (!reason.empty()) {
    [[maybe_unused]] const Status said_already = reset_locked(reason);
    return;
  }
  for (const Expired& e : expired) {
    host_.log.log(LogLevel::warning, "nvme",
                  name() + ": command " + std::to_string(e.cid) + " of queue " +
                      std::to_string(e.queue_id) + " is late; aborting it");
    const Status status =
        admin_->run(abort_command(e.queue_id, e.cid), {}, {}, options_.admin_timeout);
    if (!status.ok()) {
      host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    }
  }
  const std::vector<uint32_t> events = admin_->poll_events();
  for (const uint32_t event : events) {
    const auto page = static_cast<LogPage>(AsyncEvent::from_word(event).log_page);
    if (page == LogPage::asymmetric_access) access_is_old_.store(true);
    if (page == LogPage::changed_namespaces) namespaces_are_old_.store(true);
  }
  if (access_is_old_.exchange(false)) update_access_states();
  if (namespaces_are_old_.exchange(false)) update_namespaces();
  std::function<void(uint32_t)> handler;
  {
    const MutexLock state(mutex_);
    handler = event_handler_;
  }
  lock.unlock();  // the handler may ask for anything
  for (const uint32_t event : events) {
    if (handler) handler(event);
  }
}

}  // namespace basalt::nvme
