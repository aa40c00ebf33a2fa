// See host_accounts.h.
#include "targets/nvmf/host_accounts.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace basalt::nvmf {

std::vector<HostTotals> AccountsState::by_host() const {
  std::map<std::string, HostTotals> hosts;
  for (const auto& [host, totals] : ended) {
    if (totals != nullptr) hosts[host].totals.add(*totals);
  }
  for (const auto& queue : queues) {
    HostTotals& host = hosts[queue->account];
    if (queue->counters == nullptr) continue;
    ++host.io_queues;
    host.totals.add(*queue->counters);
  }
  std::vector<HostTotals> all;
  for (auto& [name, host] : hosts) {
    host.host = name;
    all.push_back(std::move(host));
  }
  // The others, whose name is empty, came first.
  if (!all.empty() && all.front().host.empty()) {
    std::rotate(all.begin(), all.begin() + 1, all.end());
  }
  return all;
}

std::shared_ptr<QueueRecord> HostAccounts::begin(QueueIdentity identity, bool host_is_listed) {
  auto record = std::make_shared<QueueRecord>();
  static_cast<QueueIdentity&>(*record) = std::move(identity);
  if (!record->is_admin()) record->counters = std::make_unique<IoCounters>();
  const auto unlisted = [](const auto& known) { return !known.second.listed; };
  const bool has_room = host_is_listed || accounts_.count(record->host) != 0 ||
                        static_cast<size_t>(std::count_if(accounts_.begin(), accounts_.end(),
                                                          unlisted)) < kMaxUnlisted;
  if (has_room) {
    record->account = record->host;
    Account& account = accounts_[record->host];
    account.listed = host_is_listed;
    ++account.queues;
  }
  queues_.push_back(record);
  return record;
}

void HostAccounts::put(std::shared_ptr<const IoTotals>& into, const IoTotals& more) {
  // Not changed in place: somebody may be adding up what there was.
  auto sum = std::make_shared<IoTotals>(into == nullptr ? IoTotals{} : *into);
  sum->add(more);
  into = std::move(sum);
}

void HostAccounts::end(const QueueRecord& record) {
  const auto found = std::find_if(queues_.begin(), queues_.end(),
                                  [&](const auto& known) { return known.get() == &record; });
  BASALT_CHECK(found != queues_.end(), "a queue's record ends once");
  const std::shared_ptr<const QueueRecord> kept = std::move(*found);
  queues_.erase(found);
  const bool counts = kept->counters != nullptr;
  BASALT_CHECK(!counts || kept->counters->outstanding() == 0, "a queue ends with its last command");
  IoTotals totals;
  if (counts) totals.add(*kept->counters);
  if (kept->account.empty()) {
    if (counts) put(others_, totals);
    return;
  }
  Account& account = accounts_[kept->account];
  if (counts) put(account.ended, totals);
  --account.queues;
  forget_if_unknown(kept->account);
}

void HostAccounts::set_listed(const std::string& host, bool listed) {
  const auto found = accounts_.find(host);
  if (found == accounts_.end()) return;
  found->second.listed = listed;
  forget_if_unknown(host);
}

void HostAccounts::forget_if_unknown(const std::string& host) {
  const auto found = accounts_.find(host);
  if (found->second.listed || found->second.queues > 0) return;
  if (found->second.ended != nullptr) put(others_, *found->second.ended);
  accounts_.erase(found);
}

AccountsState HostAccounts::state() const {
  AccountsState state;
  state.queues = queues_;
  for (const auto& [host, account] : accounts_) state.ended[host] = account.ended;
  state.ended[""] = others_;
  return state;
}

}  // namespace basalt::nvmf
