// Request: one command, from its arrival until its answer has been sent.
//
// Made by a transport in a pool of its own, as many as the queue has entries. The transport fills the first part and hands
// it to its Queue (queue.h); the queue fills the second and hands it back by Transport::complete().
#pragma once

#include <basalt/device.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "targets/nvmf/fence.h"
#include "wire/nvme/auth/tls_key.h"
#include "wire/nvme/command.h"
#include "wire/nvme/status.h"

namespace basalt::nvmf {

class DeviceChannel;
class IoCounters;
class Queue;
struct Request;

// What a queue needs of the connection it is served over. The queue's thread.
class Transport {
 public:
  // The answer is complete: to be sent. With data, if the command reads and its status is good.
  virtual void complete(Request& request) noexcept = 0;
  // The connection is to end; `why` is for the log. Requests that are under way still complete.
  virtual void hang_up(const char* why) noexcept = 0;
  // What it has asked its poll group for by send_soon(): all answers that are ready go out at once.
  virtual void flush() noexcept = 0;
  // There may be memory again for what waits for some.
  virtual void retry() noexcept = 0;
  // Each request that has arrived and has not been completed. None is completed meanwhile.
  virtual void visit_requests(const std::function<void(Request&)>& visit) = 0;
  // This side's address of the connection, without a port.
  virtual std::string local_host() const = 0;
  // Whose TLS key the connection is secured by, and for which subsystem; null: it is in the clear.
  virtual const nvme::auth::TlsIdentity* secured_by() const = 0;

 protected:
  ~Transport() = default;
};

struct Request {
  // ---- The transport's, before Queue::execute()
  nvme::Command command;
  std::span<std::byte> data;  // as long as the host says; received already, or to be filled

  // ---- The queue's, before Transport::complete()
  nvme::Completion completion{};

  // ---- The queue's while it executes
  Queue* queue = nullptr;
  DeviceChannel* channel = nullptr;
  bool at_device = false;
  bool preempted = false;           // before it was executed: it is not to be
  std::vector<Fence::Pass> passes;  // of those who wait until the device is done with it
  Request* partner = nullptr;       // the other of two fused commands
  bool ready = false;               // its data is there, and its other half's is not
  nvme::CompletionStatus broken;    // its other half is missing, or was refused: its answer
  uint32_t step = 0;                // of a command that takes several device commands
  uint64_t blocks_done = 0;
  bool counted = false;         // it is outstanding in the queue's counters
  IoCounters* space = nullptr;  // … and in these, its namespace's
  Duration arrived{};
  Io io;
  std::array<iovec, 2> pieces{};
};

}  // namespace basalt::nvmf
