// ModelHost: as little of an NVMe host as it takes to talk to a ControllerModel by hand.
//
// One arena of memory is mapped for the model at kIovaOffset above its address; queues and buffers come
// from it and are never given back. run() submits one command and steps the model until it completes;
// submit(), ring() and poll() are its parts. Made only of the wire structs, so that these tests depend
// on no driver.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {

inline constexpr uint64_t kIovaOffset = uint64_t{1} << 40;
inline constexpr size_t kPage = 4096;

// One word for messages and comparisons: type << 8 | code, without retry bits.
inline constexpr unsigned kOk = 0;
inline unsigned code_of(CompletionStatus status) { return status.field() & 0x7ff; }
inline std::string text(const std::optional<Completion>& completion) {
  return completion ? describe(completion->status()) : "no completion";
}

class ModelHost {
 public:
  struct Queue {
    uint16_t id = 0;
    uint32_t entries = 0;
    std::byte* commands = nullptr;
    std::byte* completions = nullptr;
    uint32_t tail = 0, head = 0;
    uint16_t phase = 1;
  };

  explicit ModelHost(ControllerModel& model, size_t arena_pages = 4096)
      : model_(model), arena_(arena_pages * kPage) {
    EXPECT_TRUE(model_.map(iova(arena_.data()), {arena_.data(), arena_.size()}).ok());
  }
  ~ModelHost() { EXPECT_TRUE(model_.unmap(iova(arena_.data()), arena_.size()).ok()); }

  ControllerModel& model() { return model_; }
  static uint64_t iova(const void* address) {
    return reinterpret_cast<uintptr_t>(address) + kIovaOffset;
  }
  std::byte* allocate(size_t pages) {
    std::byte* memory = arena_.data() + used_;
    used_ += pages * kPage;
    EXPECT_LE(used_, arena_.size());
    return memory;
  }

  // ---- Registers
  uint32_t stride() { return Capabilities{model_.read64(0)}.doorbell_stride(); }
  // Whether CSTS.RDY becomes `ready` within a few reads.
  bool wait_ready(bool ready) {
    for (int i = 0; i < 20; ++i) {
      if (ControllerStatus{model_.read32(0x1c)}.ready() == ready) return true;
    }
    return false;
  }
  bool bring_up(uint32_t entries = 32) {
    admin = make_queue(0, entries);
    model_.write32(0x24, (entries - 1) << 16 | (entries - 1));
    model_.write64(0x28, iova(admin.commands));
    model_.write64(0x30, iova(admin.completions));
    model_.write32(0x14, kEntrySizes | kCommandSetNvm | kEnable);
    return wait_ready(true);
  }
  Queue make_queue(uint16_t id, uint32_t entries) {
    Queue queue{.id = id, .entries = entries};
    queue.commands = allocate((entries * sizeof(Command) + kPage - 1) / kPage);
    queue.completions = allocate((entries * sizeof(Completion) + kPage - 1) / kPage);
    return queue;
  }
  Queue create_queue_pair(uint16_t id, uint32_t entries, uint16_t vector = 0,
                          uint32_t interrupts = 0) {
    Queue queue = make_queue(id, entries);
    auto completion = run(admin, create_cq(queue, vector, interrupts));
    EXPECT_TRUE(completion && completion->status().ok()) << text(completion);
    completion = run(admin, create_sq(queue, id));
    EXPECT_TRUE(completion && completion->status().ok()) << text(completion);
    return queue;
  }
  static Command create_cq(const Queue& queue, uint16_t vector, uint32_t flags) {
    Command command = admin_command(AdminOpcode::create_completion_queue);
    command.cdw10 = queue_word10(queue.id, queue.entries);
    command.cdw11 = uint32_t{vector} << 16 | kQueueContiguous | flags;
    command.data.prp1 = iova(queue.completions);
    return command;
  }
  static Command create_sq(const Queue& queue, uint16_t cq_id) {
    Command command = admin_command(AdminOpcode::create_submission_queue);
    command.cdw10 = queue_word10(queue.id, queue.entries);
    command.cdw11 = uint32_t{cq_id} << 16 | kQueueContiguous;
    command.data.prp1 = iova(queue.commands);
    return command;
  }

