// What a controller is opened with: its surroundings, and its user's wishes.
#pragma once

#include <basalt/context.h>

#include <cstdint>

namespace basalt::nvme {

// What a controller takes from its surroundings; a Context has all of it. They outlive the controller.
struct HostServices {
  MemoryMap& memory;
  Clock& clock;
  LogSink& log;
};

struct ControllerOptions {
  uint16_t queue_depth = 256;  // commands outstanding per queue pair, at most; 1 … 1023
  uint16_t queue_pairs = 64;   // that can be open at once, if the controller has as many
  bool interrupts = true;      // wait() sleeps; false: it polls
  Duration admin_timeout = std::chrono::seconds(10);
  Duration command_timeout = std::chrono::seconds(30);
  Duration abort_grace = std::chrono::seconds(5);
  Duration shutdown_timeout = std::chrono::seconds(10);
  unsigned reset_attempts = 3;   // in a row
  bool shadow_doorbells = true;  // where the controller offers them
  // Over a network: how long to go on trying to reach a controller again before it is given up.
  Duration reconnect_timeout = std::chrono::seconds(60);
};

}  // namespace basalt::nvme
