// Daemon: a whole configuration by calls, as SPDK's clients make them; written down and made again; what is refused.
#include "targets/daemon/daemon.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "targets/daemon/uuid.h"
#include "test/nvme/kept_log.h"
#include "test/targets/nvmf/raw_host.h"

namespace basalt {
namespace {

using rpc::Json;

constexpr const char* kNqn = "nqn.2014-08.org.example:disk";

class DaemonTest : public testing::Test {
 protected:
  DaemonTest() { start(); }
  void start() {
    daemon_.reset();
    auto made = Daemon::create({.cores = {}, .log = &log_});
    ASSERT_TRUE(made) << made.error().to_string();
    daemon_ = std::move(*made);
  }
  Json call(const std::string& method, const std::string& params = "null") {
    auto result = daemon_->call(method, Json::parse(params));
    EXPECT_TRUE(result) << method << ": " << result.error().to_string();
    return result ? *result : Json();
  }
  std::string refusal(const std::string& method, const std::string& params = "null") {
    const auto result = daemon_->call(method, Json::parse(params));
    EXPECT_FALSE(result) << method;
    return result ? "" : std::string(result.error().message());
  }
  // Exports Malloc0; answers the port.
  std::string export_disk() {
    call("bdev_malloc_create", R"({"name": "Malloc0", "num_blocks": 2048, "block_size": 512})");
    call("nvmf_create_transport", R"({"trtype": "TCP"})");
    call("nvmf_create_subsystem",
         R"({"nqn": "nqn.2014-08.org.example:disk", "allow_any_host": true})");
    call("nvmf_subsystem_add_ns",
         R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "Malloc0"}})");
    call(
        "nvmf_subsystem_add_listener",
        R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"trtype": "TCP", "adrfam": "ipv4", "traddr": "127.0.0.1", "trsvcid": "0"}})");
    return call("nvmf_subsystem_get_listeners",
                R"({"nqn": "nqn.2014-08.org.example:disk"})")[0]["address"]["trsvcid"];
  }

  nvme::KeptLog log_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonTest, MakesAndListsDevices) {
  EXPECT_EQ(call("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 4096})"), "Malloc0");
  EXPECT_EQ(call("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 512})"), "Malloc1");
  EXPECT_EQ(
      call(
          "bdev_null_create",
          R"({"name": "n", "num_blocks": 131072, "block_size": 512, "uuid": "ceccf520-691e-4b46-9546-34af789907c5"})"),
      "n");
  EXPECT_EQ(
      call("bdev_basalt_create", R"({"name": "piece", "uri": "part:(ram:8M)?offset=1M&size=4M"})"),
      "piece");
  const Json all = call("bdev_get_bdevs");
  ASSERT_EQ(all.size(), 4u);
  EXPECT_EQ(all[0]["product_name"], "Malloc disk");
  EXPECT_EQ(all[0]["block_size"], 4096);
  EXPECT_EQ(all[0]["num_blocks"], 64);
  EXPECT_EQ(all[0]["claimed"], false);
  EXPECT_EQ(all[2]["uuid"], "ceccf520-691e-4b46-9546-34af789907c5");
  EXPECT_EQ(call("bdev_get_bdevs", R"({"name": "piece"})")[0]["num_blocks"], 8192);
  call("bdev_malloc_delete", R"({"name": "Malloc0"})");
  EXPECT_EQ(call("bdev_get_bdevs").size(), 3u);
}

TEST_F(DaemonTest, OpensFiles) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("basalt-daemon-" + std::to_string(::getpid()) + " 100%?");
  std::ofstream(path) << std::string(1 << 20, '\0');
  Json params = {{"name", "f"}, {"filename", path.string()}, {"block_size", 4096}};
  call("bdev_aio_create", params.dump());
  EXPECT_EQ(call("bdev_get_bdevs")[0]["num_blocks"], 256);
  params["name"] = "g";
  EXPECT_NE(refusal("bdev_uring_create", params.dump()), "") << "one owner";
  call("bdev_aio_delete", R"({"name": "f"})");
  params["readonly"] = true;
  params.erase("block_size");
  call("bdev_aio_create", params.dump());
  EXPECT_EQ(call("bdev_get_bdevs")[0]["supported_io_types"]["write"], false);
  std::filesystem::remove(path);
}

