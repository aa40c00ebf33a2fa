// What the daemon has done: basalt_get_metrics, which SPDK does not have. The numbers are those of the Prometheus endpoint
// (metrics.h), with latencies in the target's own, finer buckets.
#include "base/try.h"
#include "bdev/latency.h"
#include "targets/daemon/daemon.h"

namespace basalt {

using rpc::Json;
using rpc::Params;

namespace {

// [[nanoseconds below which, how many], …], without empty buckets.
Json describe_latency(const LatencyHistogram& histogram) {
  Json list = Json::array();
  for (unsigned i = 0; i < LatencyHistogram::kBuckets; ++i) {
    if (histogram.buckets[i] == 0) continue;
    list.push_back(Json::array({latency_bucket_end(i), histogram.buckets[i]}));
  }
  return list;
}

Json describe_totals(const nvmf::IoTotals& totals) {
  Json json = {{"queue_depth", totals.outstanding}};
  for (const auto kind : {nvmf::IoKind::read, nvmf::IoKind::write, nvmf::IoKind::other}) {
    const nvmf::IoTotals::Kind& of = totals.of(kind);
    json[nvmf::to_string(kind)] = {{"operations", of.operations()},
                                   {"bytes", of.bytes},
                                   {"errors", of.errors},
                                   {"latency_ticks", of.nanoseconds},
                                   {"latency", describe_latency(of.latency)}};
  }
  return json;
}

Json describe_totals(const nvmf::DeviceTotals& totals) {
  const auto kind = [](uint64_t operations, uint64_t bytes, const LatencyHistogram& latency) {
    return Json{{"operations", operations},
                {"bytes", bytes},
                {"latency_ticks", nvmf::estimated_sum(latency)},
                {"latency", describe_latency(latency)}};
  };
  return {{"queue_depth", totals.outstanding},
          {"errors", totals.errors},
          {"read", kind(totals.reads, totals.read_bytes, totals.read_latency)},
          {"write", kind(totals.writes, totals.written_bytes, totals.write_latency)},
          {"flush", kind(totals.flushes, 0, totals.flush_latency)},
          {"discards", totals.discards}};
}

// The members of `more` after those of `json`.
Json join(Json json, const Json& more) {
  json.update(more);
  return json;
}

}  // namespace

void Daemon::add_metrics_methods() {
  dispatcher_.add("basalt_get_metrics", [this](Params& params) -> Result<Json> {
    BASALT_TRY(params.done());
    const MetricsSnapshot all = metrics();
    Json devices = Json::array(), namespaces = Json::array(), hosts = Json::array(),
         reactors = Json::array();
    for (const auto& bdev : all.bdevs) {
      devices.push_back(join({{"name", bdev.name}}, describe_totals(bdev.totals)));
    }
    for (const auto& space : all.namespaces) {
      namespaces.push_back(
          join({{"nqn", space.subsystem}, {"nsid", space.nsid}, {"bdev_name", space.bdev}},
               describe_totals(space.totals)));
    }
    for (const auto& [subsystem, host] : all.hosts) {
      // Null: hosts that are not listed and have gone, or were too many.
      hosts.push_back(join({{"nqn", subsystem},
                            {"host", host.host.empty() ? Json() : Json(host.host)},
                            {"io_qpairs", host.io_queues}},
                           describe_totals(host.totals)));
    }
    for (const auto& [name, stats, group] : all.reactors) {
      reactors.push_back({{"name", name},
                          {"busy", stats.busy.count()},
                          {"looking", stats.looking.count()},
                          {"look_before_sleep", stats.look.count()},
                          {"asleep", stats.asleep.count()},
                          {"sleeps", stats.sleeps},
                          {"admin_qpairs", group.admin_queues},
                          {"io_qpairs", group.io_queues},
                          {"io_commands", group.io_commands}});
    }
    return Json{{"tick_rate", 1'000'000'000},
                {"ticks", all.taken.count()},
                {"version", "Basalt " BASALT_VERSION},
                {"prometheus", metrics_server_ == nullptr ? Json() : Json(metrics_server_->url())},
                {"connections", all.connections},
                {"reactors", reactors},
                {"devices", devices},
                {"namespaces", namespaces},
                {"hosts", hosts}};
  });
}

}  // namespace basalt
