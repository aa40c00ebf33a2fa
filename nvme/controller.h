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
#include <memory>
#include <string>
#include <vector>

#include "base/sync.h"
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

  // Told of each asynchronous event (word 0 of its completion) from the watch's thread.
  void on_event(std::function<void(uint32_t)> handler);

 private:
  struct Identity {
    IdentifyController data{};
    std::vector<NamespaceInfo> namespaces{};
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
  Status read_namespaces(AdminQueue& admin, Identity& identity);
  Status check_namespaces(const Identity& identity) const;
  Result<NamespaceInfo> read_namespace(AdminQueue& admin, const Identity& identity, uint32_t nsid);
  Status grant_queues(AdminQueue& admin, Identity& identity);
  Status shut_down();
  Status reset_locked(std::string_view reason);
  Status come_back();
  void give_up(const Status& why);
  void wake_queues();
  void watch_once();

  // ControllerLink
  void expired(uint16_t queue_id, uint16_t cid, bool aborted_before) override;
  Result<std::unique_ptr<CommandQueue>> renew(uint16_t queue_id, uint32_t& made_in) override;
  void close(uint16_t queue_id, uint32_t made_in) noexcept override;
  Duration retry_delay(CompletionStatus status) const override;
  StatusCode gone_status() const override { return gone_status_.load(); }

  const HostServices host_;
  const ControllerOptions options_;
  const std::unique_ptr<Transport> transport_;
  UnflushedWrites unflushed_writes_;
  std::atomic<uint64_t> resets_{0};
  std::atomic<StatusCode> gone_status_{StatusCode::device_removed};
  std::array<std::atomic<uint16_t>, 4> retry_delays_{};  // by CRD, in 100 ms

  Mutex control_;  // one bring-up, reset, queue creation or shutdown at a time; taken before mutex_
  Duration down_since_{};
  Duration next_attempt_{};
  std::string last_failure_;  // of coming back: said once
  Status doomed_;  // not ok: to be given up, once what was sent cannot be acted on any more
  std::shared_ptr<AdminQueue>
      admin_;  // shared with whoever runs a command; changed under both mutexes

  mutable Mutex mutex_;  // protects all below
  Identity identity_;
  std::vector<bool> open_;  // by queue id
  std::vector<Expired> expired_;
  std::function<void(uint32_t)> event_handler_;

  Watch watch_{[this] { watch_once(); }};  // last: it uses all of the above
};

}  // namespace basalt::nvme
