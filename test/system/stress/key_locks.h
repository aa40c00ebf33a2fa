// Locks of the key space: a writer holds those of all its keys while it announces, writes and
// acknowledges; whoever takes a snapshot holds those of the keys it will compare. Each lock covers 32
// neighbours. A KeyLock takes them in one order, so that nobody waits in a circle.
#pragma once

#include <algorithm>
#include <cstdint>
#include <shared_mutex>
#include <span>
#include <vector>

#include "system/stress/values.h"

namespace basalt::stress {

class KeyLocks {
 public:
  KeyLocks(uint32_t family_count, uint32_t key_count)
      : stripes_per_family_(key_count / kKeysPerStripe + 1),
        stripes_(size_t{family_count} * stripes_per_family_) {}

 private:
  friend class KeyLock;
  static constexpr uint32_t kKeysPerStripe = 32;

  size_t stripe_of(Key key) const {
    return size_t{key.family} * stripes_per_family_ + key.index / kKeysPerStripe;
  }

  const uint32_t stripes_per_family_;
  std::vector<std::shared_mutex> stripes_;
};

class KeyLock {
 public:
  enum class Kind : uint8_t { shared, exclusive };

  KeyLock(KeyLocks& locks, std::span<const Key> keys, Kind kind) : locks_(locks), kind_(kind) {
    for (const Key key : keys) stripes_.push_back(locks.stripe_of(key));
    std::sort(stripes_.begin(), stripes_.end());
    stripes_.erase(std::unique(stripes_.begin(), stripes_.end()), stripes_.end());
    for (const size_t stripe : stripes_) {
      kind == Kind::shared ? locks_.stripes_[stripe].lock_shared() : locks_.stripes_[stripe].lock();
    }
  }
  ~KeyLock() {
    for (const size_t stripe : stripes_) {
      kind_ == Kind::shared ? locks_.stripes_[stripe].unlock_shared()
                            : locks_.stripes_[stripe].unlock();
    }
  }
  KeyLock(const KeyLock&) = delete;
  KeyLock& operator=(const KeyLock&) = delete;

 private:
  KeyLocks& locks_;
  const Kind kind_;
  std::vector<size_t> stripes_;
};

}  // namespace basalt::stress
