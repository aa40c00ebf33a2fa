// A snapshot as Prometheus's metric families; docs/guide/metrics.md lists them.
//
// https://prometheus.io/docs/practices/naming: base units, `_total` for what only grows. Pure functions.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "targets/daemon/metrics_snapshot.h"

namespace basalt {

// All but the queues one by one: as many series as there are devices, namespaces, hosts and reactors.
std::vector<prometheus::MetricFamily> make_families(const MetricsSnapshot& snapshot);
// The I/O queues there are.
std::vector<prometheus::MetricFamily> make_queue_families(const MetricsSnapshot& snapshot);

}  // namespace basalt
