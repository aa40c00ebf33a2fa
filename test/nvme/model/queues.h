// The model's side of a queue pair: where the host's rings lie, and how far each has got.
//
// NVMe base 2.0 §3.3.3. `memory` is looked up again whenever mappings change; null: the model cannot
// reach the ring, and the next use of it is fatal to the controller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "wire/nvme/command.h"

namespace basalt::nvme::model {

inline constexpr uint32_t kNoDoorbell = ~uint32_t{0};

struct SubmissionQueue {
  bool exists = false;
  uint16_t id = 0;
  uint16_t cq_id = 0;
  uint32_t entries = 0;
  uint32_t head = 0;
  uint64_t iova = 0;
  const std::byte* memory = nullptr;
  uint32_t bad_doorbell = kNoDoorbell;  // the last value that was reported as invalid
  bool shadow_rung = false;             // ShadowDoorbells::on_event: the doorbell has been written
};

struct CompletionQueue {
  bool exists = false;
  uint16_t id = 0;
  uint32_t entries = 0;
  uint32_t tail = 0;
  uint32_t head = 0;  // what the host has consumed, as last seen
  uint16_t phase = 1;
  bool interrupts = false;
  uint16_t vector = 0;
  uint64_t iova = 0;
  std::byte* memory = nullptr;
  uint32_t bad_doorbell = kNoDoorbell;
  uint32_t users = 0;   // submission queues
  bool signal = false;  // its interrupt is due at the end of the step

  uint32_t next(uint32_t index) const { return index + 1 == entries ? 0 : index + 1; }
  bool full() const { return next(tail) == head; }
};

// How a command ends.
struct Outcome {
  CompletionStatus status{};
  uint64_t result = 0;
  bool completes = true;  // false: it is held (an asynchronous event request)
};

// A command whose completion, or execution too, is put off by a fault.
struct HeldCommand {
  uint16_t sq_id = 0;
  Command command{};
  Outcome outcome{};
  bool executed = true;
  uint64_t steps_left = 0;
};

// BAR 0 from kFirstDoorbell on, in a file that another process can map too, at the same offset.
class DoorbellMemory {
 public:
  explicit DoorbellMemory(size_t bytes);
  ~DoorbellMemory();
  DoorbellMemory(const DoorbellMemory&) = delete;
  DoorbellMemory& operator=(const DoorbellMemory&) = delete;

  std::byte* data() { return base_; }
  size_t size() const { return bytes_; }
  int fd() const { return fd_; }

 private:
  const size_t bytes_;
  const int fd_;
  std::byte* base_ = nullptr;
};

}  // namespace basalt::nvme::model
