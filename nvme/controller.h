// Controller: one NVMe controller, brought up, watched, and brought back when it stumbles.
//
//   nvme::HostServices host{context.memory(), context.clock(), context.log()};
//   auto function = nvme::VfioFunction::open("0000:01:00.0");
//   auto controller = nvme::Controller::open(host, std::move(*function));
//   auto queue = (*controller)->open_queue_pair();
//   nvme::Request request;
//   request.command = nvme::read_command(nsid, lba, 8);
//   (*queue)->submit(request);  (*queue)->wait(timeout);
//
// bring_up() is the whole of the specification's initialisation (NVM Express base specification 2.0, §3.5) in one
// function, each step with a deadline; what differs between ways to a controller is its Transport's. A reset is
// bring_up() again, and over a network it is tried again until `reconnect_timeout` has passed. A thread of
// its own looks at the controller about once a second, and whenever a queue pair or the transport calls for it: it
// fetches asynchronous events, has commands aborted whose time is up, and resets a controller that is fatal, does
// not answer, or does not give an expired command back.
// Threads: any. Queue pairs are destroyed before their controller, which is destroyed before what
// HostServices names.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/sync.h"
#include "nvme/access_states.h"
#include "nvme/admin_queue.h"
#include "nvme/controller_options.h"
#include "nvme/namespace_info.h"
#include "nvme/pci_function.h"
#include "nvme/queue_pair.h"
#include "nvme/transport.h"
#include "nvme/unflushed_writes.h"
#include "nvme/watch.h"

namespace basalt::nvme {

class Controller final : private ControllerLink {
 public:
  // Brings the controller up. Errors name the step that failed and what the controller showed.
  static Result<std::unique_ptr<Controller>> open(const HostServices& host,
                                                  std::unique_ptr<Transport> transport,
                                                  const ControllerOptions& options = {});
  static Result<std::unique_ptr<Controller>> open(const HostServices& host,
                                                  std::unique_ptr<PciFunction> function,
                                                  const ControllerOptions& options = {});
  // Shuts the controller down (CC.SHN), so that it can be switched off. No queue pair is open.
  ~Controller();

  const std::string& name() const { return transport_->name(); }
  TransportTraits traits() const { return transport_->traits(); }
  const ControllerOptions& options() const { return options_; }
  // As at the last bring-up.
  IdentifyController identity() const;
  std::vector<NamespaceInfo> namespaces() const;
  // Bytes of data a command can have; 0: no limit of the controller's.
  uint64_t max_transfer_bytes() const;
  uint16_t queue_pair_limit() const;

  // no_space when as many are open as the controller has.
  Result<std::unique_ptr<QueuePair>> open_queue_pair();
  // The same, but does not wait for a reset or another opening that is under way: busy.
  Result<std::unique_ptr<QueuePair>> try_open_queue_pair();

  // An admin command; see AdminQueue::run(). Zero timeout: the option's.
  Status run_admin(const Command& command, std::span<const std::byte> sent = {},
                   std::span<std::byte> received = {}, Duration timeout = {},
                   uint32_t* result = nullptr);

  // Resets the controller and brings it up again; what queue pairs have outstanding is sent again or fails. A
  // controller that may have lost what it acknowledged is given up instead: io_error, for this and everything after
  // it. Over a network an error may mean "not yet": the controller goes on trying.
  Status reset(std::string_view reason);
  // How often that was done.
  uint64_t reset_count() const { return resets_.load(std::memory_order_relaxed); }
  // Whether it is waited for when it is down (as at first): until the options' time is up. Once it is not, a controller that is
  // down, or goes down, gets one attempt, as soon as nothing that was sent to it can be acted on any more; if that fails
  // it is given up, and what waits for it fails. For an owner who is about to let it go.
  void set_reconnecting(bool wanted);

  // How `nsid` is reached through this controller, by its last word; optimized where it reports no such thing (ANA).
  AccessState access_state(uint32_t nsid) const;
  // Changes with what access_state() says.
  uint32_t access_generation() const { return access_generation_.load(std::memory_order_acquire); }
  // A command was refused for its namespace's state: the states are read again, by the watch.
  void refresh_access() noexcept;

  // Commands can be sent.
  bool is_up() const { return epoch.load(std::memory_order_acquire) % 2 == 0; }
  // It was given up because writes it had acknowledged, and no flush covered, may be lost.
  bool may_have_lost_writes() const { return lost_writes_.load(std::memory_order_acquire); }
  // Whether it has acknowledged writes that are safe only once a flush has covered them; one that is not reached over a
  // network, and has a write cache, may always have.
  bool has_unflushed_writes() const;

