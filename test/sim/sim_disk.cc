// SimDisk: execution, completion, and what survives; see sim_disk.h.
#include "sim/sim_disk.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"

namespace basalt::sim {
namespace {

uint32_t crc_of(const Io& io) {
  uint32_t crc = 0;
  for (const iovec& part : io.data) {
    crc = crc32c({static_cast<const std::byte*>(part.iov_base), part.iov_len}, crc);
  }
  return crc;
}

void fill_random(std::span<std::byte> out, Random& random) {
  for (std::byte& byte : out) byte = static_cast<std::byte>(random.next());
}

bool overlaps(const SimFault& fault, const Io& io) {
  if (io.op == Op::flush) return true;
  return io.lba < fault.first + fault.block_count && fault.first < io.lba + io.block_count;
}

}  // namespace

SimDisk::SimDisk(const SimOptions& options) : SimDisk(options, SimImage(options.size_bytes)) {}

SimDisk::SimDisk(const SimOptions& options, SimImage image)
    : options_(options), current_(image), durable_(std::move(image)), random_(options.seed) {
  BASALT_CHECK(options_.size_bytes == durable_.size_bytes(), "the image has the disk's size");
  BASALT_CHECK(options_.size_bytes % (uint64_t{options_.block_bytes} * options_.atomic_blocks) == 0,
               "the disk's size is a multiple of its atomic unit");
}

// ---- Power

void SimDisk::cut() {
  if (std::exchange(cut_, true)) return;
  if (on_cut_) on_cut_();
}

void SimDisk::power_cut() {
  const MutexLock lock(mutex_);
  cut();
}

void SimDisk::on_cut(std::function<void()> action) {
  const MutexLock lock(mutex_);
  on_cut_ = std::move(action);
}

void SimDisk::cut_after(uint64_t commands) {
  const MutexLock lock(mutex_);
  commands_until_cut_ = commands;
  if (commands == 0) cut();
}

void SimDisk::on_command(std::function<void(FrozenDisk)> action) {
  const MutexLock lock(mutex_);
  on_command_ = std::move(action);
}

void SimDisk::ignore_flush(uint64_t number) {
  const MutexLock lock(mutex_);
  flushes_until_ignored_ = number;
}

bool SimDisk::flush_is_honest() {
  if (options_.ignore_flush) return false;
  return flushes_until_ignored_ == kNever || flushes_until_ignored_-- != 0;
}

FrozenDisk SimDisk::freeze() const {
  const MutexLock lock(mutex_);
  return freeze_locked();
}

FrozenDisk SimDisk::freeze_locked() const {
  std::vector<FrozenDisk::Unit> units;
  uint64_t number = 0;
  for (const CachedWrite& write : cache_) {
    const size_t before = units.size();
    const uint64_t blocks = write.blocks(options_.block_bytes);
    for (uint64_t i = 0; i < blocks; ++i) {
      if (write.is_superseded(i)) continue;
      const uint64_t begin = i * options_.block_bytes;
      const bool goes_on = units.size() > before &&
                           (write.first_block + i) % options_.atomic_blocks != 0 &&
                           units.back().begin + units.back().length == begin;
      if (goes_on) {
        units.back().length += options_.block_bytes;
      } else {
        units.push_back({number, (write.first_block + i) * options_.block_bytes, begin,
                         options_.block_bytes, write.bytes});
      }
    }
    if (units.size() > before) ++number;
  }
  return FrozenDisk(durable_, options_.block_bytes, std::move(units));
}

bool SimDisk::is_cut() const {
  const MutexLock lock(mutex_);
  return cut_;
}

std::shared_ptr<SimDisk> SimDisk::surviving_image(uint64_t seed) const {
  static constexpr unsigned kKeepPercent[] = {0, 10, 50, 50, 90, 100};
  static constexpr unsigned kTearPercent[] = {0, 0, 30, 80};
  const MutexLock lock(mutex_);
  BASALT_CHECK(cut_, "the power is cut before survivors are looked at");
  Random random(seed);
  SimImage image = durable_;
  if (seed != 0) {
    const unsigned keep = seed == 1 ? 100 : kKeepPercent[random.below(std::size(kKeepPercent))];
    const unsigned tear = seed == 1 ? 0 : kTearPercent[random.below(std::size(kTearPercent))];
    for (const CachedWrite& write : cache_) {
      if (random.chance(keep)) survive(image, write, tear, random);
    }
  }
  SimOptions options = options_;
  options.seed = random.next();
  return std::make_shared<SimDisk>(options, std::move(image));
}

void SimDisk::survive(SimImage& image, const CachedWrite& write, unsigned tear_percent,
                      Random& random) const {
  const uint64_t blocks = write.blocks(options_.block_bytes);
  enum class Tear { none, prefix, any } tear = Tear::none;
  if (random.chance(tear_percent)) tear = random.chance(50) ? Tear::prefix : Tear::any;
  const uint64_t prefix = random.below(blocks + 1);
  bool unit_kept = false;
  for (uint64_t i = 0; i < blocks; ++i) {
    if (i == 0 || (write.first_block + i) % options_.atomic_blocks == 0) {
      unit_kept = tear == Tear::none || (tear == Tear::prefix ? i < prefix : random.chance(50));
    }
    if (unit_kept) write_block(image, write, i);
  }
}

std::shared_ptr<SimDisk> SimDisk::image_after_process_death(uint64_t seed) const {
  const MutexLock lock(mutex_);
  BASALT_CHECK(cut_, "the disk is cut off from its users before they are dead");
  SimOptions options = options_;
  options.seed = seed;
  auto disk = std::make_shared<SimDisk>(options, durable_);
  const MutexLock other(disk->mutex_);
  disk->current_ = current_;
  disk->cache_ = cache_;
  // Nobody waits for the dead process's commands; the disk has finished them all the same.
  for (CachedWrite& write : disk->cache_) {
    if (write.completed_at == 0) write.completed_at = completions_ + 1;
  }
  disk->completions_ = completions_ + 1;
  disk->next_sequence_ = next_sequence_;
  return disk;
}

// ---- Faults

void SimDisk::inject(const SimFault& fault) {
  const MutexLock lock(mutex_);
  faults_.push_back(fault);
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
    fill_random(bytes, random);
  }
  current_.write(offset, bytes);
  durable_.write(offset, bytes);
}