TEST_F(DaemonTest, ExportsAndCounts) {
  const std::string port = export_disk();
  {
    RawHost host({"127.0.0.1", port}), io({"127.0.0.1", port});
    io.become_io(kNqn, host.become_admin(kNqn));
    nvme::Command write;
    write.opcode = static_cast<uint8_t>(nvme::IoOpcode::write);
    write.nsid = 1;
    EXPECT_TRUE(io.run(write, std::vector<std::byte>(512, std::byte{1})).status().ok());
    const Json controllers =
        call("nvmf_subsystem_get_controllers", R"({"nqn": "nqn.2014-08.org.example:disk"})");
    ASSERT_EQ(controllers.size(), 1u);
    EXPECT_EQ(controllers[0]["hostnqn"], "nqn.2014-08.org.example:host");
    EXPECT_EQ(controllers[0]["num_io_qpairs"], 1);
    const Json stats = call("nvmf_get_stats")["poll_groups"][0];
    EXPECT_EQ(stats["current_admin_qpairs"], 1);
    EXPECT_EQ(stats["current_io_qpairs"], 1);
    EXPECT_EQ(call("bdev_get_bdevs")[0]["claimed"], true);
  }
  const Json counts = call("bdev_get_iostat", R"({"names": ["Malloc0"]})")["bdevs"][0];
  EXPECT_EQ(counts["num_write_ops"], 1);
  EXPECT_EQ(counts["bytes_written"], 512);
  EXPECT_EQ(call("framework_get_reactors")["reactors"].size(), 1u);
}

// Goal: what is deleted goes from under its hosts, who are told.
TEST_F(DaemonTest, DeletesADeviceThatIsExported) {
  const std::string port = export_disk();
  RawHost host({"127.0.0.1", port}), io({"127.0.0.1", port});
  io.become_io(kNqn, host.become_admin(kNqn));
  call("bdev_malloc_delete", R"({"name": "Malloc0"})");
  EXPECT_TRUE(call("bdev_get_bdevs").empty());
  nvme::Command flush;
  flush.nsid = 1;
  EXPECT_TRUE(io.run(flush).status().is(nvme::kInvalidNamespace)) << log_.text();
  call(
      "nvmf_subsystem_remove_listener",
      R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": ")" +
          port + "\"}}");
  call("nvmf_delete_subsystem", R"({"nqn": "nqn.2014-08.org.example:disk"})");
  EXPECT_TRUE(host.is_closed());
}

TEST_F(DaemonTest, ItsConfigurationMakesItAgain) {
  export_disk();
  call("bdev_null_create", R"({"name": "n", "num_blocks": 2048, "block_size": 512})");
  call(
      "nvmf_subsystem_add_ns",
      R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "n", "no_auto_visible": true}})");
  call(
      "nvmf_ns_add_host",
      R"({"nqn": "nqn.2014-08.org.example:disk", "nsid": 2, "host": "nqn.2014-08.org.example:host"})");
  call(
      "nvmf_discovery_add_referral",
      R"({"address": {"trtype": "TCP", "traddr": "192.0.2.7", "trsvcid": "8009"}, "secure_channel": true})");
  call(
      "nvmf_create_subsystem",
      R"({"nqn": "nqn.2014-08.org.example:other", "serial_number": "S", "max_namespaces": 5, "max_cntlid": 9})");
  call("nvmf_subsystem_add_host",
       R"({"nqn": "nqn.2014-08.org.example:other", "host": "nqn.2014-08.org.example:host"})");
  const Json config = call("save_config");
  start();
  const Status made = daemon_->configure(config);
  ASSERT_TRUE(made.ok()) << made.to_string();
  EXPECT_EQ(call("save_config"), config);
  // Names are taken now: the first call fails, and says which it was.
  const Status again = daemon_->configure(config);
  EXPECT_EQ(again.code(), StatusCode::already_exists);
  EXPECT_NE(again.message().find("bdev_malloc_create"), std::string_view::npos);
  for (const char* wrong :
       {"5", "{}", R"({"subsystems": [5]})", R"({"subsystems": [{"config": 5}]})",
        R"({"subsystems": [{"config": [{"params": {}}]}]})"}) {
    EXPECT_EQ(daemon_->configure(Json::parse(wrong)).code(), StatusCode::invalid_argument) << wrong;
  }
}

