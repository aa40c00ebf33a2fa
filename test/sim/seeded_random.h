// SeededRandom: a Context's randomness (UUIDs, open ids) from a seed.
//
// Thread rules: any thread.
#pragma once

#include <basalt/context.h>

#include "base/sync.h"
#include "sim/random.h"

namespace basalt::sim {

class SeededRandom final : public RandomSource {
 public:
  explicit SeededRandom(uint64_t seed) : random_(seed) {}
  void fill(std::span<std::byte> out) override {
    const MutexLock lock(mutex_);
    random_.fill(out);
  }

 private:
  Mutex mutex_;  // protects random_
  Random random_;
};

}  // namespace basalt::sim
