// See queue.h.
#include "targets/nvmf/queue.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "targets/nvmf/io_command.h"
#include "targets/nvmf/target.h"
#include "wire/nvme/fabrics.h"
#include "wire/nvme/tcp_pdu.h"

namespace basalt::nvmf {

using nvme::Command;
using nvme::CompletionStatus;
using nvme::FabricsType;

namespace {

std::string_view text_of(const char* field, size_t bytes) {
  return std::string_view(field, strnlen(field, bytes));
}

}  // namespace

Queue::Queue(Target& target, PollGroup& group, Transport& transport, std::string listener,
             std::string peer)
    : target_(target),
      group_(group),
      transport_(transport),
      listener_(std::move(listener)),
      peer_(std::move(peer)) {
  group_.add(*this);
}

Queue::~Queue() {
  close();
  group_.remove(*this);
}

uint32_t Queue::capsule_data() const {
  return connected() && id_ != 0 ? target_.options().io_capsule_data : nvme::tcp::kAdminCapsuleData;
}

uint32_t Queue::scratch_bytes(const Command& command, uint16_t queue_id) {
  return queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::verify)
             ? BufferPool::kLargeBytes
             : 0;
}

void Queue::begin(Request& request) noexcept {
  request.queue = this;
  request.partner = nullptr;
  request.completion = {};
  if (++head_ == entries_) head_ = 0;
  if (controller_ != nullptr) controller_->alive();
}

void Queue::refuse(Request& request, CompletionStatus status) noexcept {
  begin(request);
  finish(request, status);
}

void Queue::execute(Request& request) noexcept {
  begin(request);
  if (closed_) return finish(request, nvme::kAbortSubmissionQueueDeleted);
  if (request.command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::fabrics)) {
    return execute_fabrics(request);
  }
  if (controller_ == nullptr || !controller_->is_ready()) {
    return finish(request, nvme::kCommandSequenceError);
  }
  if (id_ == 0) return controller_->execute_admin(*this, request);
  execute_io(request);
}

void Queue::finish(Request& request, CompletionStatus status) noexcept {
  request.completion.cid = request.command.cid;
  request.completion.sq_id = 0;  // reserved on fabrics
  request.completion.sq_head =
      flow_control_disabled_ ? uint16_t{0xffff} : static_cast<uint16_t>(head_);
  request.completion.status_and_phase = static_cast<uint16_t>(status.field() << 1);
  transport_.complete(request);
}

void Queue::close() noexcept {
  if (std::exchange(closed_, true)) return;
  if (Request* waiting = std::exchange(fused_first_, nullptr)) {
    finish(*waiting, nvme::kAbortSubmissionQueueDeleted);
  }
  if (controller_ == nullptr) return;
  if (id_ == 0) controller_->stop(*this);
  controller_->detach(*this);
}

// ---- Fabrics

void Queue::execute_fabrics(Request& request) noexcept {
  const FabricsType type = nvme::fabrics_type(request.command);
  if (type == FabricsType::connect) {
    return finish(request, connected() ? nvme::kCommandSequenceError : connect(request));
  }
  if (!connected()) return finish(request, nvme::kCommandSequenceError);
  switch (type) {
    case FabricsType::property_get:
      if (id_ == 0) return controller_->get_property(*this, request);
      break;
    case FabricsType::property_set:
      if (id_ == 0) return controller_->set_property(*this, request);
      break;
    case FabricsType::disconnect:
      if (id_ == 0) break;
      finish(request, {});
      return transport_.hang_up("the host disconnects");
    default: break;
  }
  finish(request, nvme::kInvalidField);
}

CompletionStatus Queue::connect_refused(Request& request, uint32_t offset, bool in_data) {
  request.completion.result = offset | (in_data ? 1u << 16 : 0);
  return nvme::kConnectInvalidParameters;
}

