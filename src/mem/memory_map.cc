#include "mem/memory_map.h"

#include <algorithm>
#include <cstdio>

#include "base/check.h"

namespace basalt {
namespace {

std::string describe(const MemoryRegion& region) {
  char text[96];
  std::snprintf(text, sizeof text, "memory region %u (%p, %zu B)", region.index,
                static_cast<void*>(region.base), region.bytes);
  return text;
}

bool overlap(const MemoryRegion& a, std::span<std::byte> b) {
  return a.base < b.data() + b.size() && b.data() < a.base + a.bytes;
}

}  // namespace

MemoryUser::MemoryUser(MemoryMap& map) : map_(map) {
  MutexLock lock(map_.users_mutex_);
  map_.users_.push_back(this);
}

MemoryUser::~MemoryUser() {
  BASALT_CHECK(inside_[0] == 0 && inside_[1] == 0, "a channel closes with I/O outstanding");
  MutexLock lock(map_.users_mutex_);
  std::erase(map_.users_, this);
}

unsigned MemoryUser::enter() noexcept {
  const unsigned phase = map_.phase_.load(std::memory_order_seq_cst) & 1;
  // Only this thread writes the counter. Sequentially consistent: pairs with hide() and
  // wait_for_users(): whoever finds a region after this is seen by who hides it.
  const uint32_t inside = inside_[phase].load(std::memory_order_relaxed);
  inside_[phase].store(inside + 1, std::memory_order_seq_cst);
  return phase;
}

void MemoryUser::leave(unsigned phase) noexcept {
  const uint32_t inside = inside_[phase].load(std::memory_order_relaxed);
  inside_[phase].store(inside - 1, std::memory_order_release);
}

MemoryMap::~MemoryMap() {
  BASALT_CHECK(listeners_.empty(), "devices must be closed before their Context");
  BASALT_CHECK(users_.empty(), "channels must be closed before their Context");
}

Result<uint32_t> MemoryMap::register_region(std::span<std::byte> memory, int fd,
                                            uint64_t fd_offset) {
  if (memory.empty()) {
    return error(StatusCode::invalid_argument, "memory map: cannot register an empty region");
  }
  MutexLock lock(mutex_);
  for (const Slot& slot : slots_) {
    if (slot.used && overlap(slot.region, memory)) {
      return error(StatusCode::already_exists, "memory map: " + std::to_string(memory.size()) +
                                                   " B overlap " + describe(slot.region) +
                                                   "; unregister that one first");
    }
  }
  const auto free = std::find_if(slots_.begin(), slots_.end(), [](auto& s) { return !s.used; });
  if (free == slots_.end()) {
    return error(StatusCode::no_space, "memory map: all " + std::to_string(kMaxRegions) +
                                           " regions are in use; register fewer, larger ones");
  }
  const auto index = static_cast<uint32_t>(free - slots_.begin());
  *free = {{memory.data(), memory.size(), fd, fd_offset, index}, true};
  for (MemoryListener* listener : listeners_) listener->region_added(free->region);
  publish(index);
  return index;
}

Status MemoryMap::unregister_region(uint32_t index, Duration timeout) {
  MutexLock one_at_a_time(unregister_mutex_);
  {
    MutexLock lock(mutex_);
    if (index >= kMaxRegions || !slots_[index].used) {
      return Status(StatusCode::not_found,
                    "memory map: no region " + std::to_string(index) + " is registered");
    }
    hide(index);
  }
  const bool idle = wait_for_users(clock_.now() + timeout);
  MutexLock lock(mutex_);
  if (!idle) {
    publish(index);
    return Status(StatusCode::timed_out, "memory map: " + describe(slots_[index].region) +
                                             " is still used by I/O after " +
                                             std::to_string(timeout.count() / 1'000'000) +
                                             " ms; the threads that own the I/O must poll");
  }
  for (MemoryListener* listener : listeners_) listener->region_removed(slots_[index].region);
  slots_[index] = {};
  return {};
}

void MemoryMap::publish(uint32_t index) noexcept {
  const MemoryRegion& region = slots_[index].region;
  const auto begin = reinterpret_cast<uintptr_t>(region.base);
  entries_[index].begin.store(begin, std::memory_order_relaxed);
  // find() reads `end` first: seeing it (never 0 here) implies seeing `begin`.
  entries_[index].end.store(begin + region.bytes, std::memory_order_release);
  if (high_water_.load(std::memory_order_relaxed) <= index) {
    high_water_.store(index + 1, std::memory_order_release);
  }
}

void MemoryMap::hide(uint32_t index) noexcept {
  entries_[index].end.store(0, std::memory_order_seq_cst);
}

// Two grace periods: a user that read the old phase just before it changed is caught by the second.
bool MemoryMap::wait_for_users(Duration deadline) {
  for (int round = 0; round < 2; ++round) {
    const uint32_t old_phase = phase_.fetch_add(1, std::memory_order_seq_cst) & 1;
    for (;;) {
      {
        MutexLock lock(users_mutex_);
        const auto inside = [&](const MemoryUser* user) {
          return user->inside_[old_phase].load(std::memory_order_seq_cst) != 0;
        };
        if (std::none_of(users_.begin(), users_.end(), inside)) break;
      }
      if (clock_.now() >= deadline) return false;
      sleep_for(std::chrono::microseconds(50));
    }
  }
  return true;
}

void MemoryMap::add_listener(MemoryListener& listener) {
  MutexLock lock(mutex_);
  listeners_.push_back(&listener);
  for (const Slot& slot : slots_) {
    if (slot.used) listener.region_added(slot.region);
  }
}

void MemoryMap::remove_listener(MemoryListener& listener) {
  MutexLock lock(mutex_);
  if (std::erase(listeners_, &listener) == 0) return;
  for (const Slot& slot : slots_) {
    if (slot.used) listener.region_removed(slot.region);
  }
}

uint32_t MemoryMap::find(const void* address, size_t bytes) const noexcept {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const uint32_t used = high_water_.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < used; ++i) {
    const uintptr_t end = entries_[i].end.load(std::memory_order_seq_cst);
    if (at >= end || bytes > end - at) continue;
    if (entries_[i].begin.load(std::memory_order_relaxed) <= at) return i;
  }
  return kNotFound;
}

std::vector<MemoryRegion> MemoryMap::regions() const {
  MutexLock lock(mutex_);
  std::vector<MemoryRegion> result;
  for (const Slot& slot : slots_) {
    if (slot.used) result.push_back(slot.region);
  }
  return result;
}

}  // namespace basalt
