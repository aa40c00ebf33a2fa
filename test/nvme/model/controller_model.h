// ControllerModel: an NVMe 2.0 controller in software, on the other side of registers, doorbells and
// memory.
//
// The host maps memory, writes registers and doorbells and reads completions, exactly as with a device;
// step() is the device's time: it looks at the doorbells, carries out all commands it finds, posts
// completions and signals interrupts. Nothing happens between steps except what register accesses
// cause. A completion's sixteen bits of status and phase (offset 14) are stored last, with release;
// doorbells are 32 bits, loaded with acquire. No host behaviour is fatal to the model itself: what the
// specification calls an error is answered as one. Namespace management, sanitize, firmware commands,
// controller memory buffers and queues that are not contiguous are not modelled; the keep-alive timer
// never expires; arbitration is round robin.
//
// The code: registers.cc (bring-up, reset), controller_model.cc (steps, completions), doorbells.cc,
// command_faults.cc, admin_commands.cc, queue_commands.cc, identify.cc, features.cc, log_pages.cc,
// events.cc, io_commands.cc.
// Thread rules: any thread. One lock protects everything but the doorbells and Faults. step() holds it
// for one round over the queues and stays out while others wait for it, so a thread that steps without
// pause starves nobody; when unmap(), remove() or a register write returns, no step uses what was there
// before.
#pragma once

#include <basalt/status.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/sync.h"
#include "nvme/model/data_transfer.h"
#include "nvme/model/dma.h"
#include "nvme/model/faults.h"
#include "nvme/model/media.h"
#include "nvme/model/model_options.h"
#include "nvme/model/queues.h"
#include "nvme/model/step_lock.h"
#include "wire/nvme/admin.h"
#include "wire/nvme/command.h"
#include "wire/nvme/identify.h"
#include "wire/nvme/log_page.h"
#include "wire/nvme/registers.h"
#include "wire/nvme/status.h"

namespace basalt::nvme::model {

struct ModelCounters {
  uint64_t steps = 0;
  uint64_t admin_commands = 0, io_commands = 0;
  uint64_t reads = 0, writes = 0, flushes = 0;
  uint64_t completions = 0;
  uint64_t failed_commands = 0;    // status not success, by fault or not
  uint64_t interrupts = 0;         // written to an eventfd
  uint64_t enables = 0;            // CC.EN from 0 to 1
  uint64_t invalid_doorbells = 0;  // reported as an event
  uint64_t unreachable = 0;        // commands and queues that named memory which is not mapped
};

// With ModelOptions::log_commands: a command as it was fetched.
struct FetchedCommand {
  uint16_t sq_id = 0;
  Command command{};
};

class ControllerModel {
 public:
  explicit ControllerModel(const ModelOptions& options = {});
  ~ControllerModel();
  ControllerModel(const ControllerModel&) = delete;
  ControllerModel& operator=(const ControllerModel&) = delete;

  const ModelOptions& options() const { return options_; }
  Faults& faults() { return faults_; }

  // ---- BAR 0. What does not exist reads as zeros and ignores writes; after remove() all reads are ones.
  uint32_t read32(uint32_t offset);
  uint64_t read64(uint32_t offset);
  void write32(uint32_t offset, uint32_t value);
  void write64(uint32_t offset, uint64_t value);
  // From kFirstDoorbell on. Stays where it is; resets and the creation of a queue set doorbells to 0.
  std::span<volatile std::byte> doorbells() {
    return {static_cast<volatile std::byte*>(doorbells_.data()), doorbells_.size()};
  }

  // The file they are in, at the same offset as in BAR 0.
  int doorbell_fd() const { return doorbells_.fd(); }

  // ---- The device's time. How many commands were fetched; 0 also when somebody else holds the lock.
  unsigned step();
  // Steps until a step finds nothing to do. For tests that run in one thread.
  unsigned run_until_idle();

  // ---- DMA: see dma.h.
  Status map(uint64_t iova, std::span<std::byte> bytes);
  Status unmap(uint64_t iova, size_t bytes);

  // ---- Interrupts
  // `event_fd` (its owner's, -1: none) is written when a completion is posted to a queue that has
  // interrupts on and uses this vector.
  void set_interrupt(uint16_t vector, int event_fd);

  // ---- Power, reset, presence
  void set_bus_master(bool on);  // on at first
  // Function level reset: as after power on, but nothing that was cached is lost.
  void function_reset();
  // Everything stops, unflushed writes are lost; the registers are as after power on.
  void power_cut();
  void remove();
  // The same controller again, as after power on, with what its cache held.
  void plug_in();
  bool removed() const;
  // An eventfd, readable once the function is gone; -1 if the system has none to give.
  int removal_fd() const { return removal_fd_; }

