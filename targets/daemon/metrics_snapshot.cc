// See metrics_snapshot.h.
#include "targets/daemon/metrics_snapshot.h"

#include <map>
#include <utility>

namespace basalt {

namespace {

using Names = std::map<const Device*, std::string>;

std::string name_among(const Names& names, const Device* device) {
  const auto found = names.find(device);
  return found == names.end() ? "" : found->second;
}

void add_namespaces(const nvmf::Subsystem& subsystem, const Names& names,
                    std::vector<MetricsSnapshot::Namespace>& all) {
  // Only the counters are kept meanwhile: a namespace holds its device.
  std::vector<std::shared_ptr<nvmf::ReactorCounters>> counters;
  const size_t first = all.size();
  {
    const auto table = subsystem.namespaces();
    for (const auto& space : *table) {
      if (space == nullptr) continue;
      all.push_back({subsystem.nqn(), space->nsid, name_among(names, space->device.get()), {}});
      counters.push_back(space->counters);
    }
  }
  for (size_t i = 0; i < counters.size(); ++i) all[first + i].totals = counters[i]->total();
}

}  // namespace

MetricsSnapshot take_snapshot(const BdevTable& bdevs, nvmf::Target& target,
                              const std::vector<std::unique_ptr<Reactor>>& reactors) {
  MetricsSnapshot all;
  all.taken = target.context().clock().now();
  all.connections = target.connection_count();
  // A device is its address here, and is not looked into: it may be deleted at any time.
  const auto device_names = bdevs.device_names();
  const Names names(device_names.begin(), device_names.end());
  const auto totals = target.all_totals();
  for (const auto& [device, name] : device_names) {
    const auto found = totals.find(device);
    all.bdevs.push_back({name, found == totals.end() ? nvmf::DeviceTotals{} : found->second});
  }
  for (const auto& subsystem : target.subsystems()) {
    if (subsystem->is_discovery()) continue;
    add_namespaces(*subsystem, names, all.namespaces);
    const nvmf::AccountsState accounts = subsystem->accounts();
    for (nvmf::HostTotals& host : accounts.by_host()) {
      all.hosts.push_back({subsystem->nqn(), std::move(host)});
    }
    for (const auto& record : accounts.queues) {
      if (record->is_admin()) continue;
      MetricsSnapshot::Queue& queue = all.io_queues.emplace_back();
      queue.subsystem = subsystem->nqn();
      queue.record = record;
      queue.totals.add(*record->counters);
    }
  }
  const std::vector<nvmf::GroupState> groups = target.groups();
  for (size_t i = 0; i < reactors.size(); ++i) {
    all.reactors.push_back({reactors[i]->name(), reactors[i]->stats(), groups[i]});
  }
  return all;
}

}  // namespace basalt
