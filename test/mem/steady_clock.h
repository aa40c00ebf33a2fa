// SteadyClock: the machine's, for tests without a Context.
#pragma once

#include <basalt/context.h>

#include <chrono>

namespace basalt {

class SteadyClock final : public Clock {
 public:
  Duration now() override { return std::chrono::steady_clock::now().time_since_epoch(); }
  Duration wall_now() override { return now(); }
};

}  // namespace basalt
