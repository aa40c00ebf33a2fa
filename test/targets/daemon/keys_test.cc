// Keys of the keyring: hosts that authenticate themselves and come through TLS by them, as calls say; kept by their files'
// names; refused in sentences that do not repeat them.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "bdev/nvme/nvme_device.h"
#include "targets/daemon/daemon.h"
#include "test/nvme/kept_log.h"

namespace basalt {
namespace {

using rpc::Json;

constexpr const char* kSubsystem = "nqn.2014-08.org.example:disk";
constexpr const char* kHost = "nqn.2014-08.org.example:host";
constexpr const char* kTlsKey = "NVMeTLSkey-1:01:VRLbtnN9AQb2WXW3c9+wEf/DRLz0QuLdbYvEhwtdWwNf9LrZ:";
constexpr const char* kSecret = "DHHC-1:00:ICcuNTxDSlFYX2ZtdHuCiZCXnqWss7rByM/W3eTr8vmMpzdS:";

class DaemonKeys : public testing::Test {
 protected:
  DaemonKeys() {
    std::string pattern = (std::filesystem::temp_directory_path() / "basalt-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    start();
  }
  ~DaemonKeys() override { std::filesystem::remove_all(directory_); }
  void start() {
    daemon_.reset();
    auto made = Daemon::create({.cores = {}, .log = &log_});
    ASSERT_TRUE(made) << made.error().to_string();
    daemon_ = std::move(*made);
  }
  std::string file(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path) << text << "\n";
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  Json call(const std::string& method, const Json& params) {
    auto result = daemon_->call(method, params);
    EXPECT_TRUE(result) << method << ": " << result.error().to_string();
    return result ? *result : Json();
  }
  std::string refusal(const std::string& method, const Json& params) {
    const auto result = daemon_->call(method, params);
    EXPECT_FALSE(result) << method;
    return result ? "" : std::string(result.error().message());
  }
  std::string port() {
    return call("nvmf_subsystem_get_listeners", {{"nqn", kSubsystem}})[0]["address"]["trsvcid"];
  }
  // "" or why the exported disk cannot be opened.
  std::string open(const std::string& keys) {
    ContextOptions options;
    options.log = &log_;
    auto context = std::move(*Context::create(options));
    register_nvme_scheme(*context);
    const auto device = open_device(
        *context, "nvme:tcp:127.0.0.1:" + port() + "/" + kSubsystem + "/1?hostnqn=" + kHost + keys);
    return device ? "" : device.error().to_string();
  }

  nvme::KeptLog log_;
  std::string directory_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonKeys, LetHostsIn) {
  const std::string key = file("key", kTlsKey), secret = file("secret", kSecret);
  call("keyring_file_add_key", {{"name", "key"}, {"path", key}});
  call("keyring_file_add_key", {{"name", "secret"}, {"path", secret}});
  call("bdev_malloc_create", {{"name", "Malloc0"}, {"num_blocks", 2048}, {"block_size", 512}});
  call("nvmf_create_transport", {{"trtype", "TCP"}});
  call("nvmf_create_subsystem", {{"nqn", kSubsystem}});
  call("nvmf_subsystem_add_ns", {{"nqn", kSubsystem}, {"namespace", {{"bdev_name", "Malloc0"}}}});
  call("nvmf_subsystem_add_listener",
       {{"nqn", kSubsystem},
        {"listen_address", {{"trtype", "TCP"}, {"traddr", "127.0.0.1"}, {"trsvcid", "0"}}},
        {"secure_channel", true}});
  call("nvmf_subsystem_add_host",
       {{"nqn", kSubsystem}, {"host", kHost}, {"psk", "key"}, {"dhchap_key", "secret"}});
  const std::string right = "&tls_key_file=" + key + "&dhchap_secret_file=" + secret;
  EXPECT_EQ(open(right), "");
  EXPECT_NE(refusal("keyring_file_remove_key", {{"name", "secret"}}).find(kHost), std::string::npos)
      << "the host could not be let in again after a restart";
  EXPECT_NE(open("&tls_key_file=" + key), "");
  EXPECT_NE(open(""), "");

  // Its configuration has the files' names, and not what is in them.
  const Json config = call("save_config", nullptr);
  EXPECT_EQ(config.dump().find("VRLbtnN9"), std::string::npos);
  EXPECT_EQ(config.dump().find("ICcuNTxD"), std::string::npos);
  start();
  const Status made = daemon_->configure(config);
  ASSERT_TRUE(made.ok()) << made.to_string();
  EXPECT_EQ(call("save_config", nullptr), config);
  EXPECT_EQ(call("nvmf_subsystem_get_listeners", {{"nqn", kSubsystem}})[0]["secure_channel"], true);
  EXPECT_EQ(open(right), "");
  EXPECT_EQ(log_.text().find("VRLbtnN9"), std::string::npos);
}

TEST_F(DaemonKeys, AreRefusedInSentences) {
  call("nvmf_create_subsystem", {{"nqn", kSubsystem}});
  const auto add_host = [&](const char* parameter, const char* name) {
    return refusal("nvmf_subsystem_add_host",
                   {{"nqn", kSubsystem}, {"host", kHost}, {parameter, name}});
  };
  EXPECT_NE(refusal("keyring_file_add_key", {{"name", "k"}, {"path", file("open", kTlsKey, 0644)}})
                .find("chmod 600"),
            std::string::npos);
  EXPECT_NE(refusal("keyring_file_add_key", {{"name", "k"}, {"path", directory_ + "/none"}}), "");
  EXPECT_NE(add_host("psk", "k").find("keyring_file_add_key"), std::string::npos);
  call("keyring_file_add_key", {{"name", "secret"}, {"path", file("secret", kSecret)}});
  call("keyring_file_add_key", {{"name", "key"}, {"path", file("key", kTlsKey)}});
  EXPECT_NE(add_host("psk", "secret").find("begins with NVMeTLSkey-1:"), std::string::npos);
  EXPECT_NE(add_host("dhchap_key", "key").find("DHHC-1:"), std::string::npos);
  EXPECT_NE(add_host("dhchap_ctrlr_key", "secret").find("takes a dhchap_key"), std::string::npos);
  EXPECT_TRUE(call("nvmf_get_subsystems", {{"nqn", kSubsystem}})[0]["hosts"].empty());
}

}  // namespace
}  // namespace basalt