TEST_F(DaemonTest, RefusesInSentences) {
  EXPECT_EQ(refusal("bdev_malloc_create", R"({"num_blocks": 64})"),
            "parameter block_size: is missing");
  EXPECT_NE(refusal("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 520})"), "");
  EXPECT_NE(refusal("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 512, "md_size": 8})")
                .find("not supported"),
            std::string::npos);
  EXPECT_NE(refusal("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 512, "uuid": "x"})")
                .find("ceccf520"),
            std::string::npos);
  EXPECT_EQ(refusal("bdev_get_bdevs", R"({"name": "x"})"), "no bdev x; there are: none");
  call("bdev_malloc_create", R"({"num_blocks": 64, "block_size": 512})");
  EXPECT_EQ(refusal("bdev_null_delete", R"({"name": "Malloc0"})"),
            "Malloc0 is a Malloc disk, made by bdev_malloc_create");
  EXPECT_EQ(refusal("nvmf_create_transport", R"({"trtype": "RDMA"})"), "trtype RDMA: there is TCP");
  call("nvmf_create_subsystem", R"({"nqn": "nqn.2014-08.org.example:disk"})");
  const std::string listener =
      R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"}})";
  EXPECT_NE(refusal("nvmf_subsystem_add_listener", listener).find("nvmf_create_transport"),
            std::string::npos);
  call("nvmf_create_transport", R"({"trtype": "TCP"})");
  EXPECT_EQ(refusal("nvmf_create_transport", R"({"trtype": "TCP"})"),
            "the TCP transport was created already");
  EXPECT_NE(
      refusal(
          "nvmf_subsystem_add_listener",
          R"({"nqn": "nqn.2014-08.org.example:disk", "listen_address": {"traddr": "::1", "adrfam": "IPv4"}})")
          .find("no such address"),
      std::string::npos);
  EXPECT_NE(refusal("nvmf_subsystem_add_ns",
                    R"({"nqn": "nqn.2014-08.org.example:disk", "namespace": {"bdev_name": "x"}})"),
            "");
  EXPECT_NE(refusal("nvmf_delete_subsystem", R"({"nqn": "nqn.2014-08.org.nvmexpress.discovery"})"),
            "");
  EXPECT_EQ(refusal("bdev_get_bdev"), "no method bdev_get_bdev; rpc_get_methods lists them");
}

TEST(Uuid, IsReadAndWritten) {
  const auto uuid = parse_uuid("ceccf520-691e-4b46-9546-34AF789907c5");
  ASSERT_TRUE(uuid);
  EXPECT_EQ(format_uuid(*uuid), "ceccf520-691e-4b46-9546-34af789907c5");
  for (const char* wrong :
       {"", "ceccf520691e4b46954634af789907c5", "ceccf520-691e-4b46-9546-34af789907c",
        "ceccf520-691e-4b46-9546-34af789907cg", "ceccf5206-91e-4b46-9546-34af789907c5"}) {
    EXPECT_FALSE(parse_uuid(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace basalt
