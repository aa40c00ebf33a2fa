// What a long-running program owes the system it runs under: it ends when it is told to, and says when it is ready.
#pragma once

#include <string_view>

namespace basalt {

// SIGINT and SIGTERM, kept from ending the process. Made before any thread is started.
class TerminationSignals {
 public:
  TerminationSignals();
  // Sleeps until one comes.
  void wait() const;
};

// Tells the service manager `state`, as "READY=1" or "STOPPING=1" (sd_notify(3)); nothing where there is none.
void notify_service_manager(std::string_view state);

}  // namespace basalt
