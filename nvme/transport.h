// Transport: the way to one controller: its properties, its admin queue, its I/O queues.
//
// Two kinds: PCI functions (pcie_transport.h; VFIO, vfio-user and the tests' model below it) and NVMe/TCP (tcp/).
// The controller above decides what is done and when; a transport knows how. bring_up.cc is the story both tell.
// Thread rules: one call at a time, which the controller's lock sees to, except name(), traits() and wake(),
// which are anybody's, and its queues, which are their queue pairs'.
#pragma once

#include <basalt/status.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "nvme/admin_queue.h"
#include "nvme/controller_options.h"
#include "nvme/queue_pair.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/registers.h"

namespace basalt::nvme {

struct TransportTraits {
  // Data must lie in memory that the Context's MemoryMap knows.
  bool registered_memory = true;
  // And in hugepages: there is no IOMMU.
  bool needs_hugepages = false;
  // Pieces of memory a command's data may be in, whatever their addresses and lengths.
  uint32_t max_pieces = 1;
  // A reset that finds the controller unreachable is worth repeating until the options' time is up.
  bool reconnects = false;
  // How often check() is wanted.
  Duration look_interval = std::chrono::seconds(1);
  // Only the admin queue is there, and neither I/O queues nor namespaces: a discovery controller.
  bool admin_only = false;
};

// A controller that is enabled and ready.
struct StartedController {
  Capabilities capabilities;
  std::shared_ptr<AdminQueue> admin;
};

class Transport {
 public:
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // For messages: "0000:00:04.0", "/run/nvme.sock", "10.0.0.1:4420".
  virtual const std::string& name() const = 0;
  virtual TransportTraits traits() const = 0;
  // Called once, first: what the controller was opened with, and how to have it looked at at once. Both outlive
  // the transport.
  virtual void attach(const HostServices& host, const ControllerOptions& options,
                      std::function<void()> look) = 0;

  // ---- Bring-up
  // From whatever there is to a controller that is ready. `previous` (which may be null) is the admin queue of
  // the time before; it is ended as soon as the controller reaches no memory of ours any more. Errors name the
  // step that failed and what the controller showed.
  virtual Result<StartedController> start(AdminQueue* previous) = 0;
  // What has to be known or said before there are I/O queues; `queue_pairs` of them were granted.
  virtual Status prepare_queues(AdminQueue& admin, const IdentifyController& identity,
                                uint16_t queue_pairs) = 0;
  // I/O queues that there can be.
  virtual uint16_t queue_limit() const = 0;
  // Bytes of data a command can have; valid after prepare_queues().
  virtual uint64_t max_transfer_bytes() const = 0;

  // ---- I/O queues, from 1 on
  virtual Result<std::unique_ptr<CommandQueue>> open_queue(uint16_t id, AdminQueue& admin) = 0;
  // The controller is to forget the queue, which is not used any more.
  virtual void close_queue(uint16_t id, AdminQueue& admin) noexcept = 0;
  // Whoever sleeps for the queue's event looks again.
  virtual void wake(uint16_t id) noexcept = 0;
  // Takes a wake() back, if there was one.
  virtual void settle(uint16_t) noexcept {}

  // ---- The controller's properties (registers)
  virtual Result<uint32_t> read32(Register which) = 0;
  virtual Status write32(Register which, uint32_t value) = 0;

  // ---- Health
  // Whether the controller is there, and well; called every look_interval. device_removed: it is gone for good;
  // io_error, timed_out: it has to be reset, for the reason given.
  virtual Status check() = 0;
  // Whether the controller still has what it acknowledged: completed writes that no flush covers are in a cache of
  // its own. `unflushed`: there are such.
  virtual Status check_state_kept(bool unflushed) = 0;
  // Whether writes it has acknowledged may be lost before a flush has covered them; valid after prepare_queues().
  virtual bool may_lose_writes(const IdentifyController& identity) const {
    return (identity.volatile_write_cache & 1) != 0;
  }
  // A reset has failed: something stronger, before it is tried again.
  virtual void reset_harder() noexcept = 0;
  // A queue could not be made anew: the controller has to be reset, for that reason.
  virtual void distrust(const Status& why) noexcept = 0;
  // From here on the controller reaches no memory of ours, and no queue is of use.
  virtual void cut_off() noexcept = 0;
  // Nothing that was sent before cut_off() can still be acted on.
  virtual bool settled() const = 0;

 protected:
  Transport() = default;
};

// ---- Steps every transport's start() has

// CAP as this driver needs it; errors: unsupported, corruption, device_removed.
Status check_capabilities(Capabilities capabilities);
// How long CSTS.RDY may take to follow CC.EN.
Duration ready_timeout(Capabilities capabilities);
// The value that CC is enabled with.
uint32_t enabling_configuration(Capabilities capabilities);
// Waits for CSTS.RDY to become `ready`. Errors: timed_out, io_error (fatal error), device_removed.
Status wait_ready(Transport& transport, Clock& clock, bool ready, Duration timeout);

// "250 ms".
std::string milliseconds(Duration duration);

}  // namespace basalt::nvme
