// See controller.h. Its log pages and features are in admin_data.cc, those of reservations in reservation_events.cc, what it
// says of itself in identify.cc.
#include "targets/nvmf/controller.h"

#include <algorithm>

#include "base/check.h"
#include "targets/nvmf/queue.h"
#include "targets/nvmf/target.h"
#include "wire/nvme/log_page.h"
#include "wire/nvme/registers.h"

namespace basalt::nvmf {

using nvme::AdminOpcode;
using nvme::Command;
using nvme::CompletionStatus;
using nvme::Register;

namespace {

constexpr uint32_t kReady = 1, kShutdownOccurs = 1u << 2, kShutdownComplete = 2u << 2;
// Command set NVM; queues contiguous (as fabrics asks); ready within 500 ms.
constexpr uint64_t kCapabilities =
    (Controller::kMaxQueueEntries - 1) | uint64_t{1} << 16 | uint64_t{1} << 24 | uint64_t{1} << 37;
// The controller is checked so many times within its keep-alive's time.
constexpr unsigned kChecks = 2;

}  // namespace

Controller::Controller(Target& target, Reactor& reactor, std::shared_ptr<Subsystem> subsystem,
                       std::string listener, HostIdentity host, Duration keep_alive)
    : target_(target),
      reactor_(reactor),
      subsystem_(std::move(subsystem)),
      listener_(std::move(listener)),
      host_(std::move(host)),
      access_(subsystem_->access(listener_)),
      keep_alive_(keep_alive) {
  keep_alive_timer_.expired = [this] { check_alive(); };
}

Controller::~Controller() = default;

void Controller::start(Queue& admin_queue) {
  admin_queue_ = &admin_queue;
  // Changes are told to it; one that is while it looks is in the subsystem already.
  do {
    access_.store(subsystem_->access(listener_));
  } while (subsystem_->access(listener_) != access_.load());
  {
    const MutexLock lock(mutex_);
    queues_[0] = &admin_queue;
    // Before there was a queue to be told.
    if (ended_.load()) end_queue(0, &admin_queue, "its controller has ended");
  }
  set_keep_alive(keep_alive_);
  target_.log(LogLevel::info, "controller " + std::to_string(id_) + " of " + subsystem_->nqn() +
                                  ": host " + host_.nqn + " from " + admin_queue.peer());
}

void Controller::stop(Queue& admin_queue) {
  if (admin_queue_ != &admin_queue) return;
  ready_.store(false);
  reactor_.cancel(keep_alive_timer_);
  for (Request* request : std::exchange(event_requests_, {})) {
    admin_queue.finish(*request, nvme::kAbortSubmissionQueueDeleted);
  }
  admin_queue_ = nullptr;
  end("its admin queue's connection has ended");
  subsystem_->detach(*this);
}

CompletionStatus Controller::attach(Queue& queue, uint16_t queue_id) {
  if (queue_id > target_.options().max_io_queues) return nvme::kInvalidQueueId;
  const MutexLock lock(mutex_);
  // Whoever ends it, or resets it, sets these before he looks at the queues.
  if (ended_.load() || !ready_.load()) return nvme::kCommandSequenceError;
  return queues_.try_emplace(queue_id, &queue).second ? CompletionStatus{} : nvme::kInvalidQueueId;
}

void Controller::detach(Queue& queue) {
  const MutexLock lock(mutex_);
  for (auto at = queues_.begin(); at != queues_.end(); ++at) {
    if (at->second == &queue) {
      queues_.erase(at);
      return;
    }
  }
}

size_t Controller::io_queue_count() {
  const MutexLock lock(mutex_);
  return queues_.size() - queues_.count(0);
}

void Controller::end(const std::string& why) {
  if (ended_.exchange(true)) return;
  ready_.store(false);
  target_.log(LogLevel::info, "controller " + std::to_string(id_) + " of " + subsystem_->nqn() +
                                  " (host " + host_.nqn + ") ends: " + why);
  const MutexLock lock(mutex_);
  for (const auto& [queue_id, queue] : queues_) {
    end_queue(queue_id, queue, "its controller has ended");
  }
}

// By the time of the call the queue may have gone; while it is here, its thread is the one that is called.
void Controller::end_queue(uint16_t queue_id, Queue* queue, const char* why) {
  queue->group().reactor().post([self = shared_from_this(), queue_id, queue, why] {
    {
      const MutexLock lock(self->mutex_);
      const auto found = self->queues_.find(queue_id);
      if (found == self->queues_.end() || found->second != queue) return;
    }
    queue->transport().hang_up(why);
  });
}

// ---- Properties

void Controller::get_property(Queue& queue, Request& request) {
  const bool wide = (request.command.cdw10 & 7) == 1;
  uint64_t value = 0;
  switch (static_cast<Register>(uint32_t{request.command.cdw11})) {
    case Register::capabilities: value = kCapabilities; break;
    case Register::version: value = kVersion; break;
    case Register::configuration: value = configuration_; break;
    case Register::status: value = status_; break;
    default: return queue.finish(request, nvme::kInvalidField);
  }
  const bool is_wide = request.command.cdw11 == static_cast<uint32_t>(Register::capabilities);
  if (wide != is_wide) return queue.finish(request, nvme::kInvalidField);
  request.completion.result = static_cast<uint32_t>(value);
  request.completion.result_high = static_cast<uint32_t>(value >> 32);
  queue.finish(request, {});
}

void Controller::set_property(Queue& queue, Request& request) {
  if (request.command.cdw11 != static_cast<uint32_t>(Register::configuration) ||
      (request.command.cdw10 & 7) != 0) {
    return queue.finish(request, nvme::kInvalidField);
  }
  set_configuration(request.command.cdw12);
  queue.finish(request, {});
}

void Controller::set_configuration(uint32_t value) {
  const bool enable = (value & nvme::kEnable) != 0;
  const bool was_enabled = (configuration_ & nvme::kEnable) != 0;
  configuration_ = value;
  if (enable && !was_enabled) {
    status_ = kReady;
    ready_.store(true, std::memory_order_release);
  }
  if ((value & nvme::kShutdownMask) != 0 &&
      (status_ & (kShutdownOccurs | kShutdownComplete)) == 0) {
    shut_down();
  }
  if (enable || !was_enabled) return;
  // A reset: what the host had is gone, its I/O queues too.
  ready_.store(false);
  status_ &= ~kReady;
  features_.clear();
  async_events_enabled_ = 0;
  events_.clear();
  masked_.clear();
  reservation_log_.clear();
  reservation_notifications_ = 0;
  reservation_masks_.clear();
  const MutexLock lock(mutex_);
  for (const auto& [queue_id, io_queue] : queues_) {
    if (queue_id != 0) end_queue(queue_id, io_queue, "the host resets the controller");
  }
}

// NVM Express base specification 2.0, §3.6.1: what its host has written is made durable, then the shutdown is complete.
void Controller::shut_down() {
  if (!has_volatile_cache(*namespaces())) {
    status_ |= kShutdownComplete;
    return;
  }
  status_ |= kShutdownOccurs;
  if (shutdown_.run != nullptr) {  // what was written since that began is not in it
    shuts_down_again_ = true;
    return;
  }
  target_.begin_background_work();
  // It stays until that is done, whatever becomes of its connections.
  shutdown_.run = [self = shared_from_this()] {
    const auto table = self->namespaces();
    for (const auto& space : *table) {
      if (space == nullptr) continue;
      if (const Status status = flush_device(*space->device); !status.ok()) {
        self->target_.log(LogLevel::error, "shutdown of controller " + std::to_string(self->id_) +
                                               " of host " + self->host_.nqn + ": " +
                                               status.to_string());
      }
    }
    self->reactor_.post([self] {
      self->target_.context().executor().cancel(self->shutdown_);
      self->shutdown_.run = nullptr;
      if (std::exchange(self->shuts_down_again_, false)) {
        self->shut_down();
      } else if ((self->status_ & kShutdownOccurs) != 0) {
        self->status_ = (self->status_ & ~kShutdownOccurs) | kShutdownComplete;
      }
      self->target_.end_background_work();
    });
  };
  target_.context().executor().post(shutdown_);
}

// ---- Admin commands

void Controller::execute_admin(Queue& queue, Request& request) {
  switch (static_cast<AdminOpcode>(request.command.opcode)) {
    case AdminOpcode::identify: return queue.finish(request, identify(request));
    case AdminOpcode::get_log_page: return queue.finish(request, get_log_page(request));
    case AdminOpcode::get_features: return queue.finish(request, get_feature(request));
    case AdminOpcode::set_features: {
      const auto which = static_cast<nvme::Feature>(request.command.cdw10 & 0xff);
      const bool of_reservations = which == nvme::Feature::reservation_persistence ||
                                   which == nvme::Feature::reservation_notification_mask;
      if (of_reservations) return set_reservation_feature(queue, request);
      return queue.finish(request, set_feature(request));
    }
    case AdminOpcode::keep_alive:
      return queue.finish(request, keep_alive_ > Duration::zero() || subsystem_->is_discovery()
                                       ? CompletionStatus{}
                                       : nvme::kInvalidOpcode);
    case AdminOpcode::abort: {
      const uint32_t word = request.command.cdw10;
      const bool done =
          abort(queue, static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16));
      request.completion.result = done ? 0 : nvme::kNotAborted;
      return queue.finish(request, {});
    }
    case AdminOpcode::async_event_request:
      if (event_requests_.size() == kMaxAsyncEvents) {
        return queue.finish(request, nvme::kAsyncEventLimitExceeded);
      }
      event_requests_.push_back(&request);
      return tell_events();
    default: return queue.finish(request, nvme::kInvalidOpcode);
  }
}

