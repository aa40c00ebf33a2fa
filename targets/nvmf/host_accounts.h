// HostAccounts: the queues that hosts have of a subsystem, and what each host has done since it is known.
//
// A queue counts for itself (io_counters.h). When it ends, what it did goes into its host's account, so a host's sum never
// becomes smaller while it is known: as long as it is on the subsystem's list, or has a queue. When neither is so any more the
// account goes into one for all `others`, and so do, from the beginning, hosts that are not listed beyond the first
// kMaxUnlisted: however many hosts come and go, and whatever they call themselves, there are never more accounts than
// listed hosts, kMaxUnlisted, and one.
//
// Threads: one at a time; its subsystem's lock sees to that. QueueRecord: as its members say.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "targets/nvmf/io_counters.h"

namespace basalt::nvmf {

struct QueueIdentity {
  std::string host;  // its qualified name
  uint16_t controller_id = 0, queue_id = 0;
  std::string listener, peer;  // "address:port"
  std::string reactor;
};

// One queue, from its Connect until its last command is answered.
struct QueueRecord : QueueIdentity {
  bool is_admin() const { return queue_id == 0; }
  std::string account;                   // its host, or empty: that of the others
  std::unique_ptr<IoCounters> counters;  // the queue writes them; null for an admin queue
  std::atomic<bool> admitted{false};     // authenticated, if that is asked of the host
};

struct HostTotals {
  std::string host;  // empty: the others
  size_t io_queues = 0;
  IoTotals totals;
};

// What there was at one moment, to be added up without the lock.
struct AccountsState {
  std::vector<std::shared_ptr<const QueueRecord>> queues;
  std::map<std::string, std::shared_ptr<const IoTotals>> ended;  // of queues that are no more

  // Listed hosts that had a queue, those that have one, and last the others if there were any.
  std::vector<HostTotals> by_host() const;
};

class HostAccounts {
 public:
  static constexpr size_t kMaxUnlisted = 256;

  std::shared_ptr<QueueRecord> begin(QueueIdentity identity, bool host_is_listed);
  // Nothing of it is under way any more.
  void end(const QueueRecord& record);
  void set_listed(const std::string& host, bool listed);
  AccountsState state() const;

 private:
  struct Account {
    bool listed = false;
    size_t queues = 0;
    std::shared_ptr<const IoTotals> ended;  // null: nothing
  };
  static void put(std::shared_ptr<const IoTotals>& into, const IoTotals& more);
  void forget_if_unknown(const std::string& host);

  std::map<std::string, Account> accounts_;
  std::shared_ptr<const IoTotals> others_;
  std::vector<std::shared_ptr<const QueueRecord>> queues_;
};

}  // namespace basalt::nvmf
