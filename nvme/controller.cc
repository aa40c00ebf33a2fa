// See controller.h: opening, resets, the watch, and what queue pairs ask for. The bring-up is in bring_up.cc.
#include "nvme/controller.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/try.h"
#include "nvme/commands.h"

namespace basalt::nvme {

namespace {

constexpr Duration kWatchInterval = std::chrono::seconds(1);

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
  BASALT_TRY(check_options(options));
  std::unique_ptr<Controller> controller(new Controller(host, std::move(function), options));
  {
    const MutexLock lock(controller->control_);
    if (Status status = controller->bring_up(); !status.ok()) {
      controller->give_up(status);
      return error(status.with_context(controller->name()));
    }
  }
  controller->host_.executor.post(controller->watch_, kWatchInterval);
  return controller;
}

Controller::Controller(const HostServices& host, std::unique_ptr<PciFunction> function,
                       const ControllerOptions& options)
    : host_(host),
      options_(options),
      function_(std::move(function)),
      dma_(*function_, host.memory, host.log) {
  watch_.run = [this] {
    watch_once();
    host_.executor.post(watch_, kWatchInterval);
  };
}

Controller::~Controller() {
  host_.executor.cancel(watch_);
  const MutexLock lock(control_);
  for (const OpenQueue& queue : queues_) {
    BASALT_CHECK(!queue.open, "a controller closes with queue pairs open");
  }
  if (epoch.load() != kGone) {
    if (Status status = shut_down(); !status.ok()) {
      host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    }
  }
  [[maybe_unused]] const Status no_more_dma = function_->set_bus_master(false);
  if (admin_ != nullptr) admin_->end();
  [[maybe_unused]] const Status no_more_interrupts = function_->set_interrupts({});
  for (const OpenQueue& queue : queues_) {
    if (queue.event_fd >= 0) ::close(queue.event_fd);
  }
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
  Status status = admin->run(command, sent, received,
                             timeout > Duration::zero() ? timeout : options_.admin_timeout, result);
  if (status.code() == StatusCode::timed_out) host_.executor.post(watch_);  // which resets
  return status.with_context(name());
}

// ---- Queue pairs

Result<std::unique_ptr<QueuePair>> Controller::open_queue_pair() {
  const MutexLock lock(control_);
  if (epoch.load() == kGone) return error(gone_status(), name() + ": the controller is gone");
  uint16_t id = 1;
  {
    const MutexLock state(mutex_);
    while (id <= identity_.queue_pairs && queues_[id].open) ++id;
    if (id > identity_.queue_pairs) {
      return error(StatusCode::no_space, name() + ": all " + std::to_string(identity_.queue_pairs) +
                                             " queue pairs are in use");
    }
  }
  Result<std::unique_ptr<CommandQueue>> queue = create_queue(id);
  if (!queue) return error(queue.error().with_context(name()));
  {
    const MutexLock state(mutex_);
    queues_[id].open = true;
  }
  ControllerLink& link = *this;
  return std::make_unique<QueuePair>(
      QueuePairOptions{
          .id = id, .timeout = options_.command_timeout, .abort_grace = options_.abort_grace},
      link, std::move(*queue), host_.memory, host_.clock, host_.log);
}

Result<std::unique_ptr<CommandQueue>> Controller::renew(uint16_t queue_id) {
  const MutexLock lock(control_);
  if (epoch.load() % 2 == 1) return error(gone_status(), name() + ": the controller is down");
  {
    const MutexLock state(mutex_);
    if (queue_id > identity_.queue_pairs) {
      return error(StatusCode::no_space, name() + ": since its reset the controller has only " +
                                             std::to_string(identity_.queue_pairs) +
                                             " queue pairs");
    }
  }
  Result<std::unique_ptr<CommandQueue>> queue = create_queue(queue_id);
  if (!queue) return error(queue.error().with_context(name()));
  return queue;
}

void Controller::close(uint16_t queue_id, uint32_t made_in) noexcept {
  const MutexLock lock(control_);
  const Result<uint32_t> raw = function_->read32(static_cast<uint32_t>(Register::status));
  const bool listens = raw && !ControllerStatus{*raw}.gone() && ControllerStatus{*raw}.ready() &&
                       !ControllerStatus{*raw}.fatal();
  if (listens && epoch.load() == made_in) {  // a reset since has ended them
    for (const AdminOpcode opcode :
         {AdminOpcode::delete_submission_queue, AdminOpcode::delete_completion_queue}) {
      const Status status =
          admin_->run(delete_queue_command(opcode, queue_id), {}, {}, options_.admin_timeout);
      if (status.ok()) continue;
      host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
      break;
    }
  }
  const MutexLock state(mutex_);
  queues_[queue_id].open = false;
}

void Controller::expired(uint16_t queue_id, uint16_t cid, bool aborted_before) {
  {
    const MutexLock lock(mutex_);
    expired_.push_back({queue_id, cid, aborted_before});
  }
  host_.executor.post(watch_);
}

Duration Controller::retry_delay(CompletionStatus status) const {
  return std::chrono::milliseconds(100) *
         retry_delays_[status.retry_delay()].load(std::memory_order_relaxed);
}

// ---- Resets

Status Controller::reset(std::string_view reason) {
  const MutexLock lock(control_);
  if (epoch.load() == kGone) return {gone_status(), name() + ": the controller is gone"};
  return reset_locked(reason);
}

Status Controller::reset_locked(std::string_view reason) {
  host_.log.log(LogLevel::warning, "nvme",
                name() + ": resetting the controller: " + std::string(reason));
  if (Status kept = check_state_kept(); !kept.ok()) {
    give_up(kept);
    return kept.with_context(name());
  }
  resets_.fetch_add(1, std::memory_order_relaxed);
  epoch.fetch_add(1, std::memory_order_acq_rel);  // odd: down
  Status status;
  for (unsigned attempt = 0; attempt < options_.reset_attempts; ++attempt) {
    status = bring_up();
    if (status.ok()) {
      epoch.fetch_add(1, std::memory_order_acq_rel);
      wake_queues();
      return {};
    }
    host_.log.log(LogLevel::warning, "nvme", status.with_context(name()).to_string());
    if (status.code() == StatusCode::device_removed) break;
    [[maybe_unused]] const Status next_attempt_tells = function_->reset();
  }
  give_up(status);
  return status.with_context(name());
}

// A reset of ours leaves the controller's write cache alone. A controller that is found disabled was without power,
// or in others' hands, and may have lost completed writes which no flush has covered yet: were it brought up
// again, the next flush would call them safe.
Status Controller::check_state_kept() {
  BASALT_TRY_ASSIGN(const uint32_t configuration,
                    function_->read32(static_cast<uint32_t>(Register::configuration)));
  if ((configuration & kEnable) != 0) return {};
  return {StatusCode::io_error,
          "it is not enabled any more (power lost, or reset by others): writes that were not "
          "flushed may "
          "be gone; open it again"};
}

// The controller reaches no memory from here on: what is outstanding may be given back.
void Controller::give_up(const Status& why) {
  [[maybe_unused]] const Status gone_already = function_->set_bus_master(false);
  gone_status_.store(why.code() == StatusCode::device_removed ? StatusCode::device_removed
                                                              : StatusCode::io_error);
  if (epoch.exchange(kGone, std::memory_order_acq_rel) != kGone) {
    host_.log.log(LogLevel::error, "nvme", why.with_context(name() + ": given up").to_string());
  }
  if (admin_ != nullptr) admin_->end();
  wake_queues();
}

void Controller::wake_queues() {
  const MutexLock lock(mutex_);
  const uint64_t one = 1;
  for (const OpenQueue& queue : queues_) {
    if (queue.open && queue.event_fd >= 0 && ::write(queue.event_fd, &one, sizeof one) < 0) {
      // The counter is full, so it is readable.
    }
  }
}

// ---- The watch, on the executor's thread

void Controller::watch_once() {
  MutexLock lock(control_);
  if (epoch.load() == kGone) return;
  if (const int fd = function_->removal_fd(); fd >= 0) {
    pollfd entry{fd, POLLIN, 0};
    if (::poll(&entry, 1, 0) > 0) {
      give_up({StatusCode::device_removed, "the function is taken away"});
      return;
    }
  }
  const Result<uint32_t> raw = function_->read32(static_cast<uint32_t>(Register::status));
  if (!raw || ControllerStatus{*raw}.gone()) {
    give_up(raw ? Status(StatusCode::device_removed, "its registers answer no more") : raw.error());
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
  if (ControllerStatus{*raw}.fatal()) {
    reason = "it reports a fatal error (CSTS.CFS)";
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
