// Controller: what one host has of a subsystem, from the Connect of its admin queue until that ends.
//
// NVM Express base specification 2.0: properties (§3.1.3), admin commands (§5), keep-alive (§3.9), asynchronous events (§5.2).
// It lives on its admin queue's reactor. Its I/O queues may be elsewhere: they ask is_ready(), tell alive(), and are told to
// hang up when it ends.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/sync.h"
#include "reactor/reactor.h"
#include "targets/nvmf/request.h"
#include "targets/nvmf/subsystem.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/identify.h"

namespace basalt::nvmf {

class Queue;
class Target;

class Controller : public std::enable_shared_from_this<Controller> {
 public:
  // Entries of a queue, at most.
  static constexpr uint32_t kMaxQueueEntries = 128;
  static constexpr unsigned kMaxAsyncEvents = 4;
  // That a host has not read; older ones go, which it sees by their count.
  static constexpr size_t kMaxReservationNotifications = 256;
  static constexpr uint32_t kAccessGroup = 1;     // the one there is
  static constexpr uint32_t kVersion = 0x010400;  // of the specification

  // `reactor`: of its admin queue; `listener`: by which that came.
  Controller(Target& target, Reactor& reactor, std::shared_ptr<Subsystem> subsystem,
             std::string listener, HostIdentity host, Duration keep_alive);
  ~Controller();

  // ---- Any thread
  uint16_t id() const { return id_; }
  Subsystem& subsystem() const { return *subsystem_; }
  const HostIdentity& host() const { return host_; }
  // What its queues have to prove that they know; settled when it is attached.
  const std::optional<HostSecrets>& secrets() const { return secrets_; }
  // By its subsystem, which lets it in.
  void admit(uint16_t id, std::optional<HostSecrets> secrets) {
    id_ = id;
    proven_ = !secrets;
    secrets_ = std::move(secrets);
  }
  // Its host is who it says it is, as far as that is asked. Guarded by its subsystem's mutex.
  bool is_proven() const { return proven_; }
  void set_proven() { proven_ = true; }
  bool is_ready() const { return ready_.load(std::memory_order_acquire); }
  size_t io_queue_count();
  // A command came from the host.
  void alive() {
    if (!alive_.load(std::memory_order_relaxed)) alive_.store(true, std::memory_order_relaxed);
  }
  // kInvalidQueueId: beyond what there are, or taken; kCommandSequenceError: it is not ready, or ends. The queue detaches
  // before it goes.
  nvme::CompletionStatus attach(Queue& queue, uint16_t queue_id);
  void detach(Queue& queue);
  // All its queues hang up.
  void end(const std::string& why);
  void namespaces_changed(uint32_t nsid);
  void discovery_changed();
  const std::string& listener() const { return listener_; }
  nvme::AccessState access() const { return access_.load(std::memory_order_relaxed); }
  void set_access(nvme::AccessState state);

  // Its host is to learn of it, unless it does not want to (Feature 82h).
  void reservation_changed(uint32_t nsid, nvme::ReservationNotification type);

  // ---- Its admin queue's reactor
  void start(Queue& admin_queue);
  void execute_admin(Queue& queue, Request& request);
  void get_property(Queue& queue, Request& request);
  void set_property(Queue& queue, Request& request);
  // The admin queue's connection has ended.
  void stop(Queue& admin_queue);

 private:
  // What its host sees of the subsystem's.
  std::shared_ptr<const NamespaceTable> namespaces() const {
    return subsystem_->namespaces_for(host_.nqn);
  }
  nvme::CompletionStatus identify(Request& request);
  nvme::CompletionStatus identify_controller(Request& request);
  nvme::CompletionStatus identify_namespace(Request& request);
  nvme::CompletionStatus list_namespaces(Request& request);
  nvme::CompletionStatus describe_namespace(Request& request);
  nvme::CompletionStatus get_log_page(Request& request);
  std::vector<std::byte> make_log_page(nvme::LogPage page, bool& known);
  nvme::CompletionStatus get_feature(Request& request);
  nvme::CompletionStatus set_feature(Request& request);
  // reservation_events.cc
  nvme::CompletionStatus get_reservation_feature(Request& request);
  void set_reservation_feature(Queue& queue, Request& request);
  std::vector<std::byte> reservation_log() const;
  void reservation_log_was_read();
  void raise_reservation_event();
  std::vector<std::byte> access_log() const;
  bool keeps_feature(nvme::Feature which) const;
  void set_keep_alive(Duration time);
  bool abort(Queue& queue, uint16_t queue_id, uint16_t cid);
  void set_configuration(uint32_t value);
  void shut_down();
  void raise(nvme::AsyncEvent event, uint32_t enabled_by);
  void tell_events();
  // With `mutex_` held.
  void end_queue(uint16_t queue_id, Queue* queue, const char* why);
  void check_alive();

  Target& target_;
  Reactor& reactor_;
  const std::shared_ptr<Subsystem> subsystem_;
  const std::string listener_;
  const HostIdentity host_;
  uint16_t id_ = 0;
  std::optional<HostSecrets> secrets_;
  bool proven_ = false;
  std::atomic<bool> ready_{false};
  std::atomic<bool> alive_{true};
  std::atomic<bool> ended_{false};
  std::atomic<nvme::AccessState> access_;
  std::atomic<uint64_t> access_changes_{0};

  Mutex mutex_;                        // protects what follows
  std::map<uint16_t, Queue*> queues_;  // by number

  // ---- The admin queue's reactor's
  Queue* admin_queue_ = nullptr;
  Duration keep_alive_;  // zero: none
  Reactor::Timer keep_alive_timer_;
  unsigned silent_checks_ = 0;
  uint32_t configuration_ = 0, status_ = 0;  // CC, CSTS
  BackgroundTask shutdown_;                  // flushes, off the reactor
  bool shuts_down_again_ = false;            // told so while it does
  std::map<uint8_t, uint32_t> features_;     // that are set and mean nothing here
  uint32_t async_events_enabled_ = 0;
  std::vector<Request*> event_requests_;  // that wait for an event
  std::deque<nvme::AsyncEvent> events_;   // not told yet
  std::set<nvme::LogPage> masked_;        // told, and the page that says more not read yet
  std::set<uint32_t> changed_namespaces_;
  std::deque<nvme::ReservationNotificationLog> reservation_log_;  // that have not been read
  uint64_t reservation_notifications_ = 0;                        // there have been
  std::map<uint32_t, uint32_t> reservation_masks_;                // by namespace; none: zero
};

}  // namespace basalt::nvmf
