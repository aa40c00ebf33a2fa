// Faults: what a ControllerModel does wrong, how often, and to which commands.
//
// A fault waits for occasions of its kind that match it: commands, unless its comment says another
// occasion. The first `skip` of them pass, the next `times` are struck, then it is gone. At most one
// fault strikes at an occasion: of those armed, the earliest that has no more to skip.
//
//   model.faults().arm({.kind = FaultKind::lost_completion, .skip = 2, .queue_id = 1});
//   model.faults().arm({.kind = FaultKind::status,
//                       .status = with_retry(kNamespaceNotReady, Retry::allowed, 1)});
//
// Of a fused pair only the second command can be struck. Thread rules: any thread; a fault armed while step() runs counts from the next occasion on.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/sync.h"
#include "wire/nvme/status.h"

namespace basalt::nvme::model {

enum class FaultKind : uint8_t {
  // ---- Completions
  status,              // not carried out; completes with `status`
  status_after,        // carried out; completes with `status` all the same
  lost_command,        // neither carried out nor completed; Abort does not find it
  lost_completion,     // carried out, never completed; Abort does not find it
  delayed_completion,  // carried out, completed `delay_steps` steps later; Abort finds it
  delayed_command,  // carried out (memory is touched!) and completed so much later; Abort finds it
  duplicate_completion,  // completed twice
  wrong_cid,             // completed with `value` as cid instead of its own
  wrong_sq_id,           // completed with `value` as submission queue
  garbage_sq_head,       // completed with `value` as submission queue head
  stale_phase,           // completed in its slot with the phase of the round before
  completion_overrun,  // occasion: a command finds its completion queue full; it is completed over
                       // what the host has not read
  unsolicited_completion,  // occasion: a step; `queue_id`'s completion queue gets cid `value`, which the
                           // host must not have outstanding

  // ---- Data
  corrupt_read,   // byte `value` of what a read brings has all its bits flipped
  short_read,     // only the first `value` bytes of a read are transferred; answers ok
  dropped_write,  // a write, write zeroes or deallocation answers ok and does nothing
  torn_write,     // the first `value` blocks are written; completes with `status`

  // ---- Interrupts
  no_interrupt,        // completed, and its interrupt is not sent
  spurious_interrupt,  // occasion: a step; vector `value` is signalled without reason

  // ---- Controller state
  never_ready,    // occasion: CC.EN is set; CSTS.RDY never follows
  never_unready,  // occasion: CC.EN is cleared; CSTS.RDY stays, until a function or subsystem reset
  slow_ready,     // occasion: CC.EN changes; CSTS.RDY follows after `value` more reads of it
  fatal_on_enable,    // occasion: CC.EN is set; CSTS.CFS instead of CSTS.RDY
  fatal_status,       // CSTS.CFS when the command is fetched; nothing is processed any more
  shutdown_hangs,     // occasion: CC.SHN is set; CSTS.SHST stays at "processing"
  removal,            // the function goes when the command is fetched
  removal_by_access,  // occasion: a register access; the function goes before it
  power_cut,          // power_cut() when the command is fetched
  register_value,     // occasion: a register read at offset `selector`; answers `value`
  queue_silent,       // occasion: a queue's new commands are seen; they are left for the next step

  // ---- Admin answers
  admin_timeout,     // an admin command: neither carried out nor completed; Abort does not find it
  identify_damaged,  // occasion: Identify (CNS `selector`); `bytes` are laid over the data at `offset`
  log_page_damaged,  // occasion: Get Log Page (LID `selector`); as above
  fewer_queues,      // occasion: Set Features, queue count; at most `value` pairs are granted
  abort_ignored,     // an Abort command: answers "not aborted" and aborts nothing
  kCount,
};

struct Fault {
  static constexpr uint64_t kForEver = ~uint64_t{0};
  static constexpr uint64_t kUntilReleased = ~uint64_t{0};

  FaultKind kind = FaultKind::status;
  uint64_t skip = 0;
  uint64_t times = 1;
  // Which commands (or queues); empty: any.
  std::optional<uint16_t> queue_id{};
  std::optional<uint8_t> opcode{};
  std::optional<uint32_t> selector{};  // CNS, LID, register offset, as the kind says

  // With the retry delay and do-not-retry bits as they are to be posted.
  CompletionStatus status = kInternalError;
  uint64_t delay_steps = kUntilReleased;  // or until ControllerModel::release_held()
  uint64_t value = 0;
  uint32_t offset = 0;
  std::vector<std::byte> bytes{};
};

// `status` with the retry bits: `retry_delay` 1 … 3 is CRDT1 … 3, 0 none.
enum class Retry : uint8_t { allowed, forbidden };
constexpr CompletionStatus with_retry(CompletionStatus status, Retry retry,
                                      unsigned retry_delay = 0) {
  return CompletionStatus(static_cast<uint16_t>((status.field() & 0x27ff) |
                                                (retry_delay & 3) << 11 |
                                                (retry == Retry::forbidden ? 1u << 14 : 0u)));
}

class Faults {
 public:
  // What a fault can strike; each kind belongs to one.
  enum class Occasion : uint8_t {
    command,
    step_completion,
    step_interrupt,
    enable_change,
    enable,
    disable,
    shutdown,
    register_access,
    register_read,
    queue_look,
    queue_full,
    identify,
    log_page,
    queue_count,
  };
  struct Details {
    std::optional<uint16_t> queue_id{};
    std::optional<uint8_t> opcode{};
    std::optional<uint32_t> selector{};
  };

  void arm(Fault fault);
  void clear();
  // How many times faults of this kind have struck.
  uint64_t struck(FaultKind kind) const;

  // ---- For the model
  bool any() const { return armed_.load(std::memory_order_relaxed) != 0; }
  // The fault that strikes now, which counts.
  std::optional<Fault> strike(Occasion occasion, const Details& details);
  std::optional<Fault> strike(Occasion occasion) { return strike(occasion, Details{}); }

 private:
  mutable Mutex mutex_;  // protects faults_ and struck_
  std::vector<Fault> faults_;
  std::array<uint64_t, static_cast<size_t>(FaultKind::kCount)> struck_{};
  std::atomic<size_t> armed_{0};  // faults_.size(), a hint that spares the lock
};

}  // namespace basalt::nvme::model
