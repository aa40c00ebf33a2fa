// SimDisk: the power goes, the disk goes; what survives. See sim_disk.h.
#include "sim/sim_disk.h"

#include <utility>

#include "base/check.h"

namespace basalt::sim {

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
  const MutexLock lock(mutex_);
  BASALT_CHECK(cut_, "the power is cut before survivors are looked at");
  Random random(seed);
  SimImage image = choose_survivors(seed, random);
  SimOptions options = options_;
  options.seed = random.next();
  return std::make_shared<SimDisk>(options, std::move(image));
}

SimImage SimDisk::choose_survivors(uint64_t seed, Random& random) const {
  static constexpr unsigned kKeepPercent[] = {0, 10, 50, 50, 90, 100};
  static constexpr unsigned kTearPercent[] = {0, 0, 30, 80};
  SimImage image = durable_;
  if (seed == 0) return image;
  const unsigned keep = seed == 1 ? 100 : kKeepPercent[random.below(std::size(kKeepPercent))];
  const unsigned tear = seed == 1 ? 0 : kTearPercent[random.below(std::size(kTearPercent))];
  for (const CachedWrite& write : cache_) {
    if (random.chance(keep)) survive(image, write, tear, random);
  }
  return image;
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
  disk->completions_ = completions_;
  disk->next_sequence_ = next_sequence_;
  disk->finish_cached_writes();
  return disk;
}

// Nobody waits for the commands of a dead process, nor for those that failed because the disk was away; the
// disk has finished them all the same.
void SimDisk::finish_cached_writes() {
  ++completions_;
  for (CachedWrite& write : cache_) {
    if (write.completed_at == 0) write.completed_at = completions_;
  }
}

// ---- Vanishing

void SimDisk::go_away() {
  if (gone()) return;
  away_ = true;
  ++absences_;
  commands_until_vanishing_ = kNever;
  for (Watcher* watcher : watchers_) watcher->disk_vanished();
}

void SimDisk::vanish() {
  const MutexLock lock(mutex_);
  go_away();
}

void SimDisk::vanish_after(uint64_t commands) {
  const MutexLock lock(mutex_);
  commands_until_vanishing_ = commands;
  if (commands == 0) go_away();
}

void SimDisk::come_back(Cache cache, uint64_t seed) {
  const MutexLock lock(mutex_);
  if (cut_ || !away_) return;
  if (cache == Cache::kept) {
    finish_cached_writes();
  } else {
    Random random(seed);
    durable_ = choose_survivors(seed, random);
    current_ = durable_;
    cache_.clear();
  }
  away_ = false;
  for (Watcher* watcher : watchers_) watcher->disk_returned();
}

bool SimDisk::is_away() const {
  const MutexLock lock(mutex_);
  return away_;
}

bool SimDisk::is_gone() const {
  const MutexLock lock(mutex_);
  return gone();
}

void SimDisk::add_watcher(Watcher& watcher) {
  const MutexLock lock(mutex_);
  watchers_.push_back(&watcher);
}

void SimDisk::remove_watcher(Watcher& watcher) {
  const MutexLock lock(mutex_);
  std::erase(watchers_, &watcher);
}

}  // namespace basalt::sim