StatusCode SimDisk::fault_for(const Io& io) {
  for (SimFault& fault : faults_) {
    if (fault.times == 0 || !fault.ops.has(io.op) || !overlaps(fault, io)) continue;
    --fault.times;
    ++counters_.injected_errors;
    return fault.status;
  }
  return StatusCode::ok;
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

SimDisk::Execution SimDisk::execute(const Io& io, uint64_t flush_point) {
  const MutexLock lock(mutex_);
  Execution execution;
  if (cut_) {
    execution.status = StatusCode::device_removed;
    return execution;
  }
  count(io);
  execution.status = fault_for(io);
  if (execution.status != StatusCode::ok) {
    if (io.op == Op::write) execute_partly(io);
  } else if (io.op == Op::read) {
    uint64_t offset = io.lba.value * options_.block_bytes;
    for (const iovec& part : io.data) {
      current_.read(offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
      offset += part.iov_len;
    }
  } else if (io.op == Op::flush) {
    execution.flush_point = flush_point;
    execution.honest = flush_is_honest();
  } else {
    execute_write(io, execution);
    if (io.flags.fua) execution.honest = flush_is_honest();
  }
  if (options_.log_commands) {
    commands_.push_back({io.op, io.flags.fua, io.lba, io.block_count, execution.status});
  }
  if (io.op != Op::read && commands_until_cut_ != kNever && --commands_until_cut_ == 0) cut();
  if (io.op != Op::read && on_command_) on_command_(freeze_locked());
  return execution;
}

void SimDisk::execute_write(const Io& io, Execution& execution) {
  std::vector<std::byte> bytes = new_content(io);
  if (io.op == Op::write) execution.data_crc = crc32c(bytes);
  current_.write(io.lba.value * options_.block_bytes, bytes);
  execution.write = cache(io.lba.value, std::move(bytes));
}

// What the blocks of a write, write_zeroes or discard hold afterwards.
std::vector<std::byte> SimDisk::new_content(const Io& io) {
  std::vector<std::byte> bytes(io.block_count.value * options_.block_bytes);
  if (io.op == Op::write) {
    std::byte* out = bytes.data();
    for (const iovec& part : io.data) {
      std::memcpy(out, part.iov_base, part.iov_len);
      out += part.iov_len;
    }
  } else if (io.op == Op::discard) {
    // Undefined: each block keeps its bytes, becomes zeros, or anything else.
    current_.read(io.lba.value * options_.block_bytes, bytes);
    for (uint64_t i = 0; i < io.block_count.value; ++i) {
      const std::span block(bytes.data() + i * options_.block_bytes, options_.block_bytes);
      const uint64_t choice = random_.below(3);
      if (choice == 1) std::fill(block.begin(), block.end(), std::byte{0});
      if (choice == 2) fill_random(block, random_);
    }
  }
  return bytes;
}

void SimDisk::execute_partly(const Io& io) {
  const std::vector<std::byte> bytes = new_content(io);
  for (uint64_t i = 0; i < io.block_count.value; ++i) {
    if (random_.chance(50)) continue;
    const auto block = bytes.begin() + static_cast<ptrdiff_t>(i * options_.block_bytes);
    std::vector<std::byte> part(block, block + options_.block_bytes);
    current_.write((io.lba.value + i) * options_.block_bytes, part);
    cache(io.lba.value + i, std::move(part));
    cache_.back().completed_at = ++completions_;
  }
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
  if (cut_) return StatusCode::device_removed;
  if (execution.status != StatusCode::ok) return execution.status;
  if (io.op == Op::write && crc_of(io) != execution.data_crc) ++counters_.buffers_changed;
  if (io.op == Op::flush) {
    if (execution.honest) make_durable_up_to(execution.flush_point);
    return StatusCode::ok;
  }
  if (execution.write == 0) return StatusCode::ok;
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
  return StatusCode::ok;
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
