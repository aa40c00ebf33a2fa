// What a long-running program owes the system it runs under: it ends when it is told to, and says when it is ready.
#pragma once

#include <basalt/status.h>

#include <string>
#include <string_view>

namespace basalt {

// SIGINT and SIGTERM, kept from ending the process, and SIGPIPE, which is ignored: whoever reads the log may go. Made before
// any thread is started.
class TerminationSignals {
 public:
  TerminationSignals();
  // Sleeps until one comes.
  void wait() const;
};

// Tells the service manager `state`, as "READY=1" or "STOPPING=1" (sd_notify(3)); nothing where there is none.
void notify_service_manager(std::string_view state);

// From here on the process, all its threads, is that user with his groups, for good. What is open stays open. Errors:
// not_found (no such user), permission_denied (only root may).
Status become_user(const std::string& name);

}  // namespace basalt
