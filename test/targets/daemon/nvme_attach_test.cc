// Daemon: controllers attached by calls, over TCP and behind a vfio-user socket; their bdevs; detached, saved, refused.
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "nvme/commands.h"
#include "nvme/served_controller.h"
#include "nvme/tcp_target.h"
#include "test/targets/daemon/daemon_fixture.h"
#include "test/targets/nvmf/raw_host.h"

namespace basalt {
namespace {

using nvme::ServedController;
using nvme::TcpTarget;
using nvme::model::ModelOptions;
using rpc::Json;

class AttachTest : public DaemonFixture {
 protected:
  AttachTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~AttachTest() override {
    daemon_.reset();
    std::filesystem::remove_all(directory_);
  }
  static Json of_target(const TcpTarget& target, const char* name = "Nvme0") {
    const std::string address = target.address();
    const size_t colon = address.rfind(':');
    return {{"name", name},
            {"trtype", "tcp"},
            {"traddr", address.substr(0, colon)},
            {"adrfam", "ipv4"},
            {"trsvcid", address.substr(colon + 1)},
            {"subnqn", nvme::TcpTargetOptions{}.nqn}};
  }
  std::string directory_;
};

ModelOptions two_namespaces() {
  ModelOptions options;
  options.namespaces = {{.block_count = 4096, .block_size = 512},
                        {.block_count = 1024, .block_size = 4096}};
  return options;
}

// Goal: each namespace is a bdev; detaching takes them, and what uses them, and lets the controller go.
TEST_F(AttachTest, MakesABdevOfEachNamespace) {
  const ServedController controller(directory_, two_namespaces());
  const Json params = {{"name", "Nvme0"}, {"trtype", "VFIOUSER"}, {"traddr", controller.path}};
  EXPECT_EQ(call("bdev_nvme_attach_controller", params), Json::array({"Nvme0n1", "Nvme0n2"}));
  const Json second = call("bdev_get_bdevs", {{"name", "Nvme0n2"}})[0];
  EXPECT_EQ(second["product_name"], "NVMe disk");
  EXPECT_EQ(second["block_size"], 4096);
  EXPECT_EQ(second["num_blocks"], 1024);
  EXPECT_EQ(second["driver_specific"]["controller_name"], "Nvme0");
  const Json known = call("bdev_nvme_get_controllers");
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known[0]["name"], "Nvme0");
  EXPECT_EQ(known[0]["ctrlrs"][0]["state"], "enabled");
  EXPECT_EQ(known[0]["ctrlrs"][0]["trid"]["trtype"], "VFIOUSER");
  EXPECT_EQ(call("bdev_nvme_get_controllers", {{"name", "Nvme0"}}), known);