  // ---- Events
  // Completes an asynchronous event request, now or when there is one. False: the host has not
  // enabled the event (Set Features, asynchronous event configuration), or too many wait already.
  bool raise_event(AsyncEvent event);
  // A namespace changes under the host's feet: it is put into the changed namespaces log, with its event.
  void resize_namespace(uint32_t nsid, uint64_t block_count);
  void set_namespace_active(uint32_t nsid, bool active);

  // ---- Faults: see faults.h.
  // Everything delayed completes in the next step.
  void release_held();
  size_t held_commands() const;

  // ---- Looking at it
  bool ready() const;  // CSTS.RDY, without counting as a read of it
  bool fatal() const;
  size_t io_queue_count() const;  // submission queues
  size_t outstanding_event_requests() const;
  ModelCounters counters() const;
  std::vector<FetchedCommand> commands() const;
  void clear_commands();
  uint64_t unflushed_blocks(uint32_t nsid) const;
  // A namespace's bytes, to be looked at or changed behind the host's back; empty: null media or no
  // such namespace. Not while step() runs in another thread. Valid until the namespace is formatted
  // or resized.
  std::span<std::byte> media(uint32_t nsid);

 private:
  // ---- registers.cc
  bool touch_registers();  // an access; false: the function has gone
  uint32_t read_register(uint32_t offset);
  uint32_t read_status();
  void write_register(uint32_t offset, uint32_t value);
  void write_configuration(uint32_t value);
  void enable();
  bool can_enable() const;
  void disable();
  void shut_down();
  void reset_controller();  // a controller level reset: all but AQA, ASQ and ACQ
  void power_on();
  void power_off();
  void disappear();
  void fail() { csts_ |= kFatal; }
  bool processing() const;
  unsigned transition_polls();
  void zero_doorbell(uint32_t offset);
  void start_submission_doorbell(uint16_t id);
  std::byte* doorbell(uint32_t offset) { return doorbells_.data() + (offset - kFirstDoorbell); }

  // ---- controller_model.cc
  void look_up_queue_memory();
  unsigned serve(SubmissionQueue& sq);
  bool peek(const SubmissionQueue& sq, Command& command);
  void take(SubmissionQueue& sq, const Command& command);
  bool has_room(CompletionQueue& cq, unsigned entries);
  void handle(SubmissionQueue& sq, const Command& command);
  unsigned handle_fused(SubmissionQueue& sq, const Command& first, uint32_t tail);
  Outcome carry_out(const SubmissionQueue& sq, const Command& command);
  bool id_in_use(const SubmissionQueue& sq, uint16_t cid) const;
  void complete(SubmissionQueue& sq, const Command& command, const Outcome& outcome);
  void post(CompletionQueue& cq, const Completion& completion);
  void send_interrupts();
  void signal(uint16_t vector);

  // ---- doorbells.cc
  uint32_t submission_tail(SubmissionQueue& sq);
  bool refresh_head(CompletionQueue& cq);  // true: it moved
  void scan_idle_doorbells();
  void ask_for_doorbell(SubmissionQueue& sq);
  std::byte* shadow(std::byte* page, uint32_t offset) const;

  // ---- command_faults.cc
  void handle_faulty(SubmissionQueue& sq, const Command& command, const Fault& fault);
  void complete_wrongly(SubmissionQueue& sq, const Command& command, const Outcome& outcome,
                        const Fault& fault);
  void complete_held();
  void strike_step();
  bool abort_held(uint16_t sq_id, uint16_t cid);
  void damage(Faults::Occasion occasion, uint32_t selector, std::span<std::byte> data);

  // ---- admin_commands.cc, queue_commands.cc
  Outcome admin_command(const Command& command);
  Outcome abort(const Command& command);
  Outcome doorbell_buffer_config(const Command& command);
  Outcome format(const Command& command);
  Outcome create_completion_queue(const Command& command);
  Outcome create_submission_queue(const Command& command);
  Outcome delete_completion_queue(const Command& command);
  Outcome delete_submission_queue(const Command& command);
  CompletionStatus check_new_queue(const Command& command, bool exists, unsigned entry_shift,
                                   unsigned entry_shift_set) const;
  // The command's data, by PRPs.
  CompletionStatus send(const Command& command, std::span<const std::byte> data);

  // ---- identify.cc
  Outcome identify(const Command& command);
  void fill(IdentifyController& data) const;
  void fill(IdentifyNamespace& data, uint32_t nsid) const;
  void fill_active(std::span<std::byte> page, uint32_t after) const;
  void fill_descriptors(std::span<std::byte> page, uint32_t nsid) const;

