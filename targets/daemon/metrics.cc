// See metrics.h.
#include "targets/daemon/metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <utility>

#include "base/sync.h"
#include "base/unique_fd.h"
#include "targets/daemon/metrics_families.h"

namespace basalt {

namespace {

using Take = std::function<MetricsSnapshot()>;

class AllMetrics final : public prometheus::Collectable {
 public:
  explicit AllMetrics(Take take) : take_(std::move(take)) {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    // One after the other: no scrape is told less than the one before it.
    const MutexLock lock(mutex_);
    MetricsSnapshot snapshot = take_();
    for (auto& reactor : snapshot.reactors) {
      // What is left of its time: a little too much while it is in a loop whose time it has not counted yet.
      Duration& asleep = asleep_[reactor.name];
      asleep = std::max(asleep, reactor.stats.asleep);
      reactor.stats.asleep = asleep;
    }
    return make_families(snapshot);
  }

 private:
  const Take take_;
  mutable Mutex mutex_;                             // protects what follows
  mutable std::map<std::string, Duration> asleep_;  // as told last
};

class QueueMetrics final : public prometheus::Collectable {
 public:
  explicit QueueMetrics(Take take) : take_(std::move(take)) {}
  std::vector<prometheus::MetricFamily> Collect() const override {
    return make_queue_families(take_());
  }

 private:
  const Take take_;
};

// Why nothing can listen there, for the library does not say.
Status bind_error(const nvmf::ListenAddress& address) {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  if (address.is_ipv6()) {
    auto* const v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<uint16_t>(std::stoi(address.port)));
    ::inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr);
    bytes = sizeof *v6;
  } else {
    auto* const v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(std::stoi(address.port)));
    ::inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr);
    bytes = sizeof *v4;
  }
  const UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), bytes) == 0;
  const int failure = bound ? 0 : errno;
  const std::string where = "metrics on " + address.to_string() + ": ";
  switch (failure) {
    case EADDRINUSE: return {StatusCode::busy, where + "the port is taken; give another"};
    case EACCES: return {StatusCode::permission_denied, where + "only root may listen below 1024"};
    case EADDRNOTAVAIL:
      return {StatusCode::invalid_argument, where + "the machine has no such address"};
    case 0:
      if (address.is_ipv6()) {
        return {StatusCode::unsupported,
                where + "the HTTP library is built without IPv6; give an IPv4 address"};
      }
      [[fallthrough]];
    default:
      return {StatusCode::io_error,
              where + (bound ? "the HTTP server does not start" : std::strerror(failure))};
  }
}

}  // namespace

Result<nvmf::ListenAddress> parse_metrics_address(const std::string& text) {
  const auto given = nvmf::ListenAddress::parse(text);
  const nvmf::ListenAddress address = given ? *given : nvmf::ListenAddress{"127.0.0.1", text};
  in6_addr ignored{};
  const bool is_host =
      ::inet_pton(address.is_ipv6() ? AF_INET6 : AF_INET, address.host.c_str(), &ignored) == 1;
  const bool is_port = !address.port.empty() && address.port.size() <= 5 &&
                       std::all_of(address.port.begin(), address.port.end(),
                                   [](char c) { return c >= '0' && c <= '9'; }) &&
                       std::stoi(address.port) <= 65535;
  if (is_host && is_port) return address;
  return error(StatusCode::invalid_argument,
               text + ": expected PORT, of 127.0.0.1, or ADDRESS:PORT, as 10.0.0.1:9464");
}

struct MetricsServer::Exposed {
  std::shared_ptr<AllMetrics> all;
  std::shared_ptr<QueueMetrics> queues;
  std::unique_ptr<prometheus::Exposer> exposer;  // goes first
};

Result<std::unique_ptr<MetricsServer>> MetricsServer::open(const nvmf::ListenAddress& address,
                                                           Take take) {
  auto exposed = std::make_unique<Exposed>();
  exposed->queues = std::make_shared<QueueMetrics>(take);
  exposed->all = std::make_shared<AllMetrics>(std::move(take));
  try {
    exposed->exposer = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", address.to_string(), "num_threads", "2",
                                 "request_timeout_ms", std::to_string(kRequestTimeoutMs)});
    exposed->exposer->RegisterCollectable(exposed->all);
    exposed->exposer->RegisterCollectable(exposed->queues, "/metrics/queues");
  } catch (const std::exception&) {
    return error(bind_error(address));
  }
  nvmf::ListenAddress got = address;
  got.port = std::to_string(exposed->exposer->GetListeningPorts().front());
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(got), std::move(exposed)));
}

MetricsServer::MetricsServer(nvmf::ListenAddress address, std::unique_ptr<Exposed> exposed)
    : address_(std::move(address)), exposed_(std::move(exposed)) {}

MetricsServer::~MetricsServer() = default;

}  // namespace basalt
