// Asynchronous events: what the controller tells without being asked.
//
// NVMe base 2.0 §5.2. Requests are held until there is something to tell. Once an event has been told,
// others of its type wait until the host has read the log page it named, so that a host is not flooded.
// Events the host has not enabled are dropped when they happen.
#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {

Outcome ControllerModel::async_event_request(const Command& command) {
  if (event_requests_.size() >= options_.async_event_limit) {
    return {.status = kAsyncEventLimitExceeded};
  }
  event_requests_.push_back(command.cid);
  return {.completes = false};
}

bool ControllerModel::wants(AsyncEvent event) {
  const uint32_t config = feature(Feature::async_event_config);
  switch (event.type) {
    case AsyncEventType::health: return (config & kReportHealth) != 0;
    case AsyncEventType::notice:
      if (event.information == kNamespacesChanged) return (config & kReportNamespaces) != 0;
      if (event.information == kFirmwareStarting) return (config & kReportFirmware) != 0;
      if (event.information == kAsymmetricAccessChanged) {
        return (config & kReportAsymmetricAccess) != 0;
      }
      return true;
    default: return true;
  }
}

bool ControllerModel::queue_event(AsyncEvent event) {
  if (!wants(event) || waiting_events_.size() >= kMaxWaitingEvents) return false;
  waiting_events_.push_back(event);
  return true;
}

void ControllerModel::deliver_events() {
  while (!event_requests_.empty() && has_room(cqs_[0], 1)) {
    const auto event =
        std::find_if(waiting_events_.begin(), waiting_events_.end(), [this](AsyncEvent waiting) {
          return !masked_by_[static_cast<size_t>(waiting.type) & 7].has_value();
        });
    if (event == waiting_events_.end()) return;
    Command request;
    request.cid = event_requests_.front();
    event_requests_.erase(event_requests_.begin());
    masked_by_[static_cast<size_t>(event->type) & 7] = event->log_page;
    const uint32_t word = event->word();
    waiting_events_.erase(event);
    complete(sqs_[0], request, {.result = word});
  }
}

bool ControllerModel::raise_event(AsyncEvent event) {
  const std::lock_guard guard(lock_);
  return !removed_ && queue_event(event);
}

size_t ControllerModel::outstanding_event_requests() const {
  const std::lock_guard guard(lock_);
  return event_requests_.size();
}

void ControllerModel::note_changed(uint32_t nsid) {
  const auto place = std::lower_bound(changed_namespaces_.begin(), changed_namespaces_.end(), nsid);
  if (place == changed_namespaces_.end() || *place != nsid) changed_namespaces_.insert(place, nsid);
  queue_event({AsyncEventType::notice, kNamespacesChanged,
               static_cast<uint8_t>(LogPage::changed_namespaces)});
}

void ControllerModel::resize_namespace(uint32_t nsid, uint64_t block_count) {
  const std::lock_guard guard(lock_);
  BASALT_CHECK(nsid - 1 < media_.size(), "the model has no such namespace");
  media_[nsid - 1]->resize(block_count);
  note_changed(nsid);
}

void ControllerModel::set_namespace_active(uint32_t nsid, bool active) {
  const std::lock_guard guard(lock_);
  BASALT_CHECK(nsid - 1 < media_.size(), "the model has no such namespace");
  media_[nsid - 1]->set_active(active);
  note_changed(nsid);
}

// Once for each bad value: the doorbell is looked at again and again while it stands there.
void ControllerModel::report_doorbell(uint32_t& bad_doorbell, uint32_t value, uint8_t information) {
  if (bad_doorbell == value) return;
  bad_doorbell = value;
  ++counters_.invalid_doorbells;
  queue_event(
      {AsyncEventType::error, information, static_cast<uint8_t>(LogPage::error_information)});
}

}  // namespace basalt::nvme::model
