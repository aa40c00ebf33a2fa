// SimDisk: commands, their execution and completion; see sim_disk.h.
#include "sim/sim_disk.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"

namespace basalt::sim {

SimDisk::SimDisk(const SimOptions& options) : SimDisk(options, SimImage(options.size_bytes)) {}

SimDisk::SimDisk(const SimOptions& options, SimImage image)
    : options_(options), current_(image), durable_(std::move(image)), random_(options.seed) {
  BASALT_CHECK(options_.size_bytes == durable_.size_bytes(), "the image has the disk's size");
  BASALT_CHECK(options_.size_bytes % (uint64_t{options_.block_bytes} * options_.atomic_blocks) == 0,
               "the disk's size is a multiple of its atomic unit");
}

// ---- Looking at it

SimCounters SimDisk::counters() const {
  const MutexLock lock(mutex_);
  return counters_;
}

std::vector<SimCommand> SimDisk::commands() const {
  const MutexLock lock(mutex_);
  return commands_;
}

void SimDisk::clear_commands() {
  const MutexLock lock(mutex_);
  commands_.clear();
}

uint64_t SimDisk::unflushed_writes() const {
  const MutexLock lock(mutex_);
  return cache_.size();
}

SimImage SimDisk::image() const {
  const MutexLock lock(mutex_);
  return current_;
}

SimImage SimDisk::durable_image() const {
  const MutexLock lock(mutex_);
  return durable_;
}

// ---- Commands

uint32_t crc_of(const Io& io) {
  uint32_t crc = 0;
  for (const iovec& part : io.data) {
    crc = crc32c({static_cast<const std::byte*>(part.iov_base), part.iov_len}, crc);
  }
  return crc;
}

bool SimDisk::flush_is_honest() {
  if (options_.ignore_flush) return false;
  return flushes_until_ignored_ == kNever || flushes_until_ignored_-- != 0;
}

uint64_t SimDisk::flush_point() const {
  const MutexLock lock(mutex_);
  return completions_;
}

Random SimDisk::fork_random() {
  const MutexLock lock(mutex_);
  return random_.fork();
}

void SimDisk::count(const Io& io) {
  const uint64_t bytes = io.block_count.value * options_.block_bytes;
  if (io.op == Op::read) {
    ++counters_.reads;
    counters_.read_bytes += bytes;
    return;
  }
  ++counters_.media_commands;
  if (io.op == Op::flush) ++counters_.flushes;
  if (io.op == Op::discard) ++counters_.discards;
  if (io.op == Op::write_zeroes) ++counters_.write_zeroes;
  if (io.op == Op::write) {
    ++(io.flags.fua ? counters_.fua_writes : counters_.writes);
    counters_.written_bytes += bytes;
  }
}

SimDisk::Execution SimDisk::execute(const Io& io, uint64_t flush_point, uint64_t absences) {
  const MutexLock lock(mutex_);
  Execution execution;
  execution.number = next_number_++;
  execution.absences = absences;
  if (gone() || absences != absences_) {
    execution.status = StatusCode::device_removed;
    execution.takes_effect = false;
    trace_execution(io, execution);
    return execution;
  }
  count(io);
  if (const SimFault* fault = faults_.strike(io)) {
    ++counters_.injected_faults;
    carry_out_with(*fault, io, flush_point, execution);
  } else {
    carry_out(io, io.lba, flush_point, execution);
  }
  trace_execution(io, execution);
  if (options_.log_commands) {
    commands_.push_back({io.op, io.flags.fua, io.lba, io.block_count, execution.status});
  }
  count_down(io);
  return execution;
}

void SimDisk::carry_out(const Io& io, Lba at, uint64_t flush_point, Execution& execution) {
  uint64_t offset = at.value * options_.block_bytes;
  if (io.op == Op::read) {
    for (const iovec& part : io.data) {
      current_.read(offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
      offset += part.iov_len;
    }
  } else if (io.op == Op::flush) {
    execution.flush_point = flush_point;
    execution.honest = flush_is_honest();
  } else {
    std::vector<std::byte> bytes = new_content(io, at);
    if (io.op == Op::write) execution.data_crc = crc32c(bytes);
    current_.write(offset, bytes);
    execution.write = cache(at.value, std::move(bytes));
    if (io.flags.fua) execution.honest = flush_is_honest();
  }
}

// Towards the moment at which the disk is to go.
void SimDisk::count_down(const Io& io) {
  if (io.op == Op::read) return;
  if (commands_until_cut_ != kNever && --commands_until_cut_ == 0) cut();
  if (commands_until_vanishing_ != kNever && --commands_until_vanishing_ == 0) go_away();
  if (on_command_) on_command_(freeze_locked());
}

// What the blocks of a write, write_zeroes or discard hold afterwards.
std::vector<std::byte> SimDisk::new_content(const Io& io, Lba at) {
  std::vector<std::byte> bytes(io.block_count.value * options_.block_bytes);
  if (io.op == Op::write) {
    std::byte* out = bytes.data();
    for (const iovec& part : io.data) {
      std::memcpy(out, part.iov_base, part.iov_len);
      out += part.iov_len;
    }
  } else if (io.op == Op::discard) {
    // Undefined: each block keeps its bytes, becomes zeros, or anything else.
    current_.read(at.value * options_.block_bytes, bytes);
    for (uint64_t i = 0; i < io.block_count.value; ++i) {
      const std::span block(bytes.data() + i * options_.block_bytes, options_.block_bytes);
      const uint64_t choice = random_.below(3);
      if (choice == 1) std::fill(block.begin(), block.end(), std::byte{0});
      if (choice == 2) random_.fill(block);
    }
  }
  return bytes;
}

uint64_t SimDisk::cache(uint64_t first_block, std::vector<std::byte> bytes) {
  cache_.push_back({next_sequence_,
                    0,
                    first_block,
                    std::make_shared<const std::vector<std::byte>>(std::move(bytes)),
                    {}});
  return next_sequence_++;
}

StatusCode SimDisk::complete(const Io& io, const Execution& execution) {
  const MutexLock lock(mutex_);
  const StatusCode status = finish(io, execution);
  if (options_.trace) {
    options_.trace->add("< " + std::to_string(execution.number) + " " +
                        std::string(to_string(status)));
  }
  return status;
}

StatusCode SimDisk::finish(const Io& io, const Execution& execution) {
  if (gone() || execution.absences != absences_) return StatusCode::device_removed;
  if (!execution.takes_effect) return execution.status;
  if (io.op == Op::write && crc_of(io) != execution.data_crc) ++counters_.buffers_changed;
  if (io.op == Op::flush) {
    if (execution.honest) make_durable_up_to(execution.flush_point);
    return execution.status;
  }
  if (execution.write == 0) return execution.status;
  // A flush may not have taken it: it was not complete. So it is still cached.
  const auto write = std::find_if(cache_.begin(), cache_.end(), [&](const CachedWrite& cached) {
    return cached.sequence == execution.write;
  });
  BASALT_CHECK(write != cache_.end(), "an incomplete write is cached");
  write->completed_at = ++completions_;
  if (!options_.volatile_cache || (io.flags.fua && execution.honest)) {
    CachedWrite durable = std::move(*write);
    cache_.erase(write);
    make_durable(std::move(durable));
  }
  return execution.status;
}

void SimDisk::trace_execution(const Io& io, const Execution& execution) const {
  if (!options_.trace) return;
  std::string line = "> " + std::to_string(execution.number) + " " + std::string(to_string(io.op));
  if (io.op != Op::flush) {
    line += " " + std::to_string(io.lba.value) + "+" + std::to_string(io.block_count.value);
  }
  if (io.flags.fua) line += " fua";
  const bool was_read = io.op == Op::read && execution.status == StatusCode::ok;
  if (was_read || io.op == Op::write) {
    char crc[16];
    std::snprintf(crc, sizeof crc, " crc %08x", crc_of(io));
    line += crc;
  }
  options_.trace->add(line);
}

void SimDisk::make_durable_up_to(uint64_t flush_point) {
  const auto covered = [&](const CachedWrite& write) {
    return write.completed_at != 0 && write.completed_at <= flush_point;
  };
  const auto rest = std::stable_partition(cache_.begin(), cache_.end(), covered);
  std::vector<CachedWrite> writes(std::make_move_iterator(cache_.begin()),
                                  std::make_move_iterator(rest));
  cache_.erase(cache_.begin(), rest);
  for (CachedWrite& write : writes) make_durable(std::move(write));
}

// Puts `write`, no longer in the cache, on stable media; older cached bytes of its blocks are void.
void SimDisk::make_durable(CachedWrite&& write) {
  const uint64_t blocks = write.blocks(options_.block_bytes);
  const uint64_t end = write.first_block + blocks;
  for (uint64_t i = 0; i < blocks; ++i) write_block(durable_, write, i);
  for (CachedWrite& other : cache_) {
    const uint64_t other_blocks = other.blocks(options_.block_bytes);
    const uint64_t low = std::max(write.first_block, other.first_block);
    const uint64_t high = std::min(end, other.first_block + other_blocks);
    if (other.sequence > write.sequence || low >= high) continue;
    other.superseded.resize(other_blocks);
    for (uint64_t block = low; block < high; ++block) {
      other.superseded[block - other.first_block] = true;
    }
  }
}

void SimDisk::write_block(SimImage& image, const CachedWrite& write, uint64_t index) const {
  if (write.is_superseded(index)) return;
  image.write((write.first_block + index) * options_.block_bytes,
              {write.bytes->data() + index * options_.block_bytes, options_.block_bytes});
}

}  // namespace basalt::sim
