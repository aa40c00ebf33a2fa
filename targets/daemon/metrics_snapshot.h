// MetricsSnapshot: what a daemon has done, at one moment, for whoever shows it.
//
// Taking one touches no command's way: hosts' and namespaces' counters are read as they stand, and each reactor is asked twice, by
// posted calls of some microseconds, for the counts of its channels and queues. Nothing that a call over RPC holds is
// waited for.
//
// Threads: any, several at a time, while the target is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reactor/reactor.h"
#include "targets/daemon/bdev_table.h"
#include "targets/nvmf/target.h"

namespace basalt {

struct MetricsSnapshot {
  struct Bdev {
    std::string name;
    nvmf::DeviceTotals totals;
  };
  struct Namespace {
    std::string subsystem;
    uint32_t nsid = 0;
    std::string bdev;  // empty: it is being deleted
    nvmf::IoTotals totals;
  };
  struct Host {
    std::string subsystem;
    nvmf::HostTotals host;
  };
  struct Queue {
    std::string subsystem;
    std::shared_ptr<const nvmf::QueueRecord> record;
    nvmf::IoTotals totals;
  };
  struct Loop {
    std::string name;
    ReactorStats stats;
    nvmf::GroupState group;
  };
  Duration taken{};  // by the daemon's monotonic clock
  size_t connections = 0;
  std::vector<Bdev> bdevs;
  std::vector<Namespace> namespaces;
  std::vector<Host> hosts;
  std::vector<Queue> io_queues;
  std::vector<Loop> reactors;
};

MetricsSnapshot take_snapshot(const BdevTable& bdevs, nvmf::Target& target,
                              const std::vector<std::unique_ptr<Reactor>>& reactors);

}  // namespace basalt
