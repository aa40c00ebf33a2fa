// What a daemon remembers: its configuration, as calls have left it, and hosts' reservations; after a clean end, after kill -9.
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "targets/daemon/daemon.h"
#include "targets/rpc/client.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/sharing_host.h"

namespace basalt {
namespace {

using rpc::Json;

// A directory of this test's own.
class StateDirectory {
 public:
  StateDirectory()
      : path_(std::filesystem::temp_directory_path() /
              ("basaltd-" + std::to_string(::getpid()) + "-" +
               testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directory(path_);
  }
  ~StateDirectory() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ / name; }
  std::string path() const { return path_; }

 private:
  const std::filesystem::path path_;
};

class DaemonStateTest : public testing::Test {
 protected:
  // Answers whether there was a configuration.
  bool start() {
    daemon_.reset();
    auto made = Daemon::create({.cores = {}, .log = &log_, .state_directory = directory_.path()});
    EXPECT_TRUE(made) << made.error().to_string();
    if (!made) return false;
    daemon_ = std::move(*made);
    const auto restored = daemon_->restore();
    EXPECT_TRUE(restored) << restored.error().to_string();
    const Status kept = daemon_->keep();
    EXPECT_TRUE(kept.ok()) << kept.to_string();
    return restored && *restored;
  }
  Json call(const std::string& method, const Json& params = {}) {
    auto result = daemon_->call(method, params);
    EXPECT_TRUE(result) << method << ": " << result.error().to_string().substr(0, 300);
    return result ? *result : Json();
  }
  static Json malloc_params(const std::string& name) {
    return {{"name", name}, {"num_blocks", 64u}, {"block_size", 512u}};
  }

  StateDirectory directory_;
  nvme::KeptLog log_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonStateTest, EveryChangeIsKept) {
  EXPECT_FALSE(start());
  call("bdev_malloc_create", malloc_params("one"));
  call("nvmf_create_subsystem", {{"nqn", "nqn.2014-08.org.example:disk"}});
  const Json before = call("save_config");
  EXPECT_TRUE(start());
  EXPECT_EQ(call("save_config"), before);
  call("bdev_malloc_delete", {{"name", "one"}});
  EXPECT_FALSE(daemon_->call("bdev_malloc_create", {{"name", "bad"}}));
  call("load_config",
       {{"subsystems",
         {{{"subsystem", "bdev"},
           {"config",
            {{{"method", "bdev_malloc_create"}, {"params", malloc_params("two")}},
             {{"method", "bdev_malloc_create"}, {"params", malloc_params("three")}}}}}}}});
  // One that fails in the middle has done what came before.
  EXPECT_FALSE(daemon_->call(
      "load_config",
      {{"subsystems",
        {{{"subsystem", "bdev"},
          {"config",
           {{{"method", "bdev_malloc_create"}, {"params", malloc_params("four")}},
            {{"method", "bdev_malloc_create"}, {"params", malloc_params("four")}}}}}}}}));
  EXPECT_TRUE(start());
  const Json all = call("bdev_get_bdevs");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]["name"], "two");
  EXPECT_EQ(all[2]["name"], "four");
}