// What is at a device cannot be taken back, and is not long.
bool Controller::abort(Queue& queue, uint16_t queue_id, uint16_t cid) {
  if (queue_id != 0) return false;
  const auto found = std::find_if(event_requests_.begin(), event_requests_.end(),
                                  [&](const Request* known) { return known->command.cid == cid; });
  if (found == event_requests_.end()) return false;
  Request& waiting = **found;
  event_requests_.erase(found);
  queue.finish(waiting, nvme::kAbortRequested);
  return true;
}

// ---- Events

void Controller::raise(nvme::AsyncEvent event, uint32_t enabled_by) {
  if ((async_events_enabled_ & enabled_by) == 0) return;
  const auto page = static_cast<nvme::LogPage>(event.log_page);
  // One of a kind until the host has read what it is about.
  if (masked_.count(page) != 0) return;
  masked_.insert(page);
  events_.push_back(event);
  tell_events();
}

void Controller::tell_events() {
  while (admin_queue_ != nullptr && !events_.empty() && !event_requests_.empty()) {
    Request& request = *event_requests_.front();
    event_requests_.erase(event_requests_.begin());
    request.completion.result = events_.front().word();
    events_.pop_front();
    admin_queue_->finish(request, {});
  }
}

void Controller::namespaces_changed(uint32_t nsid) {
  reactor_.post([self = shared_from_this(), nsid] {
    self->changed_namespaces_.insert(nsid);
    self->raise({nvme::AsyncEventType::notice, nvme::kNamespacesChanged,
                 static_cast<uint8_t>(nvme::LogPage::changed_namespaces)},
                nvme::kReportNamespaces);
  });
}

