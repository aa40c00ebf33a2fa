// MetricsServer: a daemon's metrics for Prometheus, over HTTP by prometheus-cpp.
//
// GET /metrics: devices, namespaces, hosts, reactors; GET /metrics/queues: the I/O queues one by one. What is asked for is made
// from a snapshot on the thread that answers, one of two that belong to the server; a client that does not read
// occupies one of them until kRequestTimeoutMs after the last byte it took, and nothing else.
//
// Threads: open() and the destructor one at a time.
#pragma once

#include <basalt/status.h>

#include <functional>
#include <memory>
#include <string>

#include "targets/daemon/metrics_snapshot.h"
#include "targets/nvmf/tcp/listener.h"

namespace basalt {

// "9464": of 127.0.0.1; "10.0.0.1:9464", "[::]:9464". Port 0: any. Errors: invalid_argument.
Result<nvmf::ListenAddress> parse_metrics_address(const std::string& text);

class MetricsServer {
 public:
  static constexpr unsigned kRequestTimeoutMs = 5000;

  // `take` is called by any thread, until the destructor returns. Errors: busy (the port is taken), permission_denied,
  // invalid_argument (the machine has no such address), unsupported (IPv6, with an HTTP library that is built without, as
  // Debian's is), io_error.
  static Result<std::unique_ptr<MetricsServer>> open(const nvmf::ListenAddress& address,
                                                     std::function<MetricsSnapshot()> take);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;

  // With the port it got.
  const nvmf::ListenAddress& address() const { return address_; }
  std::string url() const { return "http://" + address_.to_string() + "/metrics"; }

 private:
  struct Exposed;
  MetricsServer(nvmf::ListenAddress address, std::unique_ptr<Exposed> exposed);

  const nvmf::ListenAddress address_;
  const std::unique_ptr<Exposed> exposed_;
};

}  // namespace basalt