// Goal: what cannot be kept fails its call, which says that it was done; and is kept as soon as it can be.
TEST_F(DaemonStateTest, SaysWhatItCannotKeep) {
  start();
  const auto name = [](unsigned i) { return std::string(900'000, static_cast<char>('a' + i)); };
  std::string refusal;
  unsigned made = 0;
  for (; refusal.empty() && made < 10; ++made) {
    const auto result = daemon_->call("bdev_malloc_create", malloc_params(name(made)));
    if (!result) refusal = result.error().to_string();
  }
  EXPECT_NE(refusal.find("bdev_malloc_create was done, but could not be kept"), std::string::npos)
      << refusal.substr(0, 200);
  ASSERT_GT(made, 1u) << refusal.substr(0, 200);
  EXPECT_EQ(call("bdev_get_bdevs").size(), made) << "who asks is answered";
  EXPECT_FALSE(
      daemon_->call("nvmf_subsystem_allow_any_host",
                    {{"nqn", "nqn.2014-08.org.nvmexpress.discovery"}, {"allow_any_host", true}}))
      << "nothing new, but not kept either";
  call("bdev_malloc_delete", {{"name", name(0)}});
  const Json before = call("save_config");
  start();
  EXPECT_TRUE(call("save_config") == before);
  EXPECT_EQ(call("bdev_get_bdevs").size(), made - 1);
}

TEST_F(DaemonStateTest, DoesNotStartWithoutWhatItHad) {
  start();
  const std::string disk = directory_ / "disk";
  std::ofstream(disk) << std::string(1 << 20, '\0');
  call("bdev_malloc_create", malloc_params("one"));
  call("bdev_aio_create", {{"name", "file"}, {"filename", disk}});
  daemon_.reset();
  std::filesystem::rename(disk, disk + ".away");
  auto made = Daemon::create({.cores = {}, .log = &log_, .state_directory = directory_.path()});
  ASSERT_TRUE(made);
  const auto restored = (*made)->restore();
  ASSERT_FALSE(restored);
  EXPECT_NE(restored.error().message().find("bdev_aio_create"), std::string::npos)
      << restored.error().to_string();
  EXPECT_NE(restored.error().message().find(directory_ / "state"), std::string::npos);
  made->reset();
  std::filesystem::rename(disk + ".away", disk);
  EXPECT_TRUE(start());
  EXPECT_EQ(call("bdev_get_bdevs").size(), 2u) << "nothing was forgotten";
}

// Goal: a disk that is not there, as when its file system is not mounted, is not replaced by an empty one.
TEST_F(DaemonStateTest, MakesNoDiskAnew) {
  start();
  const std::string disk = directory_ / "disk";
  call("bdev_basalt_create",
       {{"name", "file"}, {"uri", "file:" + disk + "?size=1M&grow=1&direct=0"}});
  const auto refusal = [&] {
    daemon_.reset();
    auto made = Daemon::create({.cores = {}, .log = &log_, .state_directory = directory_.path()});
    const auto restored = (*made)->restore();
    return restored ? "" : restored.error().to_string();
  };
  daemon_.reset();
  std::filesystem::rename(disk, disk + ".away");
  EXPECT_NE(refusal().find("not made anew"), std::string::npos) << refusal();
  EXPECT_FALSE(std::filesystem::exists(disk));
  for (const size_t bytes : {size_t{0}, size_t{4096}}) {
    std::ofstream(disk) << std::string(bytes, 'x');
    EXPECT_NE(refusal().find("not made anew"), std::string::npos) << refusal();
    EXPECT_EQ(std::filesystem::file_size(disk), bytes);
  }
  std::filesystem::rename(disk + ".away", disk);
  EXPECT_TRUE(start());
}

// Goal: what is said of the discovery subsystem is remembered as that of the others is.
TEST_F(DaemonStateTest, RemembersWhoMayDiscover) {
  constexpr const char* kDiscovery = "nqn.2014-08.org.nvmexpress.discovery";
  start();
  call("nvmf_create_transport", {{"trtype", "TCP"}});
  call("nvmf_subsystem_allow_any_host", {{"nqn", kDiscovery}, {"allow_any_host", false}});
  call("nvmf_subsystem_add_host", {{"nqn", kDiscovery}, {"host", "nqn.2014-08.org.example:host"}});
  call("nvmf_subsystem_add_listener",
       {{"nqn", kDiscovery},
        {"listen_address", {{"trtype", "TCP"}, {"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
  const Json before = call("save_config");
  EXPECT_NE(before.dump().find(kDiscovery), std::string::npos);
  EXPECT_TRUE(start());
  EXPECT_EQ(call("save_config"), before);
}

// basaltd as its own process.
class Basaltd {
 public:
  Basaltd(const StateDirectory& directory, std::vector<std::string> arguments)
      : socket_(directory / "rpc") {
    std::vector<std::string> all = {BASALTD, "--rpc-socket", socket_, "--state", directory.path()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    std::vector<char*> raw;
    for (std::string& argument : all) raw.push_back(argument.data());
    raw.push_back(nullptr);
    std::array<int, 2> out{};
    EXPECT_EQ(::pipe(out.data()), 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], 2);
    ::posix_spawn_file_actions_addclose(&actions, out[0]);
    EXPECT_EQ(::posix_spawn(&pid_, BASALTD, &actions, nullptr, raw.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(out[1]);
    // Until it is ready, or ends.
    std::array<char, 256> text;
    while (said_.find("is ready") == std::string::npos) {
      const ssize_t got = ::read(out[0], text.data(), text.size());
      if (got <= 0) break;
      said_.append(text.data(), static_cast<size_t>(got));
    }
    ::close(out[0]);
  }
  ~Basaltd() { end(SIGTERM); }
  void end(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
  }
  const std::string& said() const { return said_; }
  Json call(const std::string& method, const Json& params = {}) {
    const auto answer = rpc::call(socket_, method, params);
    EXPECT_TRUE(answer) << method << ": " << answer.error().to_string() << "; " << said_;
    if (!answer || !answer->contains("result")) {
      ADD_FAILURE() << method << ": " << (answer ? answer->dump() : "");
      return {};
    }
    return (*answer)["result"];
  }

 private:
  const std::string socket_;
  pid_t pid_ = 0;
  std::string said_;
};

TEST(BasaltdKilled, HasWhatWasAcknowledged) {
  constexpr const char* kExported = "nqn.2014-08.org.example:disk";
  const StateDirectory directory;
  const std::string disk = directory / "disk";
  const auto port_of = [&](Basaltd& daemon) {
    return daemon
        .call("nvmf_subsystem_get_listeners", {{"nqn", kExported}})[0]["address"]["trsvcid"]
        .get<std::string>();
  };
  Json before;
  {
    Basaltd daemon(directory, {});
    daemon.call("bdev_basalt_create",
                {{"name", "Disk"}, {"uri", "file:" + disk + "?size=4M&direct=0&block=512"}});
    daemon.call("nvmf_create_transport", {{"trtype", "TCP"}});
    daemon.call("nvmf_create_subsystem", {{"nqn", kExported}, {"allow_any_host", true}});
    daemon.call("nvmf_subsystem_add_ns",
                {{"nqn", kExported}, {"namespace", {{"bdev_name", "Disk"}}}});
    daemon.call(
        "nvmf_subsystem_add_listener",
        {{"nqn", kExported},
         {"listen_address", {{"trtype", "TCP"}, {"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
    before = daemon.call("save_config");
    SharingHost first({"127.0.0.1", port_of(daemon)}, 1, 11);
    EXPECT_TRUE(first.add(nvme::ReservationPersistence::persist).ok());
    EXPECT_TRUE(first.acquire(nvme::ReservationType::write_exclusive).ok());
    daemon.end(SIGKILL);
  }
  const std::string config = directory / "config.json";
  std::ofstream(config) << R"({"subsystems": []})";
  {
    Basaltd daemon(directory, {"--config", config});
    EXPECT_NE(daemon.said().find("is not read"), std::string::npos) << daemon.said();
    EXPECT_EQ(daemon.call("save_config"), before);
    const nvmf::ListenAddress address{"127.0.0.1", port_of(daemon)};
    SharingHost first(address, 1, 11), second(address, 2, 22);
    EXPECT_TRUE(second.write(0).is(nvme::kReservationConflict));
    EXPECT_TRUE(first.write(0).ok());
    EXPECT_EQ(first.registered(), 1u);
    daemon.end(SIGKILL);
  }
  {
    Basaltd daemon(directory, {"--config", config, "--replace-config"});
    EXPECT_TRUE(daemon.call("bdev_get_bdevs").empty());
    daemon.end(SIGKILL);
  }
  {
    Basaltd daemon(directory, {});
    EXPECT_TRUE(daemon.call("bdev_get_bdevs").empty()) << "kept before it was ready";
    const Basaltd another(directory, {});
    EXPECT_NE(another.said().find("state"), std::string::npos) << another.said();
    EXPECT_EQ(another.said().find("is ready"), std::string::npos) << "one at a time";
  }
}

}  // namespace
}  // namespace basalt
