// See metrics_families.h.
#include "targets/daemon/metrics_families.h"

#include <string>
#include <utility>

#include "bdev/latency.h"

namespace basalt {

namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;
using prometheus::MetricType;

constexpr double kNanosecond = 1e-9;
// The histograms told have a bucket for each power of two nanoseconds from 2 µs to 8.6 s, and one for what is longer: each is
// whole buckets of LatencyHistogram.
constexpr unsigned kFirstLog2 = 11, kLastLog2 = 33;

double seconds(Duration duration) { return static_cast<double>(duration.count()) * kNanosecond; }

Labels with(Labels labels, const char* name, std::string value) {
  labels.push_back({name, std::move(value)});
  return labels;
}

class Family {
 public:
  Family(std::string name, const char* help, MetricType type) {
    family_.name = std::move(name);
    family_.help = help;
    family_.type = type;
  }
  void add(Labels labels, double value) {
    prometheus::ClientMetric& metric = place(std::move(labels));
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void add(Labels labels, const LatencyHistogram& latency, double sum_seconds) {
    prometheus::ClientMetric::Histogram& histogram = place(std::move(labels)).histogram;
    uint64_t count = 0;
    unsigned next = 0;
    for (unsigned log2 = kFirstLog2; log2 <= kLastLog2; ++log2) {
      const uint64_t bound = uint64_t{1} << log2;
      for (; latency_bucket_end(next) <= bound; ++next) count += latency.buckets[next];
      histogram.bucket.push_back({count, static_cast<double>(bound) * kNanosecond});
    }
    histogram.sample_count = latency.count();
    histogram.sample_sum = sum_seconds;
  }
  // Families without a series are left out.
  void give(std::vector<prometheus::MetricFamily>& all) {
    if (!family_.metric.empty()) all.push_back(std::move(family_));
  }

 private:
  prometheus::ClientMetric& place(Labels labels) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }
  prometheus::MetricFamily family_;
};

// What is told of each namespace, host and queue.
class IoFamilies {
 public:
  IoFamilies(const std::string& prefix, const char* depth)
      : operations_(prefix + "_operations_total", "I/O commands answered, failed ones too.",
                    MetricType::Counter),
        bytes_(prefix + "_bytes_total", "Bytes read or written by commands that went well.",
               MetricType::Counter),
        errors_(prefix + "_errors_total", "I/O commands answered with an error.",
                MetricType::Counter),
        latency_(prefix + "_latency_seconds",
                 "Time from a command's arrival to its answer, to the reactor's loop.",
                 MetricType::Histogram),
        depth_(depth, "I/O commands that have arrived and have no answer yet.", MetricType::Gauge) {
  }
  void add(const Labels& labels, const nvmf::IoTotals& totals) {
    for (const auto kind : {nvmf::IoKind::read, nvmf::IoKind::write, nvmf::IoKind::other}) {
      const nvmf::IoTotals::Kind& of = totals.of(kind);
      const Labels its = with(labels, "operation", nvmf::to_string(kind));
      operations_.add(its, static_cast<double>(of.operations()));
      errors_.add(its, static_cast<double>(of.errors));
      latency_.add(its, of.latency, static_cast<double>(of.nanoseconds) * kNanosecond);
      if (kind != nvmf::IoKind::other) bytes_.add(its, static_cast<double>(of.bytes));
    }
    depth_.add(labels, static_cast<double>(totals.outstanding));
  }
  void give(std::vector<prometheus::MetricFamily>& all) {
    for (Family* family : {&operations_, &bytes_, &errors_, &latency_, &depth_}) family->give(all);
  }

