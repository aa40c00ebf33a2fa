// The Prometheus endpoint, scraped over a real socket: what it says is what was done; what scrapes and clients that do not
// behave cannot do. And the counts of the RPC methods.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <map>
#include <sstream>
#include <string>

#include "base/sync.h"
#include "base/unique_fd.h"
#include "targets/daemon/daemon.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/raw_host.h"

namespace basalt {
namespace {

using rpc::Json;

constexpr const char* kDisk = "nqn.2014-08.org.example:disk";

UniqueFd connect_to(const std::string& port) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(port)));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  const timeval patience{20, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return fd;
}

// The whole answer.
std::string get(const std::string& port, const std::string& path) {
  const UniqueFd fd = connect_to(port);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(fd.get(), buffer, sizeof buffer, 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  return answer;
}

// Values by series, as they are written: `name{label="value",…}`.
using Samples = std::map<std::string, double>;

Samples parse_samples(const std::string& answer) {
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer.substr(0, 200);
  Samples samples;
  std::map<std::string, std::string> types;
  std::istringstream lines(answer.substr(answer.find("\r\n\r\n") + 4));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) {
      std::istringstream words(line.substr(7));
      std::string name;
      words >> name >> types[name];
      EXPECT_TRUE(name.starts_with("basalt_") || name.starts_with("exposer_")) << name;
      const bool is_total = name.ends_with("_total");
      if (name.starts_with("basalt_")) {
        EXPECT_EQ(is_total, types[name] == "counter") << name;
      }
    }
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    EXPECT_TRUE(samples.emplace(line.substr(0, space), std::stod(line.substr(space + 1))).second)
        << line << " is told twice";
  }
  return samples;
}

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() {
    auto made = Daemon::create({.cores = {}, .log = &log_});
    EXPECT_TRUE(made);
    daemon_ = std::move(*made);
    const auto url = daemon_->serve_metrics({"127.0.0.1", "0"});
    EXPECT_TRUE(url) << url.error().to_string();
    metrics_port_ = url->substr(17, url->find("/metrics") - 17);
    EXPECT_EQ(*url, "http://127.0.0.1:" + metrics_port_ + "/metrics");
  }
  Json call(const std::string& method, const std::string& params = "null") {
    auto result = daemon_->call(method, Json::parse(params));
    EXPECT_TRUE(result) << method << ": " << result.error().to_string();
    return result ? *result : Json();
  }
  void export_disk() {
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 2048, "block_size": 512})");
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem",
         R"({"nqn": "nqn.2014-08.org.example:disk", "allow_any_host": true})");
    call("nvmf_subsystem_add_ns",
         R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "Malloc0"}})");
    call(
        "nvmf_subsystem_add_listener",
        R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"}})");
    target_port_ = call("nvmf_subsystem_get_listeners",
                        R"({"nqn": "nqn.2014-08.org.example:disk"})")[0]["address"]["trsvcid"];
  }
  static void write(RawHost& io) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::write);
    command.nsid = 1;
    EXPECT_TRUE(io.run(command, std::vector<std::byte>(512)).status().ok());
  }
  static bool read(RawHost& io, uint32_t lba) {
    nvme::Command command;
    command.opcode = static_cast<uint8_t>(nvme::IoOpcode::read);
    command.nsid = 1;
    command.cdw10 = lba;
    return io.run(command, {}, 512).status().ok();
  }
  Samples scrape(const std::string& path = "/metrics") {
    return parse_samples(get(metrics_port_, path));
  }

  nvme::KeptLog log_;
  std::unique_ptr<Daemon> daemon_;
  std::string metrics_port_, target_port_;
};

// Of a histogram: its buckets only grow, and the last, its count and `operations` are one.
void expect_histogram(const Samples& samples, const std::string& name, const std::string& labels,
                      double operations) {
  double last = 0;
  std::map<double, double> buckets;
  for (const auto& [series, value] : samples) {
    const std::string head = name + "_bucket{" + labels + ",le=\"";
    if (!series.starts_with(head)) continue;
    const std::string bound = series.substr(head.size());
    buckets[bound.starts_with("+Inf") ? 1e9 : std::stod(bound)] = value;
  }
  ASSERT_EQ(buckets.size(), 24u) << name << labels;
  for (const auto& [bound, value] : buckets) {
    EXPECT_GE(value, last) << bound;
    last = value;
  }
  EXPECT_EQ(last, operations) << name << labels;
  EXPECT_EQ(samples.at(name + "_count{" + labels + "}"), operations);
  EXPECT_EQ(samples.count(name + "_sum{" + labels + "}"), 1u);
}

