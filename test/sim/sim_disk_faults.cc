// SimDisk: commands that a fault strikes, and damage at rest. See sim_faults.h.
#include "sim/sim_disk.h"

#include <algorithm>

namespace basalt::sim {

void SimDisk::inject(const SimFault& fault) {
  const MutexLock lock(mutex_);
  faults_.inject(fault);
}

void SimDisk::clear_faults() {
  const MutexLock lock(mutex_);
  faults_.clear();
}

void SimDisk::corrupt(uint64_t offset, uint64_t length, Damage damage, uint64_t seed) {
  const MutexLock lock(mutex_);
  Random random(seed);
  std::vector<std::byte> bytes(length);
  current_.read(offset, bytes);
  if (damage == Damage::flip_bit) {
    bytes[random.below(length)] ^= static_cast<std::byte>(1u << random.below(8));
  } else if (damage == Damage::zeros) {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
  } else {
    random.fill(bytes);
  }
  current_.write(offset, bytes);
  durable_.write(offset, bytes);
}

void SimDisk::carry_out_with(const SimFault& fault, const Io& io, uint64_t flush_point,
                             Execution& execution) {
  const uint64_t last_fit = block_count() - std::min(block_count(), io.block_count.value);
  switch (fault.kind) {
    case FaultKind::error:
      execution.status = fault.status;
      execution.takes_effect = false;
      if (io.op == Op::write) carry_out_partly(io);
      return;
    case FaultKind::timeout:
      execution.status = StatusCode::timed_out;
      execution.late_polls = fault.late_polls;
      time_out(io, flush_point, execution);
      return;
    case FaultKind::dropped:
      if (io.op == Op::write) execution.data_crc = crc_of(io);
      execution.honest = false;
      return;
    case FaultKind::misdirected:
      carry_out(io, std::min(fault.elsewhere, Lba{last_fit}), flush_point, execution);
      return;
  }
}

void SimDisk::time_out(const Io& io, uint64_t flush_point, Execution& execution) {
  enum class Effect : uint8_t { none, partly, wholly };
  const auto effect = static_cast<Effect>(random_.below(3));
  execution.takes_effect = effect == Effect::wholly && io.op != Op::read;
  if (io.op == Op::read) {
    for (const iovec& part : io.data) {
      random_.fill({static_cast<std::byte*>(part.iov_base), part.iov_len});
    }
  } else if (effect == Effect::wholly) {
    carry_out(io, io.lba, flush_point, execution);
  } else if (effect == Effect::partly && io.op == Op::write) {
    carry_out_partly(io);
  }
}

// Any of the blocks; a failed command never completes, so they are complete at once.
void SimDisk::carry_out_partly(const Io& io) {
  const std::vector<std::byte> bytes = new_content(io, io.lba);
  for (uint64_t i = 0; i < io.block_count.value; ++i) {
    if (random_.chance(50)) continue;
    const auto block = bytes.begin() + static_cast<ptrdiff_t>(i * options_.block_bytes);
    std::vector<std::byte> part(block, block + options_.block_bytes);
    current_.write((io.lba.value + i) * options_.block_bytes, part);
    cache(io.lba.value + i, std::move(part));
    cache_.back().completed_at = ++completions_;
  }
}

}  // namespace basalt::sim