void Controller::set_access(nvme::AccessState state) {
  access_.store(state);
  access_changes_.fetch_add(1);
  reactor_.post([self = shared_from_this()] {
    self->raise({nvme::AsyncEventType::notice, nvme::kAsymmetricAccessChanged,
                 static_cast<uint8_t>(nvme::LogPage::asymmetric_access)},
                nvme::kReportAsymmetricAccess);
  });
}

void Controller::discovery_changed() {
  reactor_.post([self = shared_from_this()] {
    self->raise({nvme::AsyncEventType::notice, nvme::kDiscoveryChanged,
                 static_cast<uint8_t>(nvme::LogPage::discovery)},
                nvme::kReportDiscovery);
  });
}

// ---- Keep-alive

void Controller::set_keep_alive(Duration time) {
  keep_alive_ = time;
  silent_checks_ = 0;
  reactor_.cancel(keep_alive_timer_);
  if (time > Duration::zero()) reactor_.set(keep_alive_timer_, time / kChecks);
}

void Controller::check_alive() {
  silent_checks_ = alive_.exchange(false) ? 0 : silent_checks_ + 1;
  if (silent_checks_ >= kChecks) {
    status_ |= 2;  // fatal, should anybody still ask
    return end("the host's keep-alive time of " + std::to_string(keep_alive_.count() / 1'000'000) +
               " ms is over");
  }
  reactor_.set(keep_alive_timer_, keep_alive_ / kChecks);
}

}  // namespace basalt::nvmf
