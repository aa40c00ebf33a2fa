// Daemon: bdevs over bdevs, made slow or made to fail; who uses what; what is notified.
#include "test/targets/daemon/daemon_fixture.h"
#include "test/targets/nvmf/raw_host.h"

namespace basalt {
namespace {

using rpc::Json;

constexpr const char* kLayeredDisk = "nqn.2014-08.org.example:disk";

class DaemonLayersTest : public DaemonFixture {
 protected:
  void make_disk() {
    call("bdev_malloc_create", {{"name", "Malloc0"}, {"num_blocks", 2048}, {"block_size", 512}});
  }
  static Json delay(const char* name, const char* base) {
    return {{"name", name},           {"base_bdev_name", base},  {"avg_read_latency", 10},
            {"p99_read_latency", 20}, {"avg_write_latency", 30}, {"p99_write_latency", 40}};
  }
  // Makes it namespace 1 of kLayeredDisk; answers the port.
  std::string export_bdev(const std::string& name) {
    call("nvmf_create_transport", {{"trtype", "TCP"}});
    call("nvmf_create_subsystem", {{"nqn", kLayeredDisk}, {"allow_any_host", true}});
    call("nvmf_subsystem_add_ns", {{"nqn", kLayeredDisk}, {"namespace", {{"bdev_name", name}}}});
    call("nvmf_subsystem_add_listener",
         {{"nqn", kLayeredDisk}, {"listen_address", {{"traddr", "127.0.0.1"}, {"trsvcid", "0"}}}});
    return call("nvmf_subsystem_get_listeners", {{"nqn", kLayeredDisk}})[0]["address"]["trsvcid"];
  }
};

nvme::Command write_command() {
  nvme::Command write;
  write.opcode = static_cast<uint8_t>(nvme::IoOpcode::write);
  write.nsid = 1;
  return write;
}

// Goal: errors injected by a call reach the host of a namespace, so many and no more.
TEST_F(DaemonLayersTest, ErrorsAreInjected) {
  make_disk();
  EXPECT_EQ(call("bdev_error_create", {{"base_name", "Malloc0"}}), true);
  EXPECT_EQ(bdevs(), "Malloc0 EE_Malloc0");
  const std::string port = export_bdev("EE_Malloc0");
  RawHost host({"127.0.0.1", port}), io({"127.0.0.1", port});
  io.become_io(kLayeredDisk, host.become_admin(kLayeredDisk));
  const std::vector<std::byte> data(512);
  EXPECT_TRUE(io.run(write_command(), data).status().ok());
  call("bdev_error_inject_error",
       {{"name", "EE_Malloc0"}, {"io_type", "write"}, {"error_type", "failure"}, {"num", 2}});
  EXPECT_FALSE(io.run(write_command(), data).status().ok());
  EXPECT_FALSE(io.run(write_command(), data).status().ok());
  EXPECT_TRUE(io.run(write_command(), data).status().ok());
  call("bdev_error_inject_error", {{"name", "EE_Malloc0"}, {"io_type", "all"}, {"num", 5}});
  call("bdev_error_inject_error", {{"name", "EE_Malloc0"}, {"io_type", "clear"}});
  EXPECT_TRUE(io.run(write_command(), data).status().ok());
}

// Goal: latencies given and changed by calls are those a host sees.
TEST_F(DaemonLayersTest, LatenciesAreChanged) {
  make_disk();
  EXPECT_EQ(call("bdev_delay_create", delay("Slow", "Malloc0")), "Slow");
  const std::string port = export_bdev("Slow");
  RawHost host({"127.0.0.1", port}), io({"127.0.0.1", port});
  io.become_io(kLayeredDisk, host.become_admin(kLayeredDisk));
  const auto write_takes = [&] {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_TRUE(io.run(write_command(), std::vector<std::byte>(512)).status().ok());
    return std::chrono::steady_clock::now() - begin;
  };
  for (const char* type : {"avg_write", "p99_write"}) {
    call("bdev_delay_update_latency",
         {{"delay_bdev_name", "Slow"}, {"latency_type", type}, {"latency_us", 150'000}});
  }
  EXPECT_GE(write_takes(), std::chrono::milliseconds(150));
  for (const char* type : {"avg_write", "p99_write"}) {
    call("bdev_delay_update_latency",
         {{"delay_bdev_name", "Slow"}, {"latency_type", type}, {"latency_us", 0}});
  }
  EXPECT_LT(write_takes(), std::chrono::milliseconds(150));
}

// Goal: a device has one user of a kind: a layer, or an export; who has it is named.
TEST_F(DaemonLayersTest, TheBaseIsInUse) {
  make_disk();
  call("bdev_delay_create", delay("Slow", "Malloc0"));
  EXPECT_EQ(call("bdev_get_bdevs", {{"name", "Malloc0"}})[0]["claimed"], true);
  EXPECT_EQ(call("bdev_get_bdevs", {{"name", "Slow"}})[0]["claimed"], false);
  EXPECT_EQ(call("bdev_get_bdevs", {{"name", "Slow"}})[0]["driver_specific"]["base_bdev_name"],
            "Malloc0");
  EXPECT_NE(refusal("bdev_error_create", {{"base_name", "Malloc0"}}).find("delay:("),
            std::string::npos);
  call("nvmf_create_subsystem", {{"nqn", kLayeredDisk}});
  const Json wrong = {{"nqn", kLayeredDisk}, {"namespace", {{"bdev_name", "Malloc0"}}}};
  EXPECT_NE(refusal("nvmf_subsystem_add_ns", wrong).find("holds it as exclusive writer"),
            std::string::npos);
  call("nvmf_subsystem_add_ns", {{"nqn", kLayeredDisk}, {"namespace", {{"bdev_name", "Slow"}}}});
  EXPECT_NE(refusal("bdev_error_create", {{"base_name", "Slow"}}).find("NVMe-oF subsystem"),
            std::string::npos)
      << "an export keeps layers away too";
  EXPECT_EQ(bdevs(), "Malloc0 Slow");
}

// Goal: what stands on a bdev goes before it, with its namespaces, as SPDK does it; and the order is notified.
TEST_F(DaemonLayersTest, LayersGoBeforeTheirBase) {
  make_disk();
  call("bdev_error_create", {{"base_name", "Malloc0"}});
  call("bdev_delay_create", delay("Slow", "EE_Malloc0"));
  call("nvmf_create_subsystem", {{"nqn", kLayeredDisk}});
  call("nvmf_subsystem_add_ns", {{"nqn", kLayeredDisk}, {"namespace", {{"bdev_name", "Slow"}}}});
  call("bdev_malloc_delete", {{"name", "Malloc0"}});
  EXPECT_EQ(bdevs(), "");
  call("nvmf_delete_subsystem", {{"nqn", kLayeredDisk}});
  std::string events;
  for (const Json& event : call("notify_get_notifications")) {
    EXPECT_EQ(event["id"], static_cast<uint64_t>(std::count(events.begin(), events.end(), '\n')));
    events += event["type"].get<std::string>() + " " + event["ctx"].get<std::string>() + "\n";
  }
  const std::string nqn(kLayeredDisk);
  EXPECT_EQ(events,
            "bdev_register Malloc0\nbdev_register EE_Malloc0\nbdev_register Slow\n"
            "nvmf_subsystem_create " +
                nqn + "\nnvmf_subsystem_add_ns " + nqn +
                "/1\n"
                "nvmf_subsystem_remove_ns " +
                nqn +
                "/1\nbdev_unregister Slow\n"
                "bdev_unregister EE_Malloc0\nbdev_unregister Malloc0\n"
                "nvmf_subsystem_delete " +
                nqn + "\n");
  // The names are free again.
  make_disk();
  call("bdev_error_create", {{"base_name", "Malloc0"}});
}

TEST_F(DaemonLayersTest, NotificationsAreNumberedAndBounded) {
  EXPECT_EQ(call("notify_get_types")[0], "bdev_register");
  EXPECT_TRUE(call("notify_get_notifications").empty());
  for (size_t i = 0; i < Notifications::kMaxKept; ++i) {
    make_disk();
    call("bdev_malloc_delete", {{"name", "Malloc0"}});
  }
  const Json all = call("notify_get_notifications");
  ASSERT_EQ(all.size(), Notifications::kMaxKept);
  EXPECT_EQ(all[0]["id"], Notifications::kMaxKept) << "the older half is gone";
  const Json few = call("notify_get_notifications", {{"id", 2000}, {"max", 3}});
  ASSERT_EQ(few.size(), 3u);
  EXPECT_EQ(few[0]["id"], 2000);
  EXPECT_EQ(few[0]["type"], "bdev_register");
  EXPECT_TRUE(call("notify_get_notifications", {{"id", 2048}}).empty());
  EXPECT_TRUE(call("notify_get_notifications", {{"max", 0}}).empty());
}

// Goal: what is saved makes the layers again, with the latencies as they were changed; a namespace's identifiers stay.
TEST_F(DaemonLayersTest, AreSaved) {
  make_disk();
  call("bdev_delay_create", delay("Slow", "Malloc0"));
  call("bdev_error_create",
       {{"base_name", "Slow"}, {"uuid", "ceccf520-691e-4b46-9546-34af789907c5"}});
  call("nvmf_create_subsystem", {{"nqn", kLayeredDisk}});
  call("nvmf_subsystem_add_ns", {{"nqn", kLayeredDisk}, {"namespace", {{"bdev_name", "EE_Slow"}}}});
  const Json before = call("nvmf_get_subsystems", {{"nqn", kLayeredDisk}});
  call("bdev_delay_update_latency",
       {{"delay_bdev_name", "Slow"}, {"latency_type", "avg_read"}, {"latency_us", 77}});
  const Json config = call("save_config");
  EXPECT_NE(config.dump().find("\"avg_read_latency\":77"), std::string::npos) << config.dump(2);
  start();
  const Status made = daemon_->configure(config);
  ASSERT_TRUE(made.ok()) << made.to_string();
  EXPECT_EQ(call("save_config"), config);
  EXPECT_EQ(call("nvmf_get_subsystems", {{"nqn", kLayeredDisk}}), before);
}

TEST_F(DaemonLayersTest, RefusesInSentences) {
  make_disk();
  EXPECT_EQ(refusal("bdev_delay_create", delay("Slow", "x")), "no bdev x; there are: Malloc0");
  EXPECT_EQ(refusal("bdev_delay_create", delay("Malloc0", "Malloc0")),
            "there is a bdev Malloc0 already");
  Json wrong = delay("Slow", "Malloc0");
  wrong["avg_read_latency"] = 60'000'001;
  EXPECT_EQ(refusal("bdev_delay_create", wrong),
            "parameter avg_read_latency: must be a whole number from 0 to 60000000");
  wrong.erase("avg_read_latency");
  EXPECT_EQ(refusal("bdev_delay_create", wrong), "parameter avg_read_latency: is missing");
  EXPECT_EQ(bdevs(), "Malloc0");
  call("bdev_error_create", {{"base_name", "Malloc0"}});
  EXPECT_NE(refusal("bdev_error_inject_error",
                    {{"name", "EE_Malloc0"}, {"io_type", "read"}, {"error_type", "pending"}})
                .find("there is failure"),
            std::string::npos);
  EXPECT_NE(refusal("bdev_error_inject_error", {{"name", "EE_Malloc0"}, {"io_type", "abort"}})
                .find("there are read, write, unmap"),
            std::string::npos);
  EXPECT_EQ(refusal("bdev_error_inject_error", {{"name", "Malloc0"}, {"io_type", "read"}}),
            "Malloc0 is a Malloc disk, made by bdev_malloc_create");
  EXPECT_NE(
      refusal("bdev_delay_update_latency",
              {{"delay_bdev_name", "EE_Malloc0"}, {"latency_type", "avg_read"}, {"latency_us", 1}}),
      "");
  EXPECT_NE(refusal("bdev_delay_delete", {{"name", "EE_Malloc0"}}), "");
  call("bdev_error_delete", {{"name", "EE_Malloc0"}});
  call("bdev_delay_create", delay("Slow", "Malloc0"));
  EXPECT_NE(refusal("bdev_delay_update_latency",
                    {{"delay_bdev_name", "Slow"}, {"latency_type", "avg"}, {"latency_us", 1}})
                .find("avg_read, p99_read"),
            std::string::npos);
  call("bdev_delay_delete", {{"name", "Slow"}});
  EXPECT_EQ(bdevs(), "Malloc0");
}

}  // namespace
}  // namespace basalt
