// A queue's reservation commands: what they come to is told to other hosts, and waits for the end of what those had begun.
//
// NVM Express base specification 2.0, §8.19.
#include <algorithm>

#include "targets/nvmf/queue.h"
#include "targets/nvmf/target.h"

namespace basalt::nvmf {

void Queue::execute_reservation(const Namespace& space, Request& request) noexcept {
  // Its request is not complete: the queue is there, and its reactor.
  const auto later = [this, &request, kept = space.reservations](ReservationOutcome outcome) {
    group_.reactor().post(
        [this, &request, kept, outcome = std::move(outcome)] { reserved(request, outcome); });
  };
  if (const auto outcome =
          space.reservations->execute(controller_->host(), request.command, request.data, later)) {
    reserved(request, *outcome);
  }
}

void Queue::reserved(Request& request, const ReservationOutcome& outcome) noexcept {
  Subsystem& subsystem = controller_->subsystem();
  const uint32_t nsid = request.command.nsid;
  for (const auto& notice : outcome.notices) {
    for (const auto& controller : subsystem.controllers()) {
      const bool is_told = std::find(notice.hosts.begin(), notice.hosts.end(),
                                     controller->host()) != notice.hosts.end();
      if (is_told) controller->reservation_changed(nsid, notice.type);
    }
  }
  if (outcome.aborted.empty()) return finish(request, outcome.status);
  const auto fence = std::make_shared<Fence>(group_.reactor(), [this, &request,
                                                                nsid](bool in_time) {
    if (in_time) return finish(request, {});
    target_.log(LogLevel::error,
                peer_ + ": preempt and abort, namespace " + std::to_string(nsid) + " of " +
                    controller_->subsystem().nqn() +
                    ": the hosts are preempted, but commands of theirs are still at the device");
    finish(request, nvme::kInternalError);
  });
  target_.abort_preempted(subsystem, nsid, outcome.aborted,
                          fence->raise(target_.options().preempt_timeout));
}

void Queue::abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                            const std::vector<HostIdentity>& hosts, const Fence::Pass& pass) {
  if (controller_ == nullptr || id_ == 0 || &controller_->subsystem() != &subsystem ||
      std::find(hosts.begin(), hosts.end(), controller_->host()) == hosts.end()) {
    return;
  }
  std::vector<Request*> waiting;
  transport_.visit_requests([&](Request& request) {
    if (request.command.nsid != nsid) return;
    if (request.at_device) return request.passes.push_back(pass);
    request.preempted = true;
    if (request.ready) waiting.push_back(&request);
  });
  for (Request* request : waiting) {
    request->ready = false;
    std::erase(fused_ready_, request);
    refuse(*request, nvme::kPreemptedAndAborted);
  }
}

}  // namespace basalt::nvmf
