// See sim_faults.h.
#include "sim/sim_faults.h"

#include "base/check.h"

namespace basalt::sim {
namespace {

bool overlaps(const SimFault& fault, const Io& io) {
  if (io.op == Op::flush) return true;
  return io.lba < fault.first + fault.block_count && fault.first < io.lba + io.block_count;
}

}  // namespace

void SimFaults::inject(const SimFault& fault) {
  BASALT_CHECK(fault.kind != FaultKind::dropped || !fault.ops.has(Op::read),
               "a read is not dropped: its caller sees the buffer");
  faults_.push_back(fault);
}

const SimFault* SimFaults::strike(const Io& io) {
  for (SimFault& fault : faults_) {
    if (fault.times == 0 || !fault.ops.has(io.op) || !overlaps(fault, io)) continue;
    if (fault.skip > 0) {
      --fault.skip;
      continue;
    }
    if (fault.times != SimFault::kForEver) --fault.times;
    return &fault;
  }
  return nullptr;
}

}  // namespace basalt::sim