  call("bdev_error_create", {{"base_name", "Nvme0n1"}});
  call("nvmf_create_subsystem", {{"nqn", "nqn.2014-08.org.example:out"}});
  call("nvmf_subsystem_add_ns",
       {{"nqn", "nqn.2014-08.org.example:out"}, {"namespace", {{"bdev_name", "EE_Nvme0n1"}}}});
  EXPECT_EQ(call("bdev_nvme_detach_controller", {{"name", "Nvme0"}}), true);
  EXPECT_EQ(bdevs(), "");
  EXPECT_TRUE(call("bdev_nvme_get_controllers").empty());
  EXPECT_TRUE(call("nvmf_get_subsystems", {{"nqn", "nqn.2014-08.org.example:out"}})[0]["namespaces"]
                  .empty());
  EXPECT_EQ(call("bdev_nvme_attach_controller", params).size(), 2u) << "it was let go";
}

TEST_F(AttachTest, FindsTheSocketInItsDirectory) {
  const ServedController controller(directory_, two_namespaces());
  std::filesystem::create_symlink(controller.path, directory_ + "/cntrl");
  EXPECT_EQ(call("bdev_nvme_attach_controller",
                 {{"name", "Nvme0"}, {"trtype", "vfiouser"}, {"traddr", directory_}})
                .size(),
            2u);
}

// Goal: a controller without namespaces is attached and detached like others.
TEST_F(AttachTest, TakesAControllerWithoutNamespaces) {
  ModelOptions options;
  options.namespaces = {};
  const ServedController controller(directory_, options);
  EXPECT_EQ(call("bdev_nvme_attach_controller",
                 {{"name", "Empty"}, {"trtype", "VFIOUSER"}, {"traddr", controller.path}}),
            Json::array());
  EXPECT_EQ(call("bdev_nvme_get_controllers").size(), 1u);
  call("bdev_nvme_detach_controller", {{"name", "Empty"}});
}

// Goal: over TCP, with digests and a host's name; attached again from what is saved, before what stands on its bdevs.
TEST_F(AttachTest, IsSaved) {
  const TcpTarget target({.only_host = "nqn.2014-08.org.example:me"});
  Json params = of_target(target);
  EXPECT_NE(refusal("bdev_nvme_attach_controller", params), "") << "another host";
  params["hostnqn"] = "nqn.2014-08.org.example:me";
  params["hdgst"] = true;
  params["ddgst"] = true;
  params["ctrlr_loss_timeout_sec"] = 5;
  EXPECT_EQ(call("bdev_nvme_attach_controller", params), Json::array({"Nvme0n1"}));
  const std::string uri =
      call("bdev_get_bdevs", {{"name", "Nvme0n1"}})[0]["driver_specific"]["uri"];
  for (const char* part : {"header_digest", "data_digest", "reconnect=5", ":me"}) {
    EXPECT_NE(uri.find(part), std::string::npos) << uri;
  }
  const Json known = call("bdev_nvme_get_controllers")[0]["ctrlrs"][0];
  EXPECT_EQ(known["cntlid"], 7);
  EXPECT_EQ(known["host"]["nqn"], "nqn.2014-08.org.example:me");
  EXPECT_EQ(known["trid"]["subnqn"], nvme::TcpTargetOptions{}.nqn);
  call("bdev_error_create", {{"base_name", "Nvme0n1"}});
  const Json config = call("save_config");
  start();
  const Status made = daemon_->configure(config);
  ASSERT_TRUE(made.ok()) << made.to_string();
  EXPECT_EQ(call("save_config"), config);
  EXPECT_EQ(bdevs(), "Nvme0n1 EE_Nvme0n1");
}

// Goal: secrets come from the keyring, by name.
TEST_F(AttachTest, TakesKeysOfTheKeyring) {
  const std::string path = directory_ + "/key";
  std::ofstream(path) << "not a key\n";
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  call("keyring_file_add_key", {{"name", "k"}, {"path", path}});
  const TcpTarget target{{}};
  Json params = of_target(target);
  params["dhchap_key"] = "nobody";
  EXPECT_EQ(refusal("bdev_nvme_attach_controller", params),
            "no key nobody; keyring_file_add_key adds one");
  for (const auto& [parameter, key] : {std::pair("dhchap_key", "dhchap_secret_file"),
                                       std::pair("dhchap_ctrlr_key", "dhchap_ctrl_secret_file"),
                                       std::pair("psk", "tls_key_file")}) {
    params = of_target(target);
    params[parameter] = "k";
    EXPECT_NE(refusal("bdev_nvme_attach_controller", params).find(key), std::string::npos);
  }
  EXPECT_TRUE(call("bdev_nvme_get_controllers").empty());
}

// With a target that is sought for a day, and a host that waits for an answer from it.
class LostTargetTest : public AttachTest {
 protected:
  LostTargetTest() {
    Json params = of_target(target_);
    params["ctrlr_loss_timeout_sec"] = 86400;
    call("bdev_nvme_attach_controller", params);
    call("nvmf_create_transport", {{"trtype", "TCP"}});
    call("nvmf_create_subsystem", {{"nqn", kNqn}, {"allow_any_host", true}});
    call("nvmf_subsystem_add_ns", {{"nqn", kNqn}, {"namespace", {{"bdev_name", "Nvme0n1"}}}});
    call("nvmf_subsystem_add_listener",
         {{"nqn", kNqn}, {"listen_address", {{"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
    const nvmf::ListenAddress address{"127.0.0.1", call("nvmf_subsystem_get_listeners",
                                                        {{"nqn", kNqn}})[0]["address"]["trsvcid"]};
    host_.emplace(address);
    io_.emplace(address);
    io_->become_io(kNqn, host_->become_admin(kNqn));
    EXPECT_TRUE(io_->run(kRead, {}, 4096).status().ok());
  }
  void lose() {
    target_.stop();
    io_->submit(kRead, {}, 4096);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while ((state() != "resetting" || outstanding() == 0) &&
           std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ASSERT_EQ(state(), "resetting");
    ASSERT_EQ(outstanding(), 1u);
  }
  std::string state() { return call("bdev_nvme_get_controllers")[0]["ctrlrs"][0]["state"]; }
  uint64_t outstanding() { return call("bdev_get_iostat")["bdevs"][0]["queue_depth"]; }

  static constexpr const char* kNqn = "nqn.2014-08.org.example:out";
  const nvme::Command kRead = nvme::read_command(1, 0, 1);
  TcpTarget target_;
  std::optional<RawHost> host_, io_;
};

TEST_F(LostTargetTest, IsDetached) {
  lose();
  EXPECT_EQ(call("bdev_nvme_detach_controller", {{"name", "Nvme0"}}), true);
  EXPECT_EQ(bdevs(), "");
  EXPECT_TRUE(call("nvmf_get_subsystems", {{"nqn", kNqn}})[0]["namespaces"].empty());
  EXPECT_FALSE(io_->answer().status().ok());
}

TEST_F(LostTargetTest, DoesNotKeepTheDaemonFromEnding) {
  lose();
  daemon_.reset();
  EXPECT_NE(log_.text().find("given up"), std::string::npos) << log_.text();
}

TEST_F(AttachTest, RefusesInSentences) {
  const TcpTarget target{{}};
  const Json params = of_target(target);
  call("bdev_nvme_attach_controller", params);
  EXPECT_NE(refusal("bdev_nvme_attach_controller", params).find("multipath="), std::string::npos);
  EXPECT_NE(refusal("bdev_nvme_attach_controller", of_target(target, "Other"))
                .find("is open in this process for writing"),
            std::string::npos);
  EXPECT_EQ(call("bdev_nvme_get_controllers").size(), 1u) << "what cannot be used is not kept";
  EXPECT_NE(refusal("bdev_nvme_attach_controller",
                    {{"name", "x"}, {"trtype", "RDMA"}, {"traddr", "10.0.0.1"}})
                .find("there are TCP, PCIe and VFIOUSER"),
            std::string::npos);
  EXPECT_NE(refusal("bdev_nvme_attach_controller",
                    {{"name", "x"}, {"trtype", "PCIe"}, {"traddr", "0000:00:1f.7"}, {"psk", "k"}})
                .find("there is no parameter psk"),
            std::string::npos);
  EXPECT_NE(refusal("bdev_nvme_attach_controller",
                    {{"name", "x"}, {"trtype", "PCIe"}, {"traddr", "0000:00:1f.7"}})
                .find("0000:00:1f.7"),
            std::string::npos);
  Json wrong = params;
  wrong["name"] = "x";
  wrong["adrfam"] = "IPv6";
  EXPECT_NE(refusal("bdev_nvme_attach_controller", wrong).find("no such address"),
            std::string::npos);
  wrong["adrfam"] = "IPv4";
  wrong["num_io_queues"] = 4;
  EXPECT_NE(refusal("bdev_nvme_attach_controller", wrong).find("num_io_queues"), std::string::npos);
  EXPECT_EQ(refusal("bdev_nvme_detach_controller", {{"name", "x"}}), "no controller x");
  EXPECT_NE(refusal("bdev_nvme_detach_controller", {{"name", "Nvme0"}, {"traddr", "10.0.0.9"}}),
            "");
  EXPECT_EQ(call("bdev_nvme_detach_controller",
                 {{"name", "Nvme0"}, {"trtype", "TCP"}, {"traddr", params["traddr"]}}),
            true);
}

}  // namespace
}  // namespace basalt
