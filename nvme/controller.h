// Controller: one NVMe controller, brought up, watched, and brought back when it stumbles.
//
//   nvme::HostServices host{context.memory(), context.clock(), context.log(), context.executor()};
//   auto function = nvme::VfioFunction::open("0000:01:00.0");
//   auto controller = nvme::Controller::open(host, std::move(*function));
//   auto queue = (*controller)->open_queue_pair();
//   nvme::Request request;
//   request.command = nvme::read_command(nsid, lba, 8);
//   (*queue)->submit(request);  (*queue)->wait(timeout);
//
// bring_up() is the whole of the specification's initialisation (NVM Express base specification 2.0, §3.5.1)
// in one function, each step with a deadline; a reset is bring_up() again. A task on the executor
// looks at the controller once a second, and whenever a queue pair calls for it: it fetches asynchronous
// events, has commands aborted whose time is up, and resets a controller that is fatal, does not answer, or
// does not give an expired command back.
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
#include "nvme/dma_map.h"
#include "nvme/namespace_info.h"
#include "nvme/pci_function.h"
#include "nvme/pcie_queue.h"
#include "nvme/queue_pair.h"

namespace basalt::nvme {

// What a controller takes from its surroundings; a Context has all of it. They outlive the controller.
struct HostServices {
  MemoryMap& memory;
  Clock& clock;
  LogSink& log;
  Executor& executor;
};

struct ControllerOptions {
  uint16_t queue_depth = 256;  // commands outstanding per queue pair, at most; 1 … 1023
  uint16_t queue_pairs = 64;   // that can be open at once, if the controller has as many
  bool interrupts = true;      // wait() sleeps; false: it polls
  Duration admin_timeout = std::chrono::seconds(10);
  Duration command_timeout = std::chrono::seconds(30);
  Duration abort_grace = std::chrono::seconds(5);
  Duration shutdown_timeout = std::chrono::seconds(10);
  unsigned reset_attempts = 3;
  bool shadow_doorbells = true;  // where the controller offers them
};

class Controller final : private ControllerLink {
 public:
  // Brings the controller up. Errors name the step that failed and what the controller showed.
  static Result<std::unique_ptr<Controller>> open(const HostServices& host,
                                                  std::unique_ptr<PciFunction> function,
                                                  const ControllerOptions& options = {});
  // Shuts the controller down (CC.SHN), so that it can be switched off. No queue pair is open.
  ~Controller();

  const std::string& name() const { return function_->name(); }
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
  // controller that has lost its state is given up instead: io_error, for this and everything after it.
  Status reset(std::string_view reason);
  // How often that was done.
  uint64_t reset_count() const { return resets_.load(std::memory_order_relaxed); }

  // Told of each asynchronous event (word 0 of its completion) from the executor's thread.
  void on_event(std::function<void(uint32_t)> handler);

 private:
  struct Identity {
    Capabilities capabilities;
    IdentifyController data{};
    std::vector<NamespaceInfo> namespaces{};
    uint64_t max_transfer_bytes = 0;
    uint16_t queue_pairs = 0;  // granted
    bool shadow_doorbells = false;
  };
  enum class Ring : uint8_t { submission, completion };
  struct OpenQueue {
    bool open = false;
    int event_fd = -1;
  };
  struct Expired {
    uint16_t queue_id;
    uint16_t cid;
    bool aborted_before;
  };

  Controller(const HostServices& host, std::unique_ptr<PciFunction> function,
             const ControllerOptions& options);

  Status bring_up();
  Status disable(Capabilities capabilities);
  Status wait_ready(bool ready, Duration timeout);
  Status start_admin(Capabilities capabilities);
  Status identify(Identity& identity);
  Status read_namespaces(Identity& identity);
  Status grant_queues(Identity& identity);
  Status start_shadow_doorbells(Identity& identity);
  Status start_interrupts();
  Status shut_down();
  Status reset_locked(std::string_view reason);
  Status check_state_kept();
  void give_up(const Status& why);
  Result<std::unique_ptr<CommandQueue>> create_queue(uint16_t queue_id);
  Doorbell doorbell(const Identity& identity, uint16_t queue_id, Ring ring) const;
  void wake_queues();
  void watch_once();

  // ControllerLink
  void expired(uint16_t queue_id, uint16_t cid, bool aborted_before) override;
  Result<std::unique_ptr<CommandQueue>> renew(uint16_t queue_id) override;
  void close(uint16_t queue_id, uint32_t made_in) noexcept override;
  Duration retry_delay(CompletionStatus status) const override;
  StatusCode gone_status() const override { return gone_status_.load(); }

  const HostServices host_;
  const ControllerOptions options_;
  const std::unique_ptr<PciFunction> function_;
  DmaMap dma_;
  std::atomic<uint64_t> resets_{0};
  std::atomic<StatusCode> gone_status_{StatusCode::device_removed};
  std::array<std::atomic<uint16_t>, 4> retry_delays_{};  // by CRD, in 100 ms
  BackgroundTask watch_;

  Mutex control_;  // one bring-up, reset, queue creation or shutdown at a time; taken before mutex_
  DmaBuffer admin_data_;
  DmaBuffer shadow_;  // shadow doorbells, one page; event indexes, one page
  std::shared_ptr<AdminQueue>
      admin_;  // shared with whoever runs a command; changed under both mutexes

  mutable Mutex mutex_;  // protects all below
  Identity identity_;
  std::vector<OpenQueue> queues_;  // by queue id; 0 is the admin queue
  std::vector<Expired> expired_;
  std::function<void(uint32_t)> event_handler_;
};

}  // namespace basalt::nvme
