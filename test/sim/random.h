// Random: a small seeded generator for simulations (splitmix64): the same seed gives the same run with
// every compiler, which std's distributions do not promise. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace basalt::sim {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound); 0 for a bound of 0.
  uint64_t below(uint64_t bound) {
    return bound == 0 ? 0 : static_cast<uint64_t>((__uint128_t{next()} * bound) >> 64);
  }
  // Uniform in [low, high].
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  // True `percent` times in a hundred.
  bool chance(unsigned percent) { return below(100) < percent; }
  void fill(std::span<std::byte> out) {
    for (std::byte& byte : out) byte = static_cast<std::byte>(next());
  }
  // A generator whose sequence is independent of this one's later use.
  Random fork() { return Random(next()); }

 private:
  uint64_t state_;
};

}  // namespace basalt::sim
