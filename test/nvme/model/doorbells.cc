// The doorbells as a ControllerModel sees them: tails and heads, their checks, and their shadows.
//
// NVMe over PCIe transport 1.0 §3.1.2; shadow doorbells: NVMe base 2.0 §5.8 and annex B.5. A value
// that cannot be is reported by an event, once, and otherwise ignored.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "base/check.h"
#include "nvme/model/controller_model.h"

namespace basalt::nvme::model {
namespace {

// In the doorbell of a queue with ShadowDoorbells::on_event: nobody has rung since.
constexpr uint32_t kNotRung = 0xffff'ffff;

uint32_t load_acquire(const std::byte* address) {
  return __atomic_load_n(reinterpret_cast<const uint32_t*>(address), __ATOMIC_ACQUIRE);
}

}  // namespace

DoorbellMemory::DoorbellMemory(size_t bytes)
    : bytes_((bytes + 4095) / 4096 * 4096),
      fd_(memfd_create("doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING)) {
  BASALT_CHECK(fd_ >= 0 && ftruncate(fd_, static_cast<off_t>(kFirstDoorbell + bytes_)) == 0,
               "a file for the doorbells");
  void* base = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, kFirstDoorbell);
  BASALT_CHECK(base != MAP_FAILED, "memory for the doorbells");
  base_ = static_cast<std::byte*>(base);
}

DoorbellMemory::~DoorbellMemory() {
  munmap(base_, bytes_);
  close(fd_);
}

// Of a new queue. On events alone its shadow is looked at when the register is first written, not before, and the
// event index stays as the last queue of this number left it.
void ControllerModel::start_submission_doorbell(uint16_t id) {
  const uint32_t offset = submission_doorbell(id, stride_);
  zero_doorbell(offset);
  if (shadow_page_ == nullptr || options_.shadow_doorbells != ShadowDoorbells::on_event) return;
  __atomic_store_n(reinterpret_cast<uint32_t*>(doorbell(offset)), kNotRung, __ATOMIC_RELAXED);
}

// Where the host's tail is; the head when there is nothing new, or nothing valid.
uint32_t ControllerModel::submission_tail(SubmissionQueue& sq) {
  const uint32_t offset = submission_doorbell(sq.id, stride_);
  uint32_t tail;
  if (shadow_page_ == nullptr || sq.id == 0) {
    tail = load_acquire(doorbell(offset));
  } else {
    if (options_.shadow_doorbells == ShadowDoorbells::on_event) {
      auto* rung = reinterpret_cast<uint32_t*>(doorbell(offset));
      if (__atomic_exchange_n(rung, kNotRung, __ATOMIC_ACQ_REL) != kNotRung) sq.shadow_rung = true;
      if (!sq.shadow_rung) return sq.head;
    }
    tail = load_acquire(shadow(shadow_page_, offset));
    if (tail == sq.head) ask_for_doorbell(sq);
  }
  if (tail < sq.entries) {
    sq.bad_doorbell = kNoDoorbell;
    return tail;
  }
  report_doorbell(sq.bad_doorbell, tail, kInvalidDoorbellValue);
  return sq.head;
}

std::byte* ControllerModel::shadow(std::byte* page, uint32_t offset) const {
  return page + (offset - kFirstDoorbell);
}

// Tells the host by EventIdx when to ring next: at the next command, or (polled) never.
void ControllerModel::ask_for_doorbell(SubmissionQueue& sq) {
  const uint32_t offset = submission_doorbell(sq.id, stride_);
  const bool polled = options_.shadow_doorbells == ShadowDoorbells::polled;
  const uint32_t index = polled ? (sq.head - 1) & 0xffff : sq.head;
  __atomic_store_n(reinterpret_cast<uint32_t*>(shadow(event_index_page_, offset)), index,
                   __ATOMIC_SEQ_CST);
  if (polled) return;
  // Pairs with the host's barrier between its store of the tail and its look at EventIdx: one of the
  // two sees the other's store, so a command that came meanwhile is either seen here or rung for.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  sq.shadow_rung = load_acquire(shadow(shadow_page_, offset)) != sq.head;
}

bool ControllerModel::refresh_head(CompletionQueue& cq) {
  const uint32_t offset = completion_doorbell(cq.id, stride_);
  const bool shadowed = shadow_page_ != nullptr && cq.id != 0;
  const uint32_t head = load_acquire(shadowed ? shadow(shadow_page_, offset) : doorbell(offset));
  if (head == cq.head) return false;
  // The head may move up to the tail and no further.
  const auto distance = [&](uint32_t to) {
    return to >= cq.head ? to - cq.head : to + cq.entries - cq.head;
  };
  if (head >= cq.entries || distance(head) > distance(cq.tail)) {
    report_doorbell(cq.bad_doorbell, head, kInvalidDoorbellValue);
    return false;
  }
  cq.bad_doorbell = kNoDoorbell;
  cq.head = head;
  return true;
}

// When there is nothing else to do: invalid completion queue heads, and doorbells of queues that do not
// exist.
void ControllerModel::scan_idle_doorbells() {
  uint32_t reported = kNoDoorbell;
  const auto check_unused = [&](uint32_t offset) {
    const uint32_t value = load_acquire(doorbell(offset));
    if (value == 0) return;
    zero_doorbell(offset);
    report_doorbell(reported, value, kInvalidDoorbellRegister);
  };
  for (uint16_t id = 0; id < sqs_.size(); ++id) {
    if (!sqs_[id].exists) check_unused(submission_doorbell(id, stride_));
    if (cqs_[id].exists) {
      refresh_head(cqs_[id]);
    } else {
      check_unused(completion_doorbell(id, stride_));
    }
  }
}

}  // namespace basalt::nvme::model