TEST_F(MetricsTest, TellsWhatWasDone) {
  export_disk();
  const std::string space = R"(subsystem="nqn.2014-08.org.example:disk",nsid="1",device="Malloc0")";
  const std::string host =
      R"(subsystem="nqn.2014-08.org.example:disk",host="nqn.2014-08.org.example:host")";
  {
    RawHost admin({"127.0.0.1", target_port_}), io({"127.0.0.1", target_port_});
    io.become_io(kDisk, admin.become_admin(kDisk));
    for (int i = 0; i < 5; ++i) write(io);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(read(io, 0));
    EXPECT_FALSE(read(io, 4096));
    const Samples samples = scrape();
    EXPECT_EQ(samples.at("basalt_connections"), 2);
    for (const auto& [prefix, labels] :
         {std::pair("basalt_namespace", space), std::pair("basalt_host", host)}) {
      const std::string name = prefix;
      const std::string writes = labels + R"(,operation="write")";
      const std::string reads = labels + R"(,operation="read")";
      EXPECT_EQ(samples.at(name + "_operations_total{" + writes + "}"), 5);
      EXPECT_EQ(samples.at(name + "_operations_total{" + reads + "}"), 4);
      EXPECT_EQ(samples.at(name + "_bytes_total{" + writes + "}"), 5 * 512);
      EXPECT_EQ(samples.at(name + "_bytes_total{" + reads + "}"), 3 * 512);
      EXPECT_EQ(samples.at(name + "_errors_total{" + writes + "}"), 0);
      EXPECT_EQ(samples.at(name + "_errors_total{" + reads + "}"), 1);
      EXPECT_EQ(samples.at(name + "_queue_depth{" + labels + "}"), 0);
      expect_histogram(samples, name + "_latency_seconds", writes, 5);
      expect_histogram(samples, name + "_latency_seconds", reads, 4);
    }
    EXPECT_EQ(samples.at("basalt_host_queues{" + host + "}"), 1);
    EXPECT_EQ(samples.at(R"(basalt_device_operations_total{device="Malloc0",operation="write"})"),
              5);
    EXPECT_EQ(samples.at(R"(basalt_device_bytes_total{device="Malloc0",operation="read"})"),
              3 * 512);
    EXPECT_EQ(samples.at(R"(basalt_device_queue_depth{device="Malloc0"})"), 0);
    expect_histogram(samples, "basalt_device_latency_seconds",
                     R"(device="Malloc0",operation="write")", 5);
    EXPECT_EQ(samples.at(R"(basalt_reactor_io_commands_total{reactor="reactor-0"})"), 9);
    EXPECT_EQ(samples.at(R"(basalt_reactor_queues{reactor="reactor-0",kind="io"})"), 1);
    EXPECT_GT(samples.at(R"(basalt_reactor_seconds_total{reactor="reactor-0",state="busy"})"), 0);

    const Samples queues = scrape("/metrics/queues");
    EXPECT_EQ(queues.at("basalt_queue_operations_total{" + host +
                        R"(,controller="1",queue="1",reactor="reactor-0",operation="write"})"),
              5);
    EXPECT_EQ(queues.at("basalt_queue_depth{" + host +
                        R"(,controller="1",queue="1",reactor="reactor-0"})"),
              0);
    for (const auto& [series, value] : samples) {
      EXPECT_FALSE(series.starts_with("basalt_queue_")) << "one by one only where asked for";
    }
  }
  // The host is on no list: when it has gone, the others have done it.
  const std::string others =
      R"(basalt_host_operations_total{subsystem="nqn.2014-08.org.example:disk",host="others",operation="write"})";
  Samples samples;
  for (int i = 0; i < 2000 && samples.count(others) == 0; ++i) samples = scrape();
  EXPECT_EQ(samples[others], 5);
  EXPECT_EQ(samples.count("basalt_host_queues{" + host + "}"), 0u);
  EXPECT_EQ(samples["basalt_namespace_queue_depth{" + space + "}"], 0);
}

TEST_F(MetricsTest, MethodsTellItToo) {
  EXPECT_EQ(call("basalt_get_metrics")["prometheus"],
            "http://127.0.0.1:" + metrics_port_ + "/metrics");
  export_disk();
  RawHost admin({"127.0.0.1", target_port_}), io({"127.0.0.1", target_port_});
  io.become_io(kDisk, admin.become_admin(kDisk));
  write(io);
  write(io);
  EXPECT_TRUE(read(io, 0));
  const Json bdev = call("bdev_get_iostat")["bdevs"][0];
  EXPECT_EQ(bdev["num_write_ops"], 2);
  EXPECT_GT(bdev["read_latency_ticks"], 0);
  EXPECT_GT(bdev["write_latency_ticks"], bdev["read_latency_ticks"].get<uint64_t>() / 1000);
  EXPECT_EQ(bdev["queue_depth"], 0);
  const Json all = call("basalt_get_metrics");
  ASSERT_EQ(all["hosts"].size(), 1u);
  EXPECT_EQ(all["hosts"][0]["host"], "nqn.2014-08.org.example:host");
  EXPECT_EQ(all["hosts"][0]["write"]["operations"], 2);
  EXPECT_EQ(all["namespaces"][0]["bdev_name"], "Malloc0");
  uint64_t in_buckets = 0;
  for (const Json& bucket : all["namespaces"][0]["write"]["latency"]) {
    in_buckets += bucket[1].get<uint64_t>();
  }
  EXPECT_EQ(in_buckets, 2u);
  const Json group = call("nvmf_get_stats")["poll_groups"][0];
  EXPECT_EQ(group["completed_nvme_io"], 3);
  EXPECT_EQ(group["pending_bdev_io"], 0);
  EXPECT_EQ(group["io_qpairs"], 1);
  const Json queues =
      call("nvmf_subsystem_get_qpairs", R"({"nqn": "nqn.2014-08.org.example:disk"})");
  ASSERT_EQ(queues.size(), 2u);
  EXPECT_EQ(queues[1]["qid"], 1);
  EXPECT_EQ(queues[1]["cntlid"], queues[0]["cntlid"]);
  EXPECT_EQ(queues[1]["state"], "enabled");
  EXPECT_EQ(queues[1]["listen_address"]["trsvcid"], target_port_);
  EXPECT_EQ(queues[1]["peer_address"]["traddr"], "127.0.0.1");
}