  // ---- Commands
  static Command admin_command(AdminOpcode opcode, uint32_t nsid = 0) {
    Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = nsid;
    return command;
  }
  static Command io_command(IoOpcode opcode, uint64_t first, uint32_t count, uint32_t nsid = 1) {
    Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = nsid;
    command.cdw10 = static_cast<uint32_t>(first);
    command.cdw11 = static_cast<uint32_t>(first >> 32);
    command.cdw12 = count - 1;
    return command;
  }
  // Points the command at whole pages, anywhere in the arena; lists are made as they are needed.
  void set_pages(Command& command, std::span<std::byte* const> pages) {
    command.data.prp1 = iova(pages[0]);
    if (pages.size() == 2) command.data.prp2 = iova(pages[1]);
    if (pages.size() <= 2) return;
    constexpr size_t kPerPage = kPage / sizeof(le64);
    std::byte* list = allocate(1);
    command.data.prp2 = iova(list);
    size_t slot = 0;
    for (size_t i = 1; i < pages.size(); ++i) {
      if (slot == kPerPage - 1 && i + 1 < pages.size()) {
        std::byte* next = allocate(1);
        store(list, slot, iova(next));
        list = next;
        slot = 0;
      }
      store(list, slot++, iova(pages[i]));
    }
  }
  void set_buffer(Command& command, std::byte* buffer, size_t bytes) {
    std::vector<std::byte*> pages;
    for (size_t offset = 0; offset < bytes; offset += kPage) pages.push_back(buffer + offset);
    set_pages(command, pages);
  }

  void submit(Queue& queue, const Command& command) {
    std::memcpy(queue.commands + queue.tail * sizeof(Command), &command, sizeof command);
    queue.tail = (queue.tail + 1) % queue.entries;
  }
  void write_doorbell(uint32_t offset, uint32_t value) {
    auto* doorbell =
        reinterpret_cast<volatile uint32_t*>(model_.doorbells().data() + (offset - kFirstDoorbell));
    __atomic_store_n(doorbell, value, __ATOMIC_RELEASE);
  }
  void ring(const Queue& queue) {
    write_doorbell(submission_doorbell(queue.id, stride()), queue.tail);
  }
  // The next completion, if there is one; it is consumed.
  std::optional<Completion> poll(Queue& queue) {
    std::byte* slot = queue.completions + queue.head * sizeof(Completion);
    const auto* status = reinterpret_cast<uint16_t*>(slot + offsetof(Completion, status_and_phase));
    if ((__atomic_load_n(status, __ATOMIC_ACQUIRE) & 1) != queue.phase) return std::nullopt;
    Completion completion;
    std::memcpy(static_cast<void*>(&completion), slot, sizeof completion);
    queue.head = (queue.head + 1) % queue.entries;
    if (queue.head == 0) queue.phase ^= 1;
    write_doorbell(completion_doorbell(queue.id, stride()), queue.head);
    return completion;
  }
  std::optional<Completion> run(Queue& queue, Command command) {
    command.cid = next_cid_++;
    submit(queue, command);
    ring(queue);
    for (int i = 0; i < 4; ++i) {
      model_.step();
      const auto completion = poll(queue);
      if (!completion) continue;
      EXPECT_EQ(completion->cid, command.cid);
      EXPECT_EQ(completion->sq_id, queue.id);
      EXPECT_EQ(completion->sq_head, queue.tail);
      return completion;
    }
    return std::nullopt;
  }
  // The completion's status as code_of(); ~0: none came.
  unsigned status_of(Queue& queue, const Command& command) {
    const auto completion = run(queue, command);
    return completion ? code_of(completion->status()) : ~0u;
  }

  Queue admin;

 private:
  static void store(std::byte* list, size_t slot, uint64_t value) {
    const le64 entry(value);
    std::memcpy(list + slot * sizeof entry, &entry, sizeof entry);
  }
  // Memory aligned to pages.
  class Arena {
   public:
    explicit Arena(size_t bytes) : storage_(bytes + kPage), bytes_(bytes) {}
    std::byte* data() {
      const auto address = reinterpret_cast<uintptr_t>(storage_.data());
      return storage_.data() + (kPage - address % kPage) % kPage;
    }
    size_t size() const { return bytes_; }

   private:
    std::vector<std::byte> storage_;
    size_t bytes_;
  };

  ControllerModel& model_;
  Arena arena_;
  size_t used_ = 0;
  uint16_t next_cid_ = 100;
};

}  // namespace basalt::nvme::model
