// IoGate: lets whoever takes extents away wait for the I/O that may still use them.
//
// I/O calls enter() before it looks extents up and leave() when it is done, on any thread. After the
// extents were changed, drain() returns once every I/O that may have seen the old ones has left; I/O
// that enters meanwhile sees the new ones and is not waited for longer than one round. Two counters
// taken in turn, two rounds per drain (as in sleepable RCU): an enter() that read the phase just before a
// round began is caught by the second.
#pragma once

#include "base/sync.h"

#include <atomic>
#include <cstdint>

namespace basalt::blob {

class IoGate {
 public:
  using Token = uint8_t;

  Token enter() {
    const Token phase = phase_.load() & 1;
    inside_[phase].fetch_add(1);
    return phase;
  }
  void leave(Token phase) { inside_[phase].fetch_sub(1); }

  // One at a time; the caller holds no lock that I/O needs.
  void drain() {
    const MutexLock lock(mutex_);
    for (int round = 0; round < 2; ++round) {
      const Token old = phase_.fetch_add(1) & 1;
      while (inside_[old].load() != 0) sleep_for(std::chrono::microseconds(20));
    }
  }

 private:
  std::atomic<uint8_t> phase_{0};
  std::atomic<uint32_t> inside_[2]{};
  Mutex mutex_;
};

}  // namespace basalt::blob