  // Told, from the watch's thread, that namespaces() has changed, or that the controller is gone.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void controller_changed() = 0;
  };
  void add_listener(Listener& listener);
  // Waits for a call under way; not from one.
  void remove_listener(Listener& listener);
  // What it is gone for, device_removed or another reason; ok: it is not.
  StatusCode gone() const {
    return epoch.load(std::memory_order_acquire) == kGone ? gone_status_.load() : StatusCode::ok;
  }

  // Told of each asynchronous event (word 0 of its completion) from the watch's thread. The logs of changed namespaces
  // and of their access have been read by then.
  void on_event(std::function<void(uint32_t)> handler);

 private:
  struct Identity {
    IdentifyController data{};
    std::vector<NamespaceInfo> namespaces{};
    AccessStates access{};
    bool access_known = false;
    uint64_t max_transfer_bytes = 0;
    uint16_t queue_pairs = 0;        // granted
    bool more_command_sets = false;  // than NVM: namespaces may differ
  };
  struct Expired {
    uint16_t queue_id;
    uint16_t cid;
    bool aborted_before;
  };

  Controller(const HostServices& host, std::unique_ptr<Transport> transport,
             const ControllerOptions& options);

  Status bring_up();
  Status identify(AdminQueue& admin, IdentifyController& data);
  enum class OnFailure : uint8_t {
    leave_out,
    keep_known,
    fail
  };  // of a namespace that cannot be read now
  Status read_namespaces(AdminQueue& admin, Identity& identity, OnFailure on_failure);
  Status check_namespaces(const Identity& identity) const;
  std::optional<NamespaceInfo> known_namespace(uint32_t nsid) const;
  void remember_namespaces(const std::vector<NamespaceInfo>& spaces);
  Result<NamespaceInfo> read_namespace(AdminQueue& admin, const Identity& identity, uint32_t nsid);
  Status grant_queues(AdminQueue& admin, Identity& identity);
  Result<AccessStates> read_access_states(AdminQueue& admin, const IdentifyController& data,
                                          uint64_t max_bytes);
  Status ask_about_changes(AdminQueue& admin, Identity& identity);
  void news_failed(const Status& status);
  void update_access_states();
  void update_namespaces();
  Status shut_down();
  Status reset_locked(std::string_view reason);
  enum class Failure : uint8_t { may_be_passing, is_final };
  Status come_back(Failure failure);
  Result<std::unique_ptr<QueuePair>> open_queue_pair_locked();
  void give_up(const Status& why);
  void note_settled();
  Status check_state_kept();
  void wake_queues();
  void watch_once();
  void look();

  // ControllerLink
  void expired(uint16_t queue_id, uint16_t cid, bool aborted_before) override;
  Result<std::unique_ptr<CommandQueue>> renew(uint16_t queue_id, uint32_t& made_in) override;
  void close(uint16_t queue_id, uint32_t made_in) noexcept override;
  Duration retry_delay(CompletionStatus status) const override;
  StatusCode gone_status() const override { return gone_status_.load(); }
  void settle(uint16_t queue_id) noexcept override { transport_->settle(queue_id); }

  const HostServices host_;
  const ControllerOptions options_;
  const std::unique_ptr<Transport> transport_;
  UnflushedWrites unflushed_writes_;
  std::atomic<uint64_t> resets_{0};
  std::atomic<StatusCode> gone_status_{StatusCode::device_removed};
  std::atomic<bool> lost_writes_{false};
  std::atomic<bool> may_lose_writes_{false};
  std::atomic<uint32_t> access_generation_{0};
  std::atomic<bool> access_is_old_{false};
  std::atomic<bool> namespaces_are_old_{false};
  std::atomic<bool> listeners_are_due_{false};
  std::atomic<bool> reconnecting_{true};
  std::array<std::atomic<uint16_t>, 4> retry_delays_{};  // by CRD, in 100 ms

  Mutex control_;  // one bring-up, reset, queue creation or shutdown at a time; taken before mutex_
  Duration down_since_{};
  Duration next_attempt_{};
  std::string last_failure_;       // of coming back: said once
  std::string last_news_failure_;  // of reading what has changed: likewise
  unsigned news_failures_ = 0;     // in a row
  Status doomed_;  // not ok: to be given up, once what was sent cannot be acted on any more
  std::shared_ptr<AdminQueue>
      admin_;  // shared with whoever runs a command; changed under both mutexes

  mutable Mutex mutex_;  // protects all below
  Identity identity_;
  // By number, each namespace as it was when it was seen first, with the size it has now: what another is not taken for.
  std::map<uint32_t, NamespaceInfo> known_;
  std::vector<bool> open_;  // by queue id
  std::vector<Expired> expired_;
  std::function<void(uint32_t)> event_handler_;

  Mutex listeners_mutex_;  // protects what follows; held while they are called
  std::vector<Listener*> listeners_;

  Watch watch_{[this] { watch_once(); }};  // last: it uses all of the above
};

}  // namespace basalt::nvme