CompletionStatus Queue::connect(Request& request) {
  const Command& command = request.command;
  if (request.data.size() < sizeof(nvme::ConnectData)) return nvme::kDataLengthInvalid;
  nvme::ConnectData data;
  std::memcpy(static_cast<void*>(&data), request.data.data(), sizeof data);
  const auto refuse_data = [&](size_t offset) {
    return connect_refused(request, static_cast<uint32_t>(offset), true);
  };
  if ((command.cdw10 & 0xffff) != 0) return nvme::kConnectIncompatibleFormat;
  const auto queue_id = static_cast<uint16_t>(command.cdw10 >> 16);
  const uint32_t entries = (command.cdw11 & 0xffff) + 1;
  if (entries < 2 || entries > Controller::kMaxQueueEntries) {
    return connect_refused(request, offsetof(Command, cdw11), false);
  }
  const std::string nqn(text_of(data.subsystem_nqn, sizeof data.subsystem_nqn));
  HostIdentity host{std::string(text_of(data.host_nqn, sizeof data.host_nqn)), {}};
  std::copy(std::begin(data.host_id), std::end(data.host_id), host.id.begin());
  const std::shared_ptr<Subsystem> subsystem = target_.find_subsystem(nqn);
  if (subsystem == nullptr) return refuse_data(offsetof(nvme::ConnectData, subsystem_nqn));
  if (!check_nqn(host.nqn).ok()) return refuse_data(offsetof(nvme::ConnectData, host_nqn));
  if (!subsystem->allows(host.nqn) || !target_.leads_to(listener_, *subsystem)) {
    target_.log(LogLevel::warning,
                peer_ + ": host " + host.nqn + " is not allowed in " + nqn +
                    (subsystem->allows(host.nqn) ? " through " + listener_ : ""));
    return nvme::kConnectInvalidHost;
  }
  const uint16_t controller_id = data.controller_id;
  if (queue_id == 0) {
    if (controller_id != nvme::kAnyController) {
      return refuse_data(offsetof(nvme::ConnectData, controller_id));
    }
    const auto keep_alive = std::chrono::milliseconds(command.cdw12);
    auto controller = std::make_shared<Controller>(target_, group_.reactor(), subsystem,
                                                   std::move(host), keep_alive);
    const Result<uint16_t> id = subsystem->attach(controller);
    if (!id) {
      target_.log(LogLevel::warning, id.error().to_string());
      return nvme::kConnectControllerBusy;
    }
    controller_ = std::move(controller);
    controller_->start(*id, *this);
  } else {
    std::shared_ptr<Controller> controller = subsystem->find_controller(controller_id);
    if (controller == nullptr || controller->host() != host) {
      return refuse_data(offsetof(nvme::ConnectData, controller_id));
    }
    if (!controller->is_ready()) return nvme::kCommandSequenceError;
    if (const auto bad = controller->attach(*this, queue_id); !bad.ok()) {
      return connect_refused(request, offsetof(Command, cdw10) + 2, false);
    }
    controller_ = std::move(controller);
  }
  id_ = queue_id;
  entries_ = entries;
  head_ = entries_ > 1 ? 1 : 0;
  flow_control_disabled_ = (command.cdw11 >> 16 & 1u << 2) != 0;
  if (id_ != 0) refresh(*subsystem);
  request.completion.result = controller_->id();
  return {};
}

// ---- I/O

void Queue::refresh(const Subsystem& subsystem) {
  if (controller_ == nullptr || id_ == 0 || &controller_->subsystem() != &subsystem) return;
  namespaces_ = subsystem.namespaces();
  channels_.clear();
  for (const auto& space : *namespaces_) {
    channels_.push_back(space == nullptr ? nullptr : group_.channel(space->device));
  }
}

bool Queue::uses(const DeviceChannel& channel) const {
  return std::find(channels_.begin(), channels_.end(), &channel) != channels_.end();
}

void Queue::execute_io(Request& request) noexcept {
  const uint8_t fused = request.command.flags & nvme::kFusedMask;
  if (fused != 0 || fused_first_ != nullptr) return execute_fused(request);
  const Namespace* space = find_namespace(*namespaces_, request.command.nsid);
  if (space == nullptr) return finish(request, nvme::kInvalidNamespace);
  if (const auto status = prepare_io(*space, request); !status.ok()) {
    return finish(request, status);
  }
  submit(request, *space);
}

void Queue::execute_fused(Request& request) noexcept {
  const uint8_t fused = request.command.flags & nvme::kFusedMask;
  if (Request* const first = std::exchange(fused_first_, nullptr)) {
    if (fused != nvme::kFusedSecond) {
      finish(*first, nvme::kMissingFusedCommand);
      return execute_io(request);
    }
    const auto is = [](const Request& r, nvme::IoOpcode opcode) {
      return r.command.opcode == static_cast<uint8_t>(opcode);
    };
    const Namespace* space = find_namespace(*namespaces_, first->command.nsid);
    CompletionStatus status = nvme::kInvalidField;
    if (space == nullptr) {
      status = nvme::kInvalidNamespace;
    } else if (is(*first, nvme::IoOpcode::compare) && is(request, nvme::IoOpcode::write) &&
               first->command.nsid == request.command.nsid) {
      status = prepare_compare_and_write(*space, *first, request);
    }
    if (status.ok()) {
      first->partner = &request;
      return submit(*first, *space);
    }
    finish(*first, status);
    return finish(request, nvme::kFailedFusedCommand);
  }
  if (fused == nvme::kFusedFirst) {
    fused_first_ = &request;
    return;
  }
  finish(request, nvme::kMissingFusedCommand);
}

void Queue::submit(Request& request, const Namespace& space) noexcept {
  request.channel = channels_[space.nsid - 1];
  if (request.channel == nullptr) {
    if (request.partner != nullptr) finish(*request.partner, nvme::kFailedFusedCommand);
    return finish(request, nvme::kNamespaceNotReady);
  }
  request.io.user = &request;
  request.io.done = &Queue::io_done;
  request.channel->submit(request.io);
}

void Queue::io_done(Io& io) noexcept {
  Request& request = *static_cast<Request*>(io.user);
  request.channel->completed();
  request.queue->io_completed(request);
}

void Queue::io_completed(Request& request) noexcept {
  const CompletionStatus status = to_completion_status(request.io.status, request.io.op);
  if (Request* const partner = std::exchange(request.partner, nullptr)) {
    finish(request, status);
    return finish(*partner, status.ok() ? CompletionStatus{} : nvme::kFailedFusedCommand);
  }
  if (status.ok() && !closed_) {
    const Namespace* space = find_namespace(*namespaces_, request.command.nsid);
    const bool same = space != nullptr && channels_[space->nsid - 1] == request.channel;
    if (!same && has_steps(request)) return finish(request, nvme::kInvalidNamespace);
    if (same && next_io(*space, request)) return submit(request, *space);
  }
  finish(request, status);
}

}  // namespace basalt::nvmf
