// Goal: `basalt top` shows what a daemon does, in numbers that are those of what was done; and says so when there is none.
#include <atomic>
#include <sstream>

#include "base/sync.h"
#include "targets/daemon/daemon.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/raw_host.h"
#include "test/tool/tool_fixture.h"

namespace basalt::test {
namespace {

using rpc::Json;

constexpr const char* kSubsystem = "nqn.2014-08.org.example:disk";

class TopTest : public ToolTest {
 protected:
  void serve() {
    auto made = Daemon::create({.cores = {}, .log = &log_});
    ASSERT_TRUE(made) << made.error().to_string();
    daemon_ = std::move(*made);
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 2048, "block_size": 512})");
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem",
         R"({"nqn": "nqn.2014-08.org.example:disk", "allow_any_host": true})");
    call("nvmf_subsystem_add_ns",
         R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "Malloc0"}})");
    call(
        "nvmf_subsystem_add_listener",
        R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"traddr": "127.0.0.1", "trsvcid": "0"}})");
    port_ = call("nvmf_subsystem_get_listeners",
                 R"({"nqn": "nqn.2014-08.org.example:disk"})")[0]["address"]["trsvcid"];
    const Status served = daemon_->serve(socket());
    ASSERT_TRUE(served.ok()) << served.to_string();
  }
  Json call(const std::string& method, const std::string& params) {
    const auto result = daemon_->call(method, Json::parse(params));
    EXPECT_TRUE(result) << method << ": " << result.error().to_string();
    return result ? *result : Json();
  }
  std::string socket() const { return path("socket").string(); }

  nvme::KeptLog log_;
  std::unique_ptr<Daemon> daemon_;
  std::string port_;
};

// The words of the first line that begins with `name`.
std::vector<std::string> words_of(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(name)) continue;
    std::istringstream words(line);
    return {std::istream_iterator<std::string>(words), {}};
  }
  ADD_FAILURE() << "no line begins with " << name << "\n" << text;
  return {};
}

TEST_F(TopTest, ShowsWhatIsDone) {
  serve();
  RawHost admin({"127.0.0.1", port_}), io({"127.0.0.1", port_});
  io.become_io(kSubsystem, admin.become_admin(kSubsystem));
  std::atomic<bool> stop{false};
  Thread writer("writer", [&] {
    nvme::Command write;
    write.opcode = static_cast<uint8_t>(nvme::IoOpcode::write);
    write.nsid = 1;
    while (!stop.load()) EXPECT_TRUE(io.run(write, std::vector<std::byte>(512)).status().ok());
  });
  const std::string out = must({"top", "-s", socket(), "--once", "--interval", "0.3"});
  stop.store(true);
  writer.join();
  EXPECT_EQ(out.find('\033'), std::string::npos) << "not a terminal";
  EXPECT_TRUE(out.starts_with("Basalt ")) << out;
  EXPECT_NE(out.find("2 connections, 0."), std::string::npos) << out;
  const std::vector<std::string> device = words_of(out, "Malloc0 ");
  ASSERT_EQ(device.size(), 10u) << out;
  EXPECT_EQ(device[1], "0") << "nothing is read";
  const double rate = std::stod(device[2]);
  EXPECT_GT(rate, 100) << out;
  EXPECT_NEAR(std::stod(device[4]), rate * 512 / 1e6, 0.06) << out;
  EXPECT_GT(std::stod(device[5]), 0) << "the mean";
  EXPECT_LE(std::stod(device[6]), std::stod(device[7])) << "percentiles";
  EXPECT_EQ(device[9], "0") << "errors";
  // Counted at another moment, but of the same writer.
  const std::vector<std::string> space = words_of(out, "nqn.2014-08.org.example:disk 1 Malloc0 ");
  ASSERT_EQ(space.size(), 12u) << out;
  EXPECT_NEAR(std::stod(space[4]), rate, rate / 2) << out;
  EXPECT_NE(out.find("example:host "), std::string::npos) << out;
  const std::vector<std::string> reactor = words_of(out, "reactor-0 ");
  ASSERT_EQ(reactor.size(), 6u) << out;
  EXPECT_NEAR(std::stod(reactor[1]) + std::stod(reactor[2]) + std::stod(reactor[3]), 100, 15)
      << out;
  EXPECT_EQ(reactor[4], "1") << "queues";
  EXPECT_NEAR(std::stod(reactor[5]), rate, rate / 2) << out;
}

TEST_F(TopTest, SaysThatThereIsNoDaemon) {
  const Outcome outcome = basalt({"top", "--once", "--rpc-socket", socket()});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("is basaltd running?"), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(basalt({"top", "--interval", "0"}).status, 2);
}

// Goal: a daemon that goes away ends it, with a sentence.
TEST_F(TopTest, EndsWithItsDaemon) {
  serve();
  Thread end("end", [&] {
    sleep_for(std::chrono::milliseconds(300));
    daemon_.reset();
  });
  const Outcome outcome = basalt({"top", "-i", "0.05", "-s", socket()});
  end.join();
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find(socket()), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.out.find("DEVICE"), std::string::npos) << outcome.out;
}

}  // namespace
}  // namespace basalt::test
