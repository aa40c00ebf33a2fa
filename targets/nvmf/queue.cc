// See queue.h. What it counts is in queue_counts.cc.
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
  authentication_.run = [this] {
    authenticator_->take(authenticating_->data);
    group_.reactor().post([this] { took_message(); });
  };
  group_.add(*this);
}

Queue::~Queue() {
  close();
  if (record_ != nullptr) controller_->subsystem().end_queue(*record_);
  target_.authentication_executor().cancel(authentication_);
  group_.remove(*this);
}

uint32_t Queue::capsule_data() const {
  // Until it is admitted, fabrics commands come, on whichever queue.
  const bool takes_io = admitted() && id_ != 0;
  return takes_io ? target_.options().io_capsule_data : nvme::tcp::kAdminCapsuleData;
}

uint32_t Queue::scratch_bytes(const Command& command, uint16_t queue_id) {
  return queue_id != 0 && command.opcode == static_cast<uint8_t>(nvme::IoOpcode::verify)
             ? BufferPool::kLargeBytes
             : 0;
}

void Queue::arrive(Request& request) noexcept {
  request.queue = this;
  request.partner = nullptr;
  request.preempted = false;
  request.ready = false;
  request.broken = {};
  request.completion = {};
  if (++head_ == entries_) head_ = 0;
  if (controller_ != nullptr) controller_->alive();
  begin_count(request);
  if (id_ != 0) pair_fused(request);
}

// Fused commands follow each other as they were sent, not as their data comes.
void Queue::pair_fused(Request& request) noexcept {
  const uint8_t fused = request.command.flags & nvme::kFusedMask;
  Request* const first = std::exchange(fused_first_, nullptr);
  if (first != nullptr && fused == nvme::kFusedSecond) {
    first->partner = &request;
    request.partner = first;
    return;
  }
  if (first != nullptr) break_half(*first, nvme::kMissingFusedCommand);
  if (fused == nvme::kFusedFirst) {
    fused_first_ = &request;
  } else if (fused != 0) {
    request.broken = nvme::kMissingFusedCommand;
  }
}

void Queue::break_half(Request& half, CompletionStatus status) noexcept {
  half.partner = nullptr;
  half.broken = status;
  if (!std::exchange(half.ready, false)) return;  // told when it is executed
  std::erase(fused_ready_, &half);
  finish(half, status);
}

void Queue::refuse(Request& request, CompletionStatus status) noexcept {
  if (fused_first_ == &request) fused_first_ = nullptr;
  if (Request* const other = std::exchange(request.partner, nullptr)) {
    break_half(*other, nvme::kFailedFusedCommand);
  }
  finish(request, status);
}

void Queue::execute(Request& request) noexcept {
  if (closed_) return refuse(request, nvme::kAbortSubmissionQueueDeleted);
  if (request.command.opcode == static_cast<uint8_t>(nvme::AdminOpcode::fabrics)) {
    return execute_fabrics(request);
  }
  if (authenticator_ != nullptr) return refuse(request, nvme::kAuthenticationRequired);
  if (controller_ == nullptr || !controller_->is_ready()) {
    return refuse(request, nvme::kCommandSequenceError);
  }
  if (id_ == 0) return controller_->execute_admin(*this, request);
  execute_io(request);
}

// Whether trying again later would end the same.
bool Queue::is_permanent(CompletionStatus status) {
  for (const CompletionStatus known :
       {nvme::kInvalidOpcode, nvme::kInvalidField, nvme::kInvalidNamespace,
        nvme::kDataLengthInvalid, nvme::kSglTypeInvalid, nvme::kWriteProtected,
        nvme::kLbaOutOfRange, nvme::kReservationConflict, nvme::kInvalidLogPage,
        nvme::kFeatureNotChangeable, nvme::kFeatureNotSaveable, nvme::kConnectInvalidHost,
        nvme::kAuthenticationRequired}) {
    if (status.is(known)) return true;
  }
  return false;
}

void Queue::finish(Request& request, CompletionStatus status) noexcept {
  request.completion.cid = request.command.cid;
  request.completion.sq_id = 0;  // reserved on fabrics
  request.completion.sq_head =
      flow_control_disabled_ ? uint16_t{0xffff} : static_cast<uint16_t>(head_);
  const bool permanent = !status.ok() && is_permanent(status);
  const uint16_t retry = permanent ? nvme::kDoNotRetry : uint16_t{0};
  request.completion.status_and_phase = static_cast<uint16_t>((status.field() | retry) << 1);
  if (request.counted) count(request, status);
  transport_.complete(request);
}

