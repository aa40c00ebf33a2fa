// AdminQueue: a controller's admin commands, one at a time, blocking.
//
// The command's data goes through a buffer of the driver's own, which stays the driver's whatever becomes of
// the command: one that is not answered in time leaves the queue stuck until the controller is reset. Between
// commands the queue holds asynchronous event requests; poll_events() says which were answered.
// Threads: any.
#pragma once

#include <basalt/context.h>
#include <basalt/status.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/sync.h"
#include "nvme/queue_pair.h"

namespace basalt::nvme {

class AdminQueue final : private ControllerLink {
 public:
  // Data of one command, at most.
  static constexpr size_t kDataBytes = 128 * 1024;
  static constexpr unsigned kEventRequests = 4;

  // `queue` has at least kEventRequests + 2 entries; `data` kDataBytes, which the queue's transport reaches.
  AdminQueue(std::unique_ptr<CommandQueue> queue, std::span<std::byte> data, MemoryMap& memory,
             Clock& clock, LogSink& log);
  // After end().
  ~AdminQueue() override;

  // Sends `command` and waits. `sent` goes to the controller, or `received` is filled by it; either is empty.
  // `result`: words 0 and 1 of the completion. Errors: timed_out, io_error after end(), and what the controller
  // answered, as "identify (0x06): invalid field in command (0x02)".
  Status run(const Command& command, std::span<const std::byte> sent, std::span<std::byte> received,
             Duration timeout, uint64_t* result = nullptr);

  // Sends a Keep Alive this often while run() waits for a command, which may take hours; one that is not answered for
  // as long as that three times over ends the wait.
  void keep_alive_every(Duration interval);
  // Asks to be told of events; `count` requests at most kEventRequests.
  void request_events(unsigned count);
  // Word 0 of every event since the last call, each of which is asked for again. Does not wait for a command that
  // is under way: the next call tells.
  std::vector<uint32_t> poll_events();
  // The controller has been disabled, or can touch no memory any more: ends the command that waits, with
  // io_error, and all later ones.
  void end();
  // Not answered in time: no other command until the controller has been reset.
  bool stuck() const { return stuck_.load(std::memory_order_relaxed); }

 private:
  // False: the last one has not been answered for too long.
  bool keep_alive(Duration now);

  // One of the queue's own commands.
  struct Event {
    Request request;
    bool outstanding = false;
    bool answered = false;
  };

  // ControllerLink: this queue is not made anew, its owner is.
  void expired(uint16_t, uint16_t, bool) override {}
  Result<std::unique_ptr<CommandQueue>> renew(uint16_t, uint32_t&) override;
  void close(uint16_t, uint32_t) noexcept override {}
  Duration retry_delay(CompletionStatus) const override { return Duration::zero(); }
  StatusCode gone_status() const override { return StatusCode::io_error; }

  Clock& clock_;
  const std::span<std::byte> data_;
  std::atomic<bool> stuck_{false};
  Mutex mutex_;  // protects all below
  QueuePair pair_;
  Request request_;
  iovec piece_{};
  bool answered_ = false;
  Event events_[kEventRequests];
  Event keep_alive_;
  Duration keep_alive_interval_{};  // zero: none
  Duration keep_alive_sent_{};
};

// "identify (0x06)".
std::string describe_admin(uint8_t opcode);

}  // namespace basalt::nvme
