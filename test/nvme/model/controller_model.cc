// The device's time: one step looks at the doorbells, carries out commands and posts completions. See
// controller_model.h.
#include "nvme/model/controller_model.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/check.h"

namespace basalt::nvme::model {
namespace {

constexpr CompletionStatus kFusedFailed{0, 0x09}, kFusedMissing{0, 0x0a};

uint64_t capabilities(const ModelOptions& options) {
  return uint64_t{options.max_queue_entries - 1} | uint64_t{1} << 16 |
         uint64_t{options.ready_timeout_halves} << 24 |
         uint64_t{options.doorbell_stride_shift} << 32 |
         (options.subsystem_reset ? uint64_t{1} << 36 : 0) | uint64_t{1} << 37 |
         (options.more_command_sets ? uint64_t{1} << 43 : 0) |
         uint64_t{options.min_page_shift} << 48 | uint64_t{options.max_page_shift} << 52;
}

// Errors that come again whenever the command does.
CompletionStatus with_do_not_retry(CompletionStatus status) {
  const bool lasting =
      status.type() == static_cast<uint8_t>(StatusType::command_specific) ||
      (status.type() == static_cast<uint8_t>(StatusType::generic) && status != kDataTransferError &&
       (status.code() < 0x05 || status.code() > 0x0a));
  return lasting ? with_retry(status, Retry::forbidden) : status;
}

}  // namespace

ControllerModel::ControllerModel(const ModelOptions& options)
    : options_(options),
      cap_(capabilities(options)),
      stride_(4u << options.doorbell_stride_shift),
      removal_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      doorbells_(size_t{2} * (options.queue_pairs + 1u) * stride_),
      sqs_(options.queue_pairs + 1u),
      cqs_(options.queue_pairs + 1u),
      event_fds_(options.interrupt_vectors, -1) {
  BASALT_CHECK(options.max_queue_entries >= 2 && options.max_queue_entries <= 65536,
               "queues have 2 to 65536 entries");
  BASALT_CHECK(options.queue_pairs >= 1, "there is at least one I/O queue pair");
  for (const NamespaceOptions& ns : options.namespaces) {
    media_.push_back(std::make_unique<Media>(ns));
  }
  power_on();
}

ControllerModel::~ControllerModel() {
  if (removal_fd_ >= 0) ::close(removal_fd_);
}

unsigned ControllerModel::step() {
  if (!lock_.lock_unless_wanted()) return 0;
  const std::lock_guard guard(lock_, std::adopt_lock);
  ++counters_.steps;
  if (!processing()) return 0;
  if (queue_generation_ != dma_.generation()) look_up_queue_memory();
  if (faults_.any()) strike_step();
  if (!held_.empty()) complete_held();
  if (!waiting_events_.empty()) deliver_events();

  unsigned handled = 0;
  // By index: the admin queue, which comes first, creates and deletes the others.
  for (size_t i = 0; i < active_sqs_.size() && processing(); ++i) {
    handled += serve(sqs_[active_sqs_[i]]);
  }
  if (handled == 0 && processing()) scan_idle_doorbells();
  if (signals_due_) send_interrupts();
  return handled;
}

unsigned ControllerModel::run_until_idle() {
  unsigned total = 0;
  while (const unsigned handled = step()) total += handled;
  return total;
}

// ---- Queues

void ControllerModel::look_up_queue_memory() {
  for (SubmissionQueue& sq : sqs_) {
    if (sq.exists) sq.memory = dma_.find_all(sq.iova, sq.entries * sizeof(Command));
  }
  for (CompletionQueue& cq : cqs_) {
    if (cq.exists) cq.memory = dma_.find_all(cq.iova, cq.entries * sizeof(Completion));
  }
  if (shadow_iova_ != 0) {
    shadow_page_ = dma_.find_all(shadow_iova_, page_bytes_);
    event_index_page_ = dma_.find_all(event_index_iova_, page_bytes_);
    if (shadow_page_ == nullptr || event_index_page_ == nullptr) {
      shadow_page_ = event_index_page_ = nullptr;
      ++counters_.unreachable;
      fail();
    }
  }
  queue_generation_ = dma_.generation();
}

unsigned ControllerModel::serve(SubmissionQueue& sq) {
  const uint32_t tail = submission_tail(sq);
  if (tail == sq.head) return 0;
  CompletionQueue& cq = cqs_[sq.cq_id];
  if (faults_.any() && faults_.strike(Faults::Occasion::queue_look, {.queue_id = sq.id})) return 0;

  unsigned handled = 0;
  Command command;
  while (sq.head != tail && peek(sq, command)) {
    const bool fused = (command.flags & kFusedMask) != 0 && sq.id != 0;
    if (!has_room(cq, fused ? 2 : 1)) {
      if (!faults_.any() || !faults_.strike(Faults::Occasion::queue_full, {.queue_id = sq.id})) {
        break;
      }
    }
    take(sq, command);
    ++handled;
    if (fused) {
      handled += handle_fused(sq, command, tail);
    } else {
      handle(sq, command);
    }
    if (!processing()) return handled;
  }
  if (shadow_page_ != nullptr && sq.id != 0) ask_for_doorbell(sq);
  return handled;
}

// The oldest command that has not been taken; false: the ring cannot be reached, which is fatal.
bool ControllerModel::peek(const SubmissionQueue& sq, Command& command) {
  if (sq.memory == nullptr) {
    ++counters_.unreachable;
    fail();
    return false;
  }
  std::memcpy(static_cast<void*>(&command), sq.memory + sq.head * sizeof(Command), sizeof(Command));
  return true;
}

void ControllerModel::take(SubmissionQueue& sq, const Command& command) {
  sq.head = sq.head + 1 == sq.entries ? 0 : sq.head + 1;
  ++(sq.id == 0 ? counters_.admin_commands : counters_.io_commands);
  if (options_.log_commands) commands_.push_back({sq.id, command});
}

bool ControllerModel::has_room(CompletionQueue& cq, unsigned entries) {
  const auto enough = [&] {
    const uint32_t used = cq.tail >= cq.head ? cq.tail - cq.head : cq.tail + cq.entries - cq.head;
    return cq.entries - 1 - used >= entries;
  };
  return enough() || (refresh_head(cq) && enough());
}

// ---- Commands

void ControllerModel::handle(SubmissionQueue& sq, const Command& command) {
  if (faults_.any()) {
    const auto fault =
        faults_.strike(Faults::Occasion::command, {.queue_id = sq.id, .opcode = command.opcode});
    if (fault) return handle_faulty(sq, command, *fault);
  }
  const Outcome outcome = carry_out(sq, command);
  if (outcome.completes) complete(sq, command, outcome);
}

// A fused pair takes both commands or neither (NVMe base 2.0 §3.4.2); answers how many came after the
// first.
unsigned ControllerModel::handle_fused(SubmissionQueue& sq, const Command& first, uint32_t tail) {
  Command second;
  const bool pair = (first.flags & kFusedMask) == kFusedFirst && sq.head != tail &&
                    peek(sq, second) && (second.flags & kFusedMask) == kFusedSecond;
  if (!pair) {
    complete(sq, first, {.status = kFusedMissing});
    return 0;
  }
  take(sq, second);
  const bool compare_and_write = first.opcode == static_cast<uint8_t>(IoOpcode::compare) &&
                                 second.opcode == static_cast<uint8_t>(IoOpcode::write) &&
                                 options_.fused_compare_and_write;
  const bool same_blocks = first.nsid == second.nsid && first.cdw10 == second.cdw10 &&
                           first.cdw11 == second.cdw11 &&
                           (first.cdw12 & 0xffff) == (second.cdw12 & 0xffff);
  if (!compare_and_write || !same_blocks) {
    complete(sq, first, {.status = kInvalidField});
    complete(sq, second, {.status = kInvalidField});
    return 1;
  }
  const Outcome compared = carry_out(sq, first);
  complete(sq, first, compared);
  if (compared.status.ok()) {
    handle(sq, second);
  } else {
    complete(sq, second, {.status = kFusedFailed});
  }
  return 1;
}

Outcome ControllerModel::carry_out(const SubmissionQueue& sq, const Command& command) {
  const bool ids_kept = !held_.empty() || (sq.id == 0 && !event_requests_.empty());
  if (ids_kept && id_in_use(sq, command.cid)) return {.status = kIdConflict};
  Outcome outcome = sq.id == 0 ? admin_command(command) : io_command(command);
  if (outcome.status.ok()) return outcome;
  if (outcome.status == kDataTransferError) ++counters_.unreachable;
  outcome.status = with_do_not_retry(outcome.status);
  return outcome;
}

bool ControllerModel::id_in_use(const SubmissionQueue& sq, uint16_t cid) const {
  if (sq.id == 0 &&
      std::find(event_requests_.begin(), event_requests_.end(), cid) != event_requests_.end()) {
    return true;
  }
  return std::any_of(held_.begin(), held_.end(), [&](const HeldCommand& held) {
    return held.sq_id == sq.id && held.command.cid == cid;
  });
}

// ---- Completions

void ControllerModel::complete(SubmissionQueue& sq, const Command& command,
                               const Outcome& outcome) {
  if (!outcome.status.ok()) {
    ++counters_.failed_commands;
    note_error(sq.id, command, outcome.status);
  }
  CompletionQueue& cq = cqs_[sq.cq_id];
  Completion completion;
  completion.result = static_cast<uint32_t>(outcome.result);
  completion.result_high = static_cast<uint32_t>(outcome.result >> 32);
  completion.sq_head = static_cast<uint16_t>(sq.head);
  completion.sq_id = sq.id;
  completion.cid = command.cid;
  completion.status_and_phase = static_cast<uint16_t>(outcome.status.field() << 1 | cq.phase);
  post(cq, completion);
}

void ControllerModel::post(CompletionQueue& cq, const Completion& completion) {
  if (cq.memory == nullptr) {
    ++counters_.unreachable;
    return fail();
  }
  constexpr size_t kStatusOffset = offsetof(Completion, status_and_phase);
  std::byte* slot = cq.memory + cq.tail * sizeof(Completion);
  std::memcpy(slot, &completion, kStatusOffset);
  uint16_t status;
  std::memcpy(&status, &completion.status_and_phase, sizeof status);
  __atomic_store_n(reinterpret_cast<uint16_t*>(slot + kStatusOffset), status, __ATOMIC_RELEASE);
  cq.tail = cq.next(cq.tail);
  if (cq.tail == 0) cq.phase ^= 1;
  ++counters_.completions;
  if (cq.interrupts) cq.signal = signals_due_ = true;
}

void ControllerModel::send_interrupts() {
  signals_due_ = false;
  for (CompletionQueue& cq : cqs_) {
    if (!cq.signal) continue;
    cq.signal = false;
    signal(cq.vector);
  }
}

void ControllerModel::signal(uint16_t vector) {
  if (vector >= event_fds_.size() || event_fds_[vector] < 0 || !bus_master_) return;
  ::eventfd_write(event_fds_[vector], 1);
  ++counters_.interrupts;
}

// ---- The rest of the interface

Status ControllerModel::map(uint64_t iova, std::span<std::byte> bytes) {
  const std::lock_guard guard(lock_);
  return dma_.map(iova, bytes);
}

Status ControllerModel::unmap(uint64_t iova, size_t bytes) {
  const std::lock_guard guard(lock_);
  return dma_.unmap(iova, bytes);
}

void ControllerModel::set_interrupt(uint16_t vector, int event_fd) {
  const std::lock_guard guard(lock_);
  BASALT_CHECK(vector < event_fds_.size(), "the controller has no such vector");
  event_fds_[vector] = event_fd;
}

size_t ControllerModel::io_queue_count() const {
  const std::lock_guard guard(lock_);
  return active_sqs_.empty() ? 0 : active_sqs_.size() - 1;
}

ModelCounters ControllerModel::counters() const {
  const std::lock_guard guard(lock_);
  return counters_;
}

std::vector<FetchedCommand> ControllerModel::commands() const {
  const std::lock_guard guard(lock_);
  return commands_;
}

void ControllerModel::clear_commands() {
  const std::lock_guard guard(lock_);
  commands_.clear();
}

uint64_t ControllerModel::unflushed_blocks(uint32_t nsid) const {
  const std::lock_guard guard(lock_);
  return nsid - 1 < media_.size() ? media_[nsid - 1]->unflushed_blocks() : 0;
}

std::span<std::byte> ControllerModel::media(uint32_t nsid) {
  const std::lock_guard guard(lock_);
  if (nsid - 1 >= media_.size()) return {};
  Media& media = *media_[nsid - 1];
  return media.bytes(0, media.block_count());
}

}  // namespace basalt::nvme::model
