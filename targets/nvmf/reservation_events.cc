// What a controller tells its host of reservations, and what of them the host sets: notifications, their mask, persistence.
//
// NVM Express base specification 2.0: §8.19.1 (notifications), §5.16.1.24 (log page 80h), §5.27.1.24 (mask, Feature 82h),
// §5.27.1.25 (persistence, Feature 83h).
#include <algorithm>
#include <atomic>
#include <cstring>

#include "targets/nvmf/controller.h"
#include "targets/nvmf/queue.h"
#include "wire/nvme/reservations.h"

namespace basalt::nvmf {

using nvme::CompletionStatus;
using nvme::Feature;
using nvme::ReservationNotification;

namespace {

constexpr uint32_t kEveryNamespace = 0xffff'ffff;
// A bit for each ReservationNotification.
constexpr uint32_t kMaskBits = 0b1110;

}  // namespace

void Controller::reservation_changed(uint32_t nsid, ReservationNotification type) {
  reactor_.post([self = shared_from_this(), nsid, type] {
    if (self->admin_queue_ == nullptr || !self->is_ready()) return;
    const auto mask = self->reservation_masks_.find(nsid);
    const bool masked = mask != self->reservation_masks_.end() &&
                        (mask->second >> static_cast<unsigned>(type) & 1) != 0;
    if (masked) return;
    auto& log = self->reservation_log_;
    if (log.size() == kMaxReservationNotifications) log.pop_front();
    nvme::ReservationNotificationLog& page = log.emplace_back();
    page = {};
    page.count = ++self->reservation_notifications_;
    page.type = static_cast<uint8_t>(type);
    page.nsid = nsid;
    self->raise_reservation_event();
  });
}

// It has no bit of its own in Feature 0Bh: the mask is per namespace.
void Controller::raise_reservation_event() {
  const auto page = nvme::LogPage::reservation_notification;
  if (!masked_.insert(page).second) return;
  events_.push_back({nvme::AsyncEventType::command_set, nvme::kReservationLogAvailable,
                     static_cast<uint8_t>(page)});
  tell_events();
}

std::vector<std::byte> Controller::reservation_log() const {
  nvme::ReservationNotificationLog page{};
  if (!reservation_log_.empty()) {
    page = reservation_log_.front();
    page.more = static_cast<uint8_t>(std::min<size_t>(reservation_log_.size() - 1, 255));
  }
  const auto bytes = std::as_bytes(std::span(&page, 1));
  return {bytes.begin(), bytes.end()};
}

// With more of them left, a host that reads one for each event is told again.
void Controller::reservation_log_was_read() {
  if (reservation_log_.empty()) return;
  reservation_log_.pop_front();
  if (!reservation_log_.empty()) raise_reservation_event();
}

CompletionStatus Controller::get_reservation_feature(Request& request) {
  const auto which = static_cast<Feature>(request.command.cdw10 & 0xff);
  const auto select = static_cast<nvme::FeatureSelect>(request.command.cdw10 >> 8 & 7);
  if (subsystem_->is_discovery()) return nvme::kInvalidField;
  const uint32_t nsid = request.command.nsid;
  const auto table = namespaces();
  const Namespace* const space = find_namespace(*table, nsid);
  if (space == nullptr) return nvme::kInvalidNamespace;
  const bool is_mask = which == Feature::reservation_notification_mask;
  uint32_t value = 0;
  switch (select) {
    case nvme::FeatureSelect::capabilities:
      value = nvme::kFeaturePerNamespace;
      if (is_mask || space->reservations->can_persist()) value |= nvme::kFeatureChangeable;
      break;
    case nvme::FeatureSelect::current:
      if (is_mask) {
        const auto kept = reservation_masks_.find(nsid);
        value = kept == reservation_masks_.end() ? 0 : kept->second;
      } else {
        value = space->reservations->persists() ? nvme::kReservationsPersist : 0;
      }
      break;
    case nvme::FeatureSelect::defaults:
    case nvme::FeatureSelect::saved: break;  // nothing masked, nothing kept
    default: return nvme::kInvalidField;
  }
  request.completion.result = value;
  return {};
}

void Controller::set_reservation_feature(Queue& queue, Request& request) {
  if ((request.command.cdw10 & nvme::kSaveFeature) != 0) {
    return queue.finish(request, nvme::kFeatureNotSaveable);
  }
  if (subsystem_->is_discovery()) return queue.finish(request, nvme::kInvalidField);
  const auto which = static_cast<Feature>(request.command.cdw10 & 0xff);
  const uint32_t value = request.command.cdw11, nsid = request.command.nsid;
  const auto table = namespaces();
  NamespaceTable wanted;
  for (const auto& space : *table) {
    if (space != nullptr && (nsid == kEveryNamespace || space->nsid == nsid)) {
      wanted.push_back(space);
    }
  }
  if (wanted.empty() && nsid != kEveryNamespace) {
    return queue.finish(request, nvme::kInvalidNamespace);
  }
  if (which == Feature::reservation_notification_mask) {
    for (const auto& space : wanted) reservation_masks_[space->nsid] = value & kMaskBits;
    return queue.finish(request, {});
  }
  // Each namespace is saved by itself; the first that fails is the answer. The queue is there as long as its request is.
  struct Change {
    std::atomic<size_t> left;
    std::atomic<uint16_t> failure{0};
  };
  const auto change = std::make_shared<Change>();
  change->left = wanted.size() + 1;
  const auto one_done = [this, &queue, &request, change](const ReservationOutcome& outcome) {
    uint16_t none = 0;
    change->failure.compare_exchange_strong(none, outcome.status.field());
    if (change->left.fetch_sub(1) != 1) return;
    reactor_.post([&queue, &request, change] {
      queue.finish(request, nvme::CompletionStatus(change->failure.load()));
    });
  };
  for (const auto& space : wanted) {
    const bool persists = (value & nvme::kReservationsPersist) != 0;
    if (const auto outcome = space->reservations->set_persists(persists, one_done)) {
      one_done(*outcome);
    }
  }
  one_done({});
}

}  // namespace basalt::nvmf