void Queue::close() noexcept {
  if (std::exchange(closed_, true)) return;
  fused_first_ = nullptr;
  for (Request* waiting : std::exchange(fused_ready_, {})) {
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
  if (type == FabricsType::auth_send || type == FabricsType::auth_receive) {
    return authenticate(request, type == FabricsType::auth_send);
  }
  if (authenticator_ != nullptr) return finish(request, nvme::kAuthenticationRequired);
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

// ---- Authentication

void Queue::authenticate(Request& request, bool sends) noexcept {
  if (request.command.cdw10 != nvme::auth::kSecurityProtocol) {
    return finish(request, nvme::kInvalidField);
  }
  if (authenticator_ == nullptr || authenticating_ != nullptr) {
    return finish(request, nvme::kCommandSequenceError);
  }
  if (sends) {
    authenticating_ = &request;
    return target_.authentication_executor().post(authentication_);
  }
  const std::vector<std::byte> message = authenticator_->give();
  if (message.empty()) return finish(request, nvme::kCommandSequenceError);
  if (message.size() > request.data.size()) return finish(request, nvme::kDataLengthInvalid);
  std::copy(message.begin(), message.end(), request.data.begin());
  report_authentication();
  finish(request, {});
}

void Queue::took_message() noexcept {
  report_authentication();
  finish(*std::exchange(authenticating_, nullptr), {});
}

void Queue::report_authentication() noexcept {
  if (authenticator_->done()) {
    if (const Status status = controller_->subsystem().confirm(*controller_); !status.ok()) {
      target_.log(LogLevel::warning, peer_ + ": host " + controller_->host().nqn +
                                         " is not let in: " + std::string(status.message()));
      return transport_.hang_up("another host has its identifier");
    }
    record_->admitted.store(true, std::memory_order_relaxed);
    return authenticator_.reset();
  }
  if (!authenticator_->failed()) return;
  // The host, told so, ends the connection; if not, its time to connect is over soon.
  target_.log(LogLevel::warning, peer_ + ": host " + controller_->host().nqn + " and " +
                                     controller_->subsystem().nqn() +
                                     ": authentication failed: " + authenticator_->failure());
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
  const auto not_allowed = [&](const std::string& why) {
    target_.log(LogLevel::warning, peer_ + ": host " + host.nqn + " is not let in: " + why);
    return nvme::kConnectInvalidHost;
  };
  if (!target_.leads_to(listener_, *subsystem)) {
    return not_allowed(nqn + " is not reached through " + listener_);
  }
  const nvme::auth::TlsIdentity* const secured = transport_.secured_by();
  if (secured != nullptr && (secured->host_nqn != host.nqn || secured->subsystem_nqn != nqn)) {
    return not_allowed("its TLS key is that of " + secured->host_nqn + " for " +
                       secured->subsystem_nqn + ", not for " + nqn);
  }
  if (host.id == std::array<uint8_t, 16>{}) {
    return refuse_data(offsetof(nvme::ConnectData, host_id));
  }
  const uint16_t controller_id = data.controller_id;
  if (queue_id == 0) {
    if (controller_id != nvme::kAnyController) {
      return refuse_data(offsetof(nvme::ConnectData, controller_id));
    }
    const auto keep_alive = std::chrono::milliseconds(command.cdw12);
    auto controller = std::make_shared<Controller>(target_, group_.reactor(), subsystem, listener_,
                                                   host, keep_alive);
    if (const Status attached = subsystem->attach(controller, secured != nullptr); !attached.ok()) {
      if (attached.code() == StatusCode::permission_denied) {
        return not_allowed(std::string(attached.message()));
      }
      target_.log(LogLevel::warning, attached.to_string());
      return nvme::kConnectControllerBusy;
    }
    controller_ = std::move(controller);
    controller_->start(*this);
  } else {
    std::shared_ptr<Controller> controller = subsystem->find_controller(controller_id);
    if (controller == nullptr || controller->host() != host ||
        controller->listener() != listener_) {
      return refuse_data(offsetof(nvme::ConnectData, controller_id));
    }
    const CompletionStatus bad = controller->attach(*this, queue_id);
    if (bad.is(nvme::kCommandSequenceError)) return bad;
    if (!bad.ok()) return connect_refused(request, offsetof(Command, cdw10) + 2, false);
    controller_ = std::move(controller);
  }
  id_ = queue_id;
  entries_ = entries;
  head_ = entries_ > 1 ? 1 : 0;
  flow_control_disabled_ = (command.cdw11 >> 16 & 1u << 2) != 0;
  if (id_ != 0) refresh(*subsystem);
  request.completion.result = controller_->id();
  if (const auto& secrets = controller_->secrets()) {
    authenticator_ =
        std::make_unique<Authenticator>(*secrets, controller_->host().nqn, subsystem->nqn());
    request.completion.result = controller_->id() | nvme::kWantsAuthentication;
  }
  begin_record(*subsystem);
  return {};
}

// ---- I/O

void Queue::refresh(const Subsystem& subsystem) {
  if (controller_ == nullptr || id_ == 0 || &controller_->subsystem() != &subsystem) return;
  namespaces_ = subsystem.namespaces_for(controller_->host().nqn);
  channels_.clear();
  counters_.clear();
  for (const auto& space : *namespaces_) {
    counters_.push_back(space == nullptr ? nullptr : &group_.counters(*space));
    channels_.push_back(space == nullptr ? nullptr : group_.channel(space->device));
  }
}

bool Queue::uses(const DeviceChannel& channel) const {
  return std::find(channels_.begin(), channels_.end(), &channel) != channels_.end();
}

void Queue::execute_io(Request& request) noexcept {
  if (const auto bad = access_refusal(); !bad.ok()) return refuse(request, bad);
  if (request.preempted) return refuse(request, nvme::kPreemptedAndAborted);
  if ((request.command.flags & nvme::kFusedMask) != 0) return execute_fused(request);
  const Namespace* space = find_namespace(*namespaces_, request.command.nsid);
  if (space == nullptr) return finish(request, nvme::kInvalidNamespace);
  count_for(request, *space);
  if (Reservations::is_reservation(request.command)) return execute_reservation(*space, request);
  if (const auto bad = space->reservations->check(controller_->host(), request.command);
      !bad.ok()) {
    return finish(request, bad);
  }
  if (const auto status = prepare_io(*space, request); !status.ok()) {
    return finish(request, status);
  }
  submit(request, *space);
}

// Ok: commands are taken this way.
CompletionStatus Queue::access_refusal() const noexcept {
  switch (controller_->access()) {
    case nvme::AccessState::inaccessible: return nvme::kAccessInaccessible;
    case nvme::AccessState::persistent_loss: return nvme::kAccessPersistentLoss;
    case nvme::AccessState::change: return nvme::kAccessTransition;
    default: return {};
  }
}

void Queue::execute_fused(Request& request) noexcept {
  if (!request.broken.ok()) return finish(request, request.broken);
  if (request.partner == nullptr || !request.partner->ready) {
    request.ready = true;
    fused_ready_.push_back(&request);
    return;
  }
  Request& other = *request.partner;
  other.ready = false;
  std::erase(fused_ready_, &other);
  const bool is_first = (request.command.flags & nvme::kFusedMask) == nvme::kFusedFirst;
  Request& first = is_first ? request : other;
  Request& second = is_first ? other : request;
  const auto is = [](const Request& r, nvme::IoOpcode opcode) {
    return r.command.opcode == static_cast<uint8_t>(opcode);
  };
  const Namespace* space = find_namespace(*namespaces_, first.command.nsid);
  CompletionStatus status = nvme::kInvalidField;
  if (space == nullptr) {
    status = nvme::kInvalidNamespace;
  } else if (is(first, nvme::IoOpcode::compare) && is(second, nvme::IoOpcode::write) &&
             first.command.nsid == second.command.nsid) {
    count_for(first, *space);
    count_for(second, *space);
    status = space->reservations->check(controller_->host(), second.command);
    if (status.ok()) status = prepare_compare_and_write(*space, first, second);
  }
  if (status.ok()) return submit(first, *space);
  first.partner = second.partner = nullptr;
  finish(first, status);
  finish(second, nvme::kFailedFusedCommand);
}

void Queue::submit(Request& request, const Namespace& space) noexcept {
  request.channel = channels_[space.nsid - 1];
  if (request.channel == nullptr) {
    if (request.partner != nullptr) finish(*request.partner, nvme::kFailedFusedCommand);
    return finish(request, nvme::kNamespaceNotReady);
  }
  request.at_device = true;
  request.io.user = &request;
  request.io.done = &Queue::io_done;
  request.channel->submit(request.io);
}

void Queue::io_done(Io& io) noexcept {
  Request& request = *static_cast<Request*>(io.user);
  request.channel->completed();
  request.at_device = false;
  request.queue->io_completed(request);
}

void Queue::io_completed(Request& request) noexcept {
  if (!request.passes.empty()) {
    request.passes.clear();
    request.preempted = true;  // what more of it there is does not follow
  }
  const CompletionStatus status = to_completion_status(request.io.status, request.io.op);
  if (Request* const partner = std::exchange(request.partner, nullptr)) {
    finish(request, status);
    return finish(*partner, status.ok() ? CompletionStatus{} : nvme::kFailedFusedCommand);
  }
  if (status.ok() && !closed_) {
    const Namespace* space = find_namespace(*namespaces_, request.command.nsid);
    const bool same = space != nullptr && channels_[space->nsid - 1] == request.channel;
    if (has_steps(request)) {
      if (!same) return finish(request, nvme::kInvalidNamespace);
      if (request.preempted) return finish(request, nvme::kPreemptedAndAborted);
      // Somebody may have taken the namespace from this host meanwhile.
      CompletionStatus bad = access_refusal();
      if (bad.ok()) bad = space->reservations->check(controller_->host(), request.command);
      if (!bad.ok()) return finish(request, bad);
      if (next_io(*space, request)) return submit(request, *space);
    }
  }
  finish(request, status);
}

}  // namespace basalt::nvmf
