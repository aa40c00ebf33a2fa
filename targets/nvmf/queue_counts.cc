// Queue: what it counts. See queue.h.
//
// The I/O commands of I/O queues, from arrive() to finish(). Both are told by the time of the reactor's loop, which is taken
// anyway: a latency is that from the beginning of the loop that found the command to the beginning of the one that answers
// it; nothing, if that is the same. What a command waited in the socket before, or its answer after, is not in it.
#include "targets/nvmf/queue.h"

namespace basalt::nvmf {

using nvme::CompletionStatus;

void Queue::begin_count(Request& request) noexcept {
  request.space = nullptr;
  request.counted =
      id_ != 0 && request.command.opcode != static_cast<uint8_t>(nvme::AdminOpcode::fabrics);
  if (!request.counted) return;
  request.arrived = group_.reactor().now();
  record_->counters->begin();
}

void Queue::begin_record(Subsystem& subsystem) {
  record_ = subsystem.begin_queue({.host = controller_->host().nqn,
                                   .controller_id = controller_->id(),
                                   .queue_id = id_,
                                   .listener = listener_,
                                   .peer = peer_,
                                   .reactor = group_.reactor().name()});
  record_->admitted.store(authenticator_ == nullptr, std::memory_order_relaxed);
  group_.count_connected(*this);
}

void Queue::count_for(Request& request, const Namespace& space) noexcept {
  if (!request.counted) return;  // it came before its queue was one
  request.space = counters_[space.nsid - 1];
  request.space->begin();
}

void Queue::count(Request& request, CompletionStatus status) noexcept {
  request.counted = false;
  const IoKind kind = io_kind(request.command);
  const uint64_t bytes = kind == IoKind::other ? 0 : request.data.size();
  const Duration latency = group_.reactor().now() - request.arrived;
  record_->counters->end(kind, status.ok(), bytes, latency);
  if (request.space != nullptr) request.space->end(kind, status.ok(), bytes, latency);
  group_.count_completed();
}

void Queue::abandon(Request& request) noexcept {
  if (!std::exchange(request.counted, false)) return;
  record_->counters->abandon();
  if (request.space != nullptr) request.space->abandon();
}

}  // namespace basalt::nvmf