  // ---- features.cc
  Outcome set_features(const Command& command);
  Outcome set_queue_count(uint32_t value);
  Outcome set_host_behavior(const Command& command);
  Outcome get_features(const Command& command);
  bool has_feature(uint8_t id) const;
  uint32_t feature_default(uint8_t id) const;
  uint32_t& feature(Feature id) { return features_[static_cast<size_t>(id)]; }
  bool caching() { return options_.volatile_cache && (feature(Feature::volatile_write_cache) & 1); }

  // ---- log_pages.cc
  Outcome get_log_page(const Command& command);
  size_t fill_log_page(uint8_t id, std::span<std::byte> page);
  void note_error(uint16_t sq_id, const Command& command, CompletionStatus status);

  // ---- events.cc
  Outcome async_event_request(const Command& command);
  bool wants(AsyncEvent event);
  bool queue_event(AsyncEvent event);
  void deliver_events();
  void note_changed(uint32_t nsid);
  void report_doorbell(uint32_t& bad_doorbell, uint32_t value, uint8_t information);

  // ---- io_commands.cc
  Outcome io_command(const Command& command);
  Outcome read(Media& media, const Command& command);
  Outcome write(Media& media, const Command& command);
  Outcome compare(Media& media, const Command& command);
  Outcome flush(const Command& command);
  Outcome write_zeroes(Media& media, const Command& command);
  Outcome dataset_management(Media& media, const Command& command);
  Outcome verify(Media& media, const Command& command);
  Outcome write_uncorrectable(Media& media, const Command& command);
  Outcome copy(Media& media, const Command& command);
  CompletionStatus parse_data(const Command& command, size_t bytes, Direction direction);
  CompletionStatus parse_blocks(const Media& media, const Command& command, Direction direction);
  bool fault_is(FaultKind kind) const { return fault_ != nullptr && fault_->kind == kind; }
  Media* find_namespace(uint32_t nsid);

  static constexpr uint32_t kReady = 1, kFatal = 2, kShutdownProcessing = 1 << 2,
                            kShutdownComplete = 2 << 2, kResetOccurred = 1 << 4;
  static constexpr size_t kFeatureCount = 32;
  static constexpr size_t kErrorEntries = 64;
  static constexpr size_t kMaxWaitingEvents = 32;

  enum class Transition : uint8_t { none, ready, not_ready, fatal, never };

  const ModelOptions options_;
  const uint64_t cap_;
  const uint32_t stride_;
  const int removal_fd_;
  DoorbellMemory doorbells_;
  Faults faults_;

  mutable StepLock lock_;  // protects all that follows
  DmaTable dma_;
  uint64_t queue_generation_ = 0;  // of dma_, when the queues' memory was looked up
  DataTransfer transfer_;
  std::vector<std::unique_ptr<Media>> media_;  // by nsid minus one
  const Fault* fault_ = nullptr;               // that of the command under way

  // Registers
  uint32_t cc_ = 0;
  uint32_t csts_ = 0;
  uint32_t interrupt_mask_ = 0;
  uint32_t aqa_ = 0;
  uint64_t asq_ = 0;
  uint64_t acq_ = 0;
  Transition transition_ = Transition::none;
  unsigned polls_left_ = 0;  // reads of CSTS before the transition is over
  bool shutdown_hangs_ = false;
  unsigned shutdown_polls_left_ = 0;
  bool bus_master_ = true;
  bool removed_ = false;

  // Queues, by id
  uint32_t page_bytes_ = 4096;
  std::vector<SubmissionQueue> sqs_;
  std::vector<CompletionQueue> cqs_;
  std::vector<uint16_t> active_sqs_;  // ascending
  bool signals_due_ = false;
  std::vector<int> event_fds_;  // by vector
  std::vector<HeldCommand> held_;
  uint64_t shadow_iova_ = 0;  // both 0: no shadow doorbells
  uint64_t event_index_iova_ = 0;
  std::byte* shadow_page_ = nullptr;
  std::byte* event_index_page_ = nullptr;

  // What the host has set, and what there is to tell it
  std::array<uint32_t, kFeatureCount> features_{};
  std::array<std::byte, 512> host_behavior_{};
  uint16_t granted_queues_ = 0;
  std::array<ErrorLogEntry, kErrorEntries> errors_{};  // by count
  uint64_t error_count_ = 0;
  std::vector<uint16_t> event_requests_;  // cids
  std::vector<AsyncEvent> waiting_events_;
  std::array<std::optional<uint8_t>, 8>
      masked_by_{};                           // by event type: the log page that must be read first
  std::vector<uint32_t> changed_namespaces_;  // ascending
  uint64_t power_cycles_ = 1;
  uint64_t unsafe_shutdowns_ = 0;
  uint64_t media_errors_ = 0;

  ModelCounters counters_;
  std::vector<FetchedCommand> commands_;
};

}  // namespace basalt::nvme::model