 private:
  Family operations_, bytes_, errors_, latency_, depth_;
};

std::string name_of_host(const std::string& host) { return host.empty() ? "others" : host; }

void add_devices(const MetricsSnapshot& snapshot, std::vector<prometheus::MetricFamily>& all) {
  Family operations("basalt_device_operations_total",
                    "Commands the target's channels completed, failed ones too.",
                    MetricType::Counter);
  Family bytes("basalt_device_bytes_total", "Bytes read or written by commands that went well.",
               MetricType::Counter);
  Family errors("basalt_device_errors_total", "Commands that failed.", MetricType::Counter);
  Family latency("basalt_device_latency_seconds",
                 "Time from a command's submission to its completion; without failed ones.",
                 MetricType::Histogram);
  Family depth("basalt_device_queue_depth", "Commands at the device.", MetricType::Gauge);
  for (const auto& [name, totals] : snapshot.bdevs) {
    const Labels device{{"device", name}};
    const auto operation = [&](const char* what) { return with(device, "operation", what); };
    operations.add(operation("read"), static_cast<double>(totals.reads));
    operations.add(operation("write"), static_cast<double>(totals.writes));
    operations.add(operation("flush"), static_cast<double>(totals.flushes));
    operations.add(operation("discard"), static_cast<double>(totals.discards));
    bytes.add(operation("read"), static_cast<double>(totals.read_bytes));
    bytes.add(operation("write"), static_cast<double>(totals.written_bytes));
    errors.add(device, static_cast<double>(totals.errors));
    const auto add_latency = [&](const char* what, const LatencyHistogram& histogram) {
      latency.add(operation(what), histogram,
                  static_cast<double>(nvmf::estimated_sum(histogram)) * kNanosecond);
    };
    add_latency("read", totals.read_latency);
    add_latency("write", totals.write_latency);
    add_latency("flush", totals.flush_latency);
    depth.add(device, static_cast<double>(totals.outstanding));
  }
  for (Family* family : {&operations, &bytes, &errors, &latency, &depth}) family->give(all);
}

void add_reactors(const MetricsSnapshot& snapshot, std::vector<prometheus::MetricFamily>& all) {
  Family time("basalt_reactor_seconds_total",
              "Time in loops that found work, in loops that found none, and asleep.",
              MetricType::Counter);
  Family sleeps("basalt_reactor_sleeps_total", "How often it slept.", MetricType::Counter);
  Family look("basalt_reactor_look_before_sleep_seconds",
              "How long it looks for work at present before it sleeps.", MetricType::Gauge);
  Family queues("basalt_reactor_queues", "Hosts' queues that are served there.", MetricType::Gauge);
  Family commands("basalt_reactor_io_commands_total", "I/O commands of hosts answered there.",
                  MetricType::Counter);
  for (const auto& [name, stats, group] : snapshot.reactors) {
    const Labels reactor{{"reactor", name}};
    time.add(with(reactor, "state", "busy"), seconds(stats.busy));
    time.add(with(reactor, "state", "looking"), seconds(stats.looking));
    time.add(with(reactor, "state", "asleep"), seconds(stats.asleep));
    sleeps.add(reactor, static_cast<double>(stats.sleeps));
    look.add(reactor, seconds(stats.look));
    queues.add(with(reactor, "kind", "admin"), static_cast<double>(group.admin_queues));
    queues.add(with(reactor, "kind", "io"), static_cast<double>(group.io_queues));
    commands.add(reactor, static_cast<double>(group.io_commands));
  }
  for (Family* family : {&time, &sleeps, &look, &queues, &commands}) family->give(all);
}

}  // namespace

std::vector<prometheus::MetricFamily> make_families(const MetricsSnapshot& snapshot) {
  std::vector<prometheus::MetricFamily> all;
  Family build("basalt_build_info", "Always 1; its label says what runs.", MetricType::Gauge);
  build.add({{"version", BASALT_VERSION}}, 1);
  build.give(all);
  Family connections("basalt_connections", "Hosts' connections.", MetricType::Gauge);
  connections.add({}, static_cast<double>(snapshot.connections));
  connections.give(all);
  add_reactors(snapshot, all);
  add_devices(snapshot, all);
  IoFamilies namespaces("basalt_namespace", "basalt_namespace_queue_depth");
  for (const auto& space : snapshot.namespaces) {
    namespaces.add({{"subsystem", space.subsystem},
                    {"nsid", std::to_string(space.nsid)},
                    {"device", space.bdev}},
                   space.totals);
  }
  namespaces.give(all);
  IoFamilies hosts("basalt_host", "basalt_host_queue_depth");
  Family queues("basalt_host_queues", "I/O queues the host has.", MetricType::Gauge);
  for (const auto& [subsystem, host] : snapshot.hosts) {
    const Labels labels{{"subsystem", subsystem}, {"host", name_of_host(host.host)}};
    hosts.add(labels, host.totals);
    queues.add(labels, static_cast<double>(host.io_queues));
  }
  hosts.give(all);
  queues.give(all);
  return all;
}

std::vector<prometheus::MetricFamily> make_queue_families(const MetricsSnapshot& snapshot) {
  std::vector<prometheus::MetricFamily> all;
  IoFamilies queues("basalt_queue", "basalt_queue_depth");
  for (const auto& [subsystem, record, totals] : snapshot.io_queues) {
    queues.add({{"subsystem", subsystem},
                {"host", record->host},
                {"controller", std::to_string(record->controller_id)},
                {"queue", std::to_string(record->queue_id)},
                {"reactor", record->reactor}},
               totals);
  }
  queues.give(all);
  return all;
}

}  // namespace basalt