// Goal: devices may come and go, and counters never become smaller, while others scrape.
TEST_F(MetricsTest, ScrapesWhileEverythingChanges) {
  export_disk();
  std::atomic<bool> stop{false};
  std::atomic<unsigned> scrapes{0};
  Thread scraper("scraper", [&] {
    Samples before;
    for (; !stop.load(); scrapes.fetch_add(1)) {
      const Samples now = scrape();
      for (const auto& [series, value] : now) {
        const bool grows = series.starts_with("basalt_namespace_operations_total") ||
                           series.starts_with("basalt_reactor_seconds_total") ||
                           series.starts_with("basalt_device_bytes_total{device=\"Malloc0\"");
        if (grows && before.count(series) != 0) {
          EXPECT_GE(value, before[series]) << series;
        }
      }
      before = now;
    }
  });
  RawHost admin({"127.0.0.1", target_port_}), io({"127.0.0.1", target_port_});
  io.become_io(kDisk, admin.become_admin(kDisk));
  for (int i = 0; i < 100 || scrapes.load() < 5; ++i) {
    write(io);
    call("bdev_malloc_create", R"({"name": "Malloc1", "num_blocks": 64, "block_size": 512})");
    call(
        "nvmf_subsystem_add_ns",
        R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "Malloc1", "nsid": 2}})");
    RawHost other({"127.0.0.1", target_port_});
    other.become_admin(kDisk);
    call("bdev_malloc_delete", R"({"name": "Malloc1"})");
  }
  stop.store(true);
  scraper.join();
}

// Goal: clients that say nothing keep neither calls nor I/O from going on, nor the daemon from ending.
TEST_F(MetricsTest, SilentClientsHoldNothingUp) {
  export_disk();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 8; ++i) silent.push_back(connect_to(metrics_port_));
  ::send(silent[0].get(), "GET /metr", 9, MSG_NOSIGNAL);
  RawHost admin({"127.0.0.1", target_port_}), io({"127.0.0.1", target_port_});
  io.become_io(kDisk, admin.become_admin(kDisk));
  write(io);
  EXPECT_EQ(call("bdev_get_iostat")["bdevs"][0]["num_write_ops"], 1);
  const auto start = std::chrono::steady_clock::now();
  daemon_.reset();
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, std::chrono::milliseconds(3 * MetricsServer::kRequestTimeoutMs));
}

TEST_F(MetricsTest, SaysWhyItCannotListen) {
  const auto again = daemon_->serve_metrics({"127.0.0.1", "0"});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), StatusCode::already_exists);
  const auto take = [] { return MetricsSnapshot{}; };
  const auto taken = MetricsServer::open({"127.0.0.1", metrics_port_}, take);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code(), StatusCode::busy) << taken.error().to_string();
  const auto foreign = MetricsServer::open({"192.0.2.1", "0"}, take);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().code(), StatusCode::invalid_argument) << foreign.error().to_string();
  const auto ipv6 = MetricsServer::open({"::1", "0"}, take);
  if (!ipv6) {
    EXPECT_TRUE(ipv6.error().code() == StatusCode::unsupported ||
                ipv6.error().code() == StatusCode::invalid_argument)
        << ipv6.error().to_string();
  }
}

TEST(MetricsAddress, IsLoopbackUnlessOneIsGiven) {
  const auto text = [](const char* given) {
    const auto address = parse_metrics_address(given);
    return address ? address->to_string() : std::string(address.error().message());
  };
  EXPECT_EQ(text("9464"), "127.0.0.1:9464");
  EXPECT_EQ(text("0"), "127.0.0.1:0");
  EXPECT_EQ(text("10.0.0.1:9464"), "10.0.0.1:9464");
  EXPECT_EQ(text("[::1]:9464"), "[::1]:9464");
  for (const char* wrong : {"", ":", "x", "127.0.0.1", "127.0.0.1:", ":9464", "1.2.3.4:65536",
                            "1.2.3.4:-1", "9464s", "localhost:9464", "[::1]", "1.2.3.4:1,2"}) {
    EXPECT_NE(text(wrong).find("expected PORT"), std::string::npos) << wrong;
  }
}

}  // namespace
}  // namespace basalt
