// Queue: one submission and completion queue of a controller, on whatever transport.
//
// A transport makes one for each connection and hands it the commands that arrive. The first is Connect, which makes it
// the admin queue of a new controller or an I/O queue of one there is; from then on admin commands go to the controller,
// and I/O commands to the devices of the subsystem's namespaces.
//
// Threads: its poll group's reactor's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "targets/nvmf/authentication.h"
#include "targets/nvmf/controller.h"
#include "targets/nvmf/host_accounts.h"
#include "targets/nvmf/namespace.h"
#include "targets/nvmf/poll_group.h"
#include "targets/nvmf/request.h"

namespace basalt::nvmf {

class Target;

class Queue {
 public:
  // `listener`: "address:port" the connection came in by; `peer`: for messages.
  Queue(Target& target, PollGroup& group, Transport& transport, std::string listener,
        std::string peer);
  // All requests have completed.
  ~Queue();
  Queue(const Queue&) = delete;

  // Each command, first, in the order they came: whether it is executed or refused then.
  void arrive(Request& request) noexcept;
  // Takes the request until Transport::complete() is called for it, which may be at once.
  void execute(Request& request) noexcept;
  // One that makes no sense as it arrived.
  void refuse(Request& request, nvme::CompletionStatus status) noexcept;
  // What needs no device, or no longer: `status` is the answer.
  void finish(Request& request, nvme::CompletionStatus status) noexcept;
  // One that has arrived and will be neither: its connection has ended before its data came.
  void abandon(Request& request) noexcept;
  // The connection has ended: what waits for an event, or for its other half, is let go, and the controller left. Requests
  // at devices still complete.
  void close() noexcept;

  bool connected() const { return controller_ != nullptr; }
  // Connected, and authenticated if that is asked of the host.
  bool admitted() const { return connected() && authenticator_ == nullptr; }
  uint16_t id() const { return id_; }
  // How many requests there may be at a time.
  uint32_t entries() const { return entries_; }
  // Whether the answer to a read may be implied by its data: the host does not need to be told of the queue's head.
  bool flow_control_disabled() const { return flow_control_disabled_; }
  // How many bytes of data a command's capsule may carry.
  uint32_t capsule_data() const;
  // The longest data of a command.
  static uint32_t max_data() { return BufferPool::kLargeBytes; }
  // Data that a command must have memory for although none travels.
  static uint32_t scratch_bytes(const nvme::Command& command, uint16_t queue_id);

  PollGroup& group() { return group_; }
  Target& target() { return target_; }
  Transport& transport() { return transport_; }
  const std::string& listener() const { return listener_; }
  const std::string& peer() const { return peer_; }
  void refresh(const Subsystem& subsystem);
  // If its host is one of `hosts`: its commands for that namespace that are not at the device yet are not to get there, and
  // those that are take a pass each.
  void abort_preempted(const Subsystem& subsystem, uint32_t nsid,
                       const std::vector<HostIdentity>& hosts, const Fence::Pass& pass);
  bool uses(const DeviceChannel& channel) const;

 private:
  void pair_fused(Request& request) noexcept;
  void break_half(Request& half, nvme::CompletionStatus status) noexcept;
  static bool is_permanent(nvme::CompletionStatus status);
  void execute_fabrics(Request& request) noexcept;
  nvme::CompletionStatus connect(Request& request);
  void authenticate(Request& request, bool sends) noexcept;
  void took_message() noexcept;
  void report_authentication() noexcept;
  nvme::CompletionStatus connect_refused(Request& request, uint32_t offset, bool in_data);
  void begin_record(Subsystem& subsystem);
  void begin_count(Request& request) noexcept;
  void count_for(Request& request, const Namespace& space) noexcept;
  void count(Request& request, nvme::CompletionStatus status) noexcept;
  void execute_io(Request& request) noexcept;
  nvme::CompletionStatus access_refusal() const noexcept;
  void execute_fused(Request& request) noexcept;
  // queue_reservations.cc
  void execute_reservation(const Namespace& space, Request& request) noexcept;
  void reserved(Request& request, const ReservationOutcome& outcome) noexcept;
  void submit(Request& request, const Namespace& space) noexcept;
  static void io_done(Io& io) noexcept;
  void io_completed(Request& request) noexcept;

  Target& target_;
  PollGroup& group_;
  Transport& transport_;
  const std::string listener_, peer_;
  uint16_t id_ = 0;
  uint32_t entries_ = 32;  // until Connect says
  uint32_t head_ = 0;      // of the submission queue, for the host's flow control
  bool flow_control_disabled_ = false;
  bool closed_ = false;
  std::shared_ptr<Controller> controller_;
  std::shared_ptr<QueueRecord> record_;           // from Connect on
  std::unique_ptr<Authenticator> authenticator_;  // until the host has proved itself
  BackgroundTask authentication_;                 // computes, off the reactor
  Request* authenticating_ = nullptr;             // whose message that looks at
  std::shared_ptr<const NamespaceTable> namespaces_;
  std::vector<DeviceChannel*> channels_;  // as in namespaces_
  std::vector<IoCounters*> counters_;     // the same
  Request* fused_first_ = nullptr;        // came last; its other half is to come next
  std::vector<Request*> fused_ready_;     // wait for the data of their other halves
};

}  // namespace basalt::nvmf
