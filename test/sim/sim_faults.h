// SimFaults: what a simulated disk does wrong, and to which commands.
//
// A fault strikes the commands of its `ops` that touch its blocks (every flush counts as touching them): the
// first `skip` of them pass, the next `times` are struck. Its kind says what happens to those:
// - error: fails with `status`; a write leaves any of its blocks behind.
// - timeout: completes with timed_out, `late_polls` polls later than it would have. Its effect has happened,
//   has happened in part, or has not, as the disk's seed decides; a read leaves rubbish in its buffer.
// - dropped: answers ok and does nothing, now or at any flush. Not for reads.
// - misdirected: answers ok; a write lands at `elsewhere` and leaves its own blocks as they were, a read
//   brings the bytes that lie there.
// Not synchronised: the disk's.
#pragma once

#include <basalt/device.h>

#include <cstdint>
#include <vector>

namespace basalt::sim {

enum class FaultKind : uint8_t { error, timeout, dropped, misdirected };

struct SimFault {
  static constexpr uint64_t kForEver = ~uint64_t{0};

  OpSet ops;
  Lba first;
  BlockCount block_count;
  StatusCode status = StatusCode::io_error;  // of an error
  uint64_t times = kForEver;
  FaultKind kind = FaultKind::error;
  uint64_t skip = 0;
  unsigned late_polls = 0;
  Lba elsewhere{};  // moved down as far as the command needs to fit on the disk
};

class SimFaults {
 public:
  void inject(const SimFault& fault);
  void clear() { faults_.clear(); }
  // The fault that strikes `io`, which counts; null: none does. Valid until the next inject() or clear().
  const SimFault* strike(const Io& io);

 private:
  std::vector<SimFault> faults_;
};

}  // namespace basalt::sim
